"""DANE, alone and with MTA-STS. RFC 7672 sections 2 and 3, RFC 7671 section 9 (digest agility)."""

from __future__ import annotations

from dataclasses import replace

from relay.lab.catalogue_sts import ANY, ENFORCE, NO_TLS, NOT_LISTED, OTHER, REFUSED, TEST_FAILED, TESTING, TOO_OLD
from relay.lab.catalogue_tls import ENCRYPTED, GARBAGE, OLD_TLS, SECOND, STARTTLS_454, VERIFIED
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Host, Of, Scenario, Sts, Tlsa, delivered
from relay.lab.zones import Fault, Security

SIGNED, UNSIGNED, BOGUS = Security.SIGNED, Security.UNSIGNED, Security.BOGUS
MINE = Tlsa(3, 1, 1)
OTHERS = Tlsa(3, 1, 1, key=9)  # of a key that no host has
PKIX = Tlsa(1, 1, 1)  # RFC 7672 section 3.1.3: usages 0 and 1 are not usable for SMTP
TLSA_AT_MX = ("_{port}._tcp.mx", "TLSA")

MATCHING = Host(leaf=Leaf.SELF_SIGNED, tlsa=(MINE,))
MISMATCHED = Host(tlsa=(OTHERS,))
ISSUER = Tlsa(2, 1, 1, Of.ISSUER)
_ROOT = Tlsa(2, 0, 1, Of.ROOT)


def _dane(name: str, publishes: str, expected: Expected, *hosts: Host, sts: Sts | None = None) -> Scenario:
    """In a signed zone."""
    return Scenario(f"dane-{name}", publishes, expected, hosts, sts, SIGNED)


def _records(name: str, publishes: str, expected: Expected, *tlsa: Tlsa) -> Scenario:
    """A self-signed host with these records, in a signed zone."""
    return _dane(name, publishes, expected, Host(leaf=Leaf.SELF_SIGNED, tlsa=tlsa))


def _authority(
    name: str, publishes: str, expected: Expected, tlsa: Tlsa, leaf: Leaf = Leaf.GOOD, *names: str
) -> Scenario:
    """A host with such a chain and this record, in a signed zone."""
    return _dane(name, publishes, expected, Host(leaf=leaf, names=names, tlsa=(tlsa,)))


def _lookup(name: str, publishes: str, expected: Expected, fault: Fault, *hosts: Host) -> Scenario:
    """A fault in the lookup of the TLSA records of the first host, in a signed zone."""
    return Scenario(
        f"dane-{name}", f"TLSA: {publishes}", expected, hosts or (MATCHING,), None, SIGNED, faults={TLSA_AT_MX: fault}
    )


_OWN_CERTIFICATE = (
    _records("good", "TLSA 3 1 1; self-signed", VERIFIED, MINE),
    _records("3-0-0", "TLSA 3 0 0", VERIFIED, Tlsa(3, 0, 0)),
    _records("3-0-1", "TLSA 3 0 1", VERIFIED, Tlsa(3, 0, 1)),
    _records("3-1-2", "TLSA 3 1 2", VERIFIED, Tlsa(3, 1, 2)),
    _dane("expired", "TLSA 3 1 1; expired", VERIFIED, Host(leaf=Leaf.EXPIRED, tlsa=(MINE,))),
    _dane("wrong-name", "TLSA 3 1 1; of another host", VERIFIED, Host(names=("other.test",), tlsa=(MINE,))),
    _dane("mismatch", "TLSA 3 1 1 of another key", REFUSED, MISMATCHED),
    _records("two-records", "TLSA 3 1 1 of two keys, one of them right", VERIFIED, OTHERS, MINE),
    _records("stronger-right", "TLSA 3 1 1 wrong, 3 1 2 right", VERIFIED, OTHERS, Tlsa(3, 1, 2)),
    _records("stronger-wrong", "TLSA 3 1 1 right, 3 1 2 wrong", REFUSED, MINE, Tlsa(3, 1, 2, key=9)),
)

_AUTHORITIES = (
    _authority("2-1-1", "TLSA 2 1 1 of the intermediate", VERIFIED, ISSUER),
    _authority("2-0-0", "TLSA 2 0 0: the root, not sent", VERIFIED, Tlsa(2, 0, 0, Of.ROOT)),
    _authority("2-0-0-issuer", "TLSA 2 0 0: the intermediate, not sent", VERIFIED, Tlsa(2, 0, 0, Of.ISSUER),
               Leaf.MISSING_INTERMEDIATE),
    _authority("2-root-sent", "TLSA 2 0 1 of the root, sent along", VERIFIED, _ROOT, Leaf.ROOT_INCLUDED),
    _authority("2-root-not-sent", "TLSA 2 0 1 of the root, not sent", REFUSED, _ROOT),
    _authority("2-expired", "TLSA 2 1 1; expired", REFUSED, ISSUER, Leaf.EXPIRED),
    _authority("2-wrong-name", "TLSA 2 1 1; of another host", REFUSED, ISSUER, Leaf.GOOD, "other.test"),
    _authority("2-domain", "TLSA 2 1 1; names the domain", VERIFIED, ISSUER, Leaf.GOOD, "{domain}"),
)  # fmt: skip

_UNUSABLE = (
    _records("unusable", "TLSA 1 1 1 only", ENCRYPTED, PKIX),
    _records("pkix-ta", "TLSA 0 1 1 only", ENCRYPTED, Tlsa(0, 1, 1)),
    _records("unknown-selector", "TLSA 3 2 1 only", ENCRYPTED, Tlsa(data="ab" * 32, selector=2)),
    _records("unknown-matching", "TLSA 3 1 3 only", ENCRYPTED, Tlsa(data="ab" * 32, matching_type=3)),
    _dane("unusable-no-starttls", "TLSA 1 1 1 only; no STARTTLS", NO_TLS, Host(leaf=None, tlsa=(PKIX,))),
    _dane("unusable-garbage", "TLSA 1 1 1 only; no TLS in the handshake", REFUSED, replace(GARBAGE, tlsa=(PKIX,))),
    _records("mixed-good", "TLSA 1 1 1 wrong, 3 1 1 right", VERIFIED, Tlsa(1, 1, 1, key=9), MINE),
    _records("mixed-bad", "TLSA 1 1 1 right, 3 1 1 wrong", REFUSED, PKIX, OTHERS),
)

_SESSIONS = (
    _dane("no-starttls", "TLSA 3 1 1; no STARTTLS", NO_TLS, Host(leaf=None, tlsa=(MINE,))),
    _dane("starttls-454", "TLSA 3 1 1; STARTTLS says 454", NO_TLS, replace(STARTTLS_454, tlsa=(MINE,))),
    _dane("old-tls", "TLSA 3 1 1; TLS 1.1", TOO_OLD, replace(OLD_TLS, tlsa=(MINE,))),
    _dane("second-good", "TLSA of two hosts, the first wrong", VERIFIED, MISMATCHED, replace(SECOND, tlsa=(MINE,))),
    _dane("second-without", "TLSA of another key; a host without TLSA", ENCRYPTED, MISMATCHED, SECOND),
)

_DNS = (
    _dane("none", "a signed zone without TLSA", ENCRYPTED, Host()),
    Scenario("dnssec-bogus", "a zone with wrong signatures", REFUSED, security=BOGUS),
    Scenario("dane-unsigned-zone", "TLSA in an unsigned zone", ENCRYPTED, (MISMATCHED,)),
    Scenario("dane-unsigned-mx", "unsigned MX, TLSA at its host", VERIFIED, (replace(MATCHING, zone=SIGNED),)),
    Scenario("dane-unsigned-mx-bad", "unsigned MX, TLSA of another key", REFUSED, (replace(MISMATCHED, zone=SIGNED),)),
    Scenario("dane-unsigned-mx-domain", "unsigned MX, TLSA 2 1 1; names the domain", REFUSED,
             (Host(zone=SIGNED, names=("{domain}",), tlsa=(ISSUER,)),)),
    _dane("unsigned-host", "signed MX, TLSA in an unsigned zone", ENCRYPTED, replace(MISMATCHED, zone=UNSIGNED)),
    _dane("bogus-host", "signed MX, host with wrong signatures", REFUSED, replace(MATCHING, zone=BOGUS)),
    _dane("bogus-host-second", "a host with wrong signatures, a good one", VERIFIED,
          replace(MATCHING, zone=BOGUS), replace(SECOND, tlsa=(MINE,))),
    _lookup("servfail", "SERVFAIL", REFUSED, Fault.SERVFAIL),
    _lookup("timeout", "no answer", REFUSED, Fault.TIMEOUT),
    _lookup("bogus", "wrong signature", REFUSED, Fault.BOGUS),
    _lookup("servfail-second", "SERVFAIL; a second host", VERIFIED, Fault.SERVFAIL,
            MATCHING, replace(SECOND, tlsa=(MINE,))),
    Scenario("dane-servfail-unsigned", "TLSA: SERVFAIL, unsigned", ENCRYPTED, faults={TLSA_AT_MX: Fault.SERVFAIL}),
)  # fmt: skip

_AT_DOMAIN = replace(MATCHING, label="@")
_NAMES = (
    _dane("domain", "MX is the domain; TLSA there", VERIFIED, _AT_DOMAIN),
    Scenario("dane-implicit-mx", "no MX; TLSA", VERIFIED, (_AT_DOMAIN,), None, SIGNED, mx_records=()),
    _dane("alias-target", "MX is an alias; TLSA at its target", VERIFIED, replace(MATCHING, alias="mail")),
    _dane("alias-original", "MX is an alias; TLSA there", VERIFIED,
          Host(leaf=Leaf.SELF_SIGNED, alias="mail", alias_tlsa=(MINE,))),
    _dane("alias-both", "MX is an alias; TLSA there right, at its target wrong", REFUSED,
          replace(MISMATCHED, alias="mail", alias_tlsa=(MINE,))),
    _dane("alias-leaves", "MX is an alias to an unsigned host; TLSA there", VERIFIED,
          Host(leaf=Leaf.SELF_SIGNED, zone=UNSIGNED, alias="mail", alias_tlsa=(MINE,))),
    _dane("alias-leaves-bad", "MX is an alias to an unsigned host; TLSA there wrong", REFUSED,
          Host(zone=UNSIGNED, alias="mail", alias_tlsa=(OTHERS,))),
    Scenario("dane-alias-unsigned", "unsigned alias to a signed host; TLSA of another key", ENCRYPTED,
             (replace(MISMATCHED, zone=SIGNED, alias="mail"),)),
)  # fmt: skip

_WITH_STS = (
    _dane("sts-both-good", "TLSA 3 1 1; STS enforce", VERIFIED, Host(tlsa=(MINE,)), sts=ENFORCE),
    _dane("mismatch-sts-good", "TLSA of another key; STS enforce", REFUSED, MISMATCHED, sts=ENFORCE),
    _dane("good-sts-bad", "TLSA 3 1 1; STS enforce; self-signed", REFUSED, MATCHING, sts=ENFORCE),
    _dane("good-sts-not-listed", "TLSA 3 1 1; STS enforce, mx: another", NOT_LISTED, MATCHING, sts=OTHER),
    _dane("good-sts-testing", "TLSA 3 1 1; STS testing; self-signed", delivered("verified", TEST_FAILED), MATCHING,
          sts=TESTING),
    _dane("unusable-sts-bad", "TLSA 1 1 1 only; STS enforce; self-signed", REFUSED,
          Host(leaf=Leaf.SELF_SIGNED, tlsa=(PKIX,)), sts=ENFORCE),
    _dane("sts-one-host-each", "TLSA wrong; STS wrong at another host; a good one", VERIFIED,
          MISMATCHED, Host("mx2", 20, Leaf.EXPIRED), Host("mx3", 30), sts=ANY),
)  # fmt: skip

SCENARIOS = _OWN_CERTIFICATE + _AUTHORITIES + _UNUSABLE + _SESSIONS + _DNS + _NAMES + _WITH_STS
