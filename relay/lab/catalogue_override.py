"""The operator's own word on a destination, beside what is published or in its place. docs/tls-policy.md, Overrides."""

from __future__ import annotations

import ssl
from dataclasses import replace

from relay.lab.catalogue_dane import MATCHING, MINE, MISMATCHED, PKIX, SIGNED, TLSA_AT_MX, UNSIGNED
from relay.lab.catalogue_sts import ENFORCE, NO_TLS, OTHER, REFUSED, TOO_OLD
from relay.lab.catalogue_tls import (
    CLEAR,
    ENCRYPTED,
    EXPIRED,
    GARBAGE,
    GOOD,
    NO_STARTTLS,
    OLD_TLS,
    SECOND,
    SELF_SIGNED,
    VERIFIED,
)
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Host, Override, Phase, Scenario, Sts, delivered, each, failed
from relay.lab.zones import Fault, Security
from relay.policy.override import OverrideLevel, OverrideMode

_L = OverrideLevel
_OVERRIDDEN, _ENDED = "policy-overridden", "override-ended"
_INSTEAD = {level: Override(level, OverrideMode.REPLACE) for level in OverrideLevel}
_BESIDE = {level: Override(level) for level in OverrideLevel}
_NAMED = replace(_BESIDE[_L.VERIFY], names=("other.{domain}", "gateway.partner.test"))
_GATEWAY = Host(names=("gateway.partner.test",))
_OF_KEY = replace(_BESIDE[_L.FINGERPRINT], fingerprints=("{key}",))
_OF_CERTIFICATE = replace(_BESIDE[_L.FINGERPRINT], fingerprints=(64 * "0", "{certificate}"))
_OF_ANOTHER = replace(_BESIDE[_L.FINGERPRINT], fingerprints=(64 * "0",))
_TLS_1_2 = Host(newest=ssl.TLSVersion.TLSv1_2)


def _under(
    override: Override,
    name: str,
    publishes: str,
    expected: Expected,
    *hosts: Host,
    sts: Sts | None = None,
    zone: Security = UNSIGNED,
) -> Scenario:
    return Scenario(f"override-{name}", publishes, expected, hosts, sts, zone, overrides=(override,))


def _overridden(tls: str) -> Expected:
    """Delivered, although what is published would have kept it back."""
    return delivered(tls, _OVERRIDDEN)


_LESS = (
    _under(_INSTEAD[_L.NONE], "none", "STS enforce; override: none instead", _overridden("none"), GOOD, sts=ENFORCE),
    _under(_INSTEAD[_L.NONE], "none-dane", "TLSA 3 1 1; override: none instead", _overridden("none"),
           MATCHING, zone=SIGNED),
    _under(_INSTEAD[_L.NONE], "none-nothing", "nothing; override: none instead", CLEAR, GOOD),
    _under(_INSTEAD[_L.OPPORTUNISTIC], "opportunistic", "STS enforce; expired; override: opportunistic instead",
           _overridden("encrypted"), EXPIRED, sts=ENFORCE),
    _under(_INSTEAD[_L.OPPORTUNISTIC], "opportunistic-clear",
           "STS enforce; no STARTTLS; override: opportunistic instead", _overridden("none"), NO_STARTTLS, sts=ENFORCE),
    _under(_INSTEAD[_L.OPPORTUNISTIC], "opportunistic-good", "STS enforce; override: opportunistic instead", VERIFIED,
           GOOD, sts=ENFORCE),
    _under(_INSTEAD[_L.OPPORTUNISTIC], "opportunistic-dane", "TLSA of another key; override: opportunistic instead",
           _overridden("encrypted"), MISMATCHED, zone=SIGNED),
    Scenario("override-opportunistic-servfail", "TLSA: SERVFAIL; override: opportunistic instead",
             _overridden("encrypted"), (MATCHING,), None, SIGNED, faults={TLSA_AT_MX: Fault.SERVFAIL},
             overrides=(_INSTEAD[_L.OPPORTUNISTIC],)),
)  # fmt: skip

_ENCRYPT = (
    _under(_BESIDE[_L.ENCRYPT], "encrypt", "nothing; self-signed; override: encrypt", ENCRYPTED, SELF_SIGNED),
    _under(_BESIDE[_L.ENCRYPT], "encrypt-no-starttls", "nothing; no STARTTLS; override: encrypt", NO_TLS, NO_STARTTLS),
    _under(_BESIDE[_L.ENCRYPT], "encrypt-garbage", "nothing; no TLS in the handshake; override: encrypt", REFUSED,
           GARBAGE),
    _under(_BESIDE[_L.ENCRYPT], "encrypt-and-sts", "STS enforce; expired; override: encrypt", REFUSED,
           EXPIRED, sts=ENFORCE),
    _under(_INSTEAD[_L.ENCRYPT], "encrypt-for-sts", "STS enforce; expired; override: encrypt instead",
           _overridden("encrypted"), EXPIRED, sts=ENFORCE),
    _under(_INSTEAD[_L.ENCRYPT], "encrypt-not-listed", "STS enforce, mx: another; override: encrypt instead",
           _overridden("encrypted"), GOOD, sts=OTHER),
    _under(_INSTEAD[_L.ENCRYPT], "encrypt-for-sts-clear", "STS enforce; no STARTTLS; override: encrypt instead", NO_TLS,
           NO_STARTTLS, sts=ENFORCE),
)  # fmt: skip

_VERIFY = (
    _under(_BESIDE[_L.VERIFY], "verify", "nothing; override: verify", VERIFIED, GOOD),
    _under(_BESIDE[_L.VERIFY], "verify-self-signed", "nothing; self-signed; override: verify", REFUSED, SELF_SIGNED),
    _under(_BESIDE[_L.VERIFY], "verify-name", "nothing; certificate of another host; override: verify", REFUSED,
           _GATEWAY),
    _under(_NAMED, "verify-names", "nothing; certificate of a gateway; override: verify its name", VERIFIED, _GATEWAY),
    _under(_NAMED, "verify-names-bad", "nothing; override: verify a gateway's name", REFUSED, GOOD),
    _under(_BESIDE[_L.VERIFY], "verify-and-dane", "TLSA of another key; override: verify", REFUSED,
           MISMATCHED, zone=SIGNED),
    _under(_INSTEAD[_L.VERIFY], "verify-for-dane", "TLSA of another key; override: verify instead",
           _overridden("verified"), MISMATCHED, zone=SIGNED),
)  # fmt: skip

_DANE = (
    _under(_INSTEAD[_L.DANE], "dane", "TLSA 3 1 1; STS enforce; self-signed; override: dane instead",
           _overridden("verified"), MATCHING, sts=ENFORCE, zone=SIGNED),
    _under(_INSTEAD[_L.DANE], "dane-mismatch", "TLSA of another key; override: dane instead", REFUSED,
           MISMATCHED, zone=SIGNED),
    _under(_INSTEAD[_L.DANE], "dane-none", "no TLSA; STS enforce; expired; override: dane instead",
           _overridden("encrypted"), EXPIRED, sts=ENFORCE, zone=SIGNED),
    _under(_BESIDE[_L.DANE_ONLY], "dane-only", "TLSA 3 1 1; override: dane-only", VERIFIED, MATCHING, zone=SIGNED),
    _under(_BESIDE[_L.DANE_ONLY], "dane-only-none", "STS enforce; no TLSA; override: dane-only", REFUSED,
           GOOD, sts=ENFORCE, zone=SIGNED),
    _under(_BESIDE[_L.DANE_ONLY], "dane-only-unusable", "TLSA 1 1 1 only; override: dane-only", REFUSED,
           Host(tlsa=(PKIX,)), zone=SIGNED),
    _under(_BESIDE[_L.DANE_ONLY], "dane-only-unsigned", "TLSA in an unsigned zone; override: dane-only", REFUSED,
           MATCHING),
    _under(_BESIDE[_L.DANE_ONLY], "dane-only-second", "a host without TLSA, one with; override: dane-only", VERIFIED,
           GOOD, replace(SECOND, tlsa=(MINE,)), zone=SIGNED),
)  # fmt: skip

_FINGERPRINTS = (
    _under(_OF_CERTIFICATE, "fingerprint", "nothing; self-signed; override: its fingerprint", VERIFIED, SELF_SIGNED),
    _under(_OF_KEY, "fingerprint-key", "nothing; expired; override: its key", VERIFIED, EXPIRED),
    _under(_OF_ANOTHER, "fingerprint-other", "nothing; override: fingerprint of another", REFUSED, GOOD),
    _under(_OF_CERTIFICATE, "fingerprint-and-sts", "STS enforce; self-signed; override: its fingerprint", REFUSED,
           SELF_SIGNED, sts=ENFORCE),
    Scenario("override-fingerprint-renewed", "nothing; override: fingerprint; then another certificate",
             each(VERIFIED, REFUSED), overrides=(_OF_CERTIFICATE,), then=(Phase((Host(key=2),), to=("eve",)),)),
)  # fmt: skip

_VERSIONS = (
    _under(_BESIDE[_L.ENCRYPT], "old-tls", "nothing; TLS 1.1; override: encrypt", TOO_OLD, OLD_TLS),
    _under(replace(_BESIDE[_L.ENCRYPT], minimum_tls="1.3"), "tls-1-3", "nothing; TLS 1.2; override: encrypt, 1.3",
           TOO_OLD, _TLS_1_2),
    _under(replace(_BESIDE[_L.DANE], minimum_tls="1.3"), "tls-1-3-dane", "TLSA 3 1 1; TLS 1.2; override: dane, 1.3",
           TOO_OLD, replace(_TLS_1_2, tlsa=(MINE,)), zone=SIGNED),
    _under(replace(_INSTEAD[_L.ENCRYPT], minimum_tls="1.1"), "tls-1-1",
           "nothing; TLS 1.1; override: encrypt instead, 1.1", ENCRYPTED, OLD_TLS),
)  # fmt: skip


def _two(name: str, publishes: str, expected: Expected, host: Host, holds: Override, passed_over: Override) -> Scenario:
    """Two overrides fit, and one of them holds."""
    return Scenario(name, publishes, expected, (host,), overrides=(passed_over, holds))


_ENCRYPTS = _BESIDE[_L.ENCRYPT]
_TARGETS = (
    Scenario("eu.override-parent", "nothing; no STARTTLS; override of .parent: encrypt", NO_TLS, (NO_STARTTLS,),
             overrides=(replace(_ENCRYPTS, domains=(".override-parent.test",)),)),
    _under(replace(_ENCRYPTS, domains=(".{domain}",)), "parent-itself",
           "nothing; no STARTTLS; override of .domain: encrypt", CLEAR, NO_STARTTLS),
    _under(replace(_BESIDE[_L.VERIFY], hosts=("mx.{domain}",)), "mx",
           "nothing; self-signed twice; override of the first: verify", ENCRYPTED,
           SELF_SIGNED, replace(SECOND, leaf=Leaf.SELF_SIGNED)),
    _under(replace(_ENCRYPTS, hosts=(".{elsewhere}",)), "mx-elsewhere",
           "nothing; host of a provider, no STARTTLS; override of .provider: encrypt", NO_TLS,
           replace(NO_STARTTLS, zone=UNSIGNED)),
    _two("override-domain-first", "nothing; no STARTTLS; overrides of MX: encrypt; of domain: none", CLEAR,
         NO_STARTTLS, _INSTEAD[_L.NONE], replace(_ENCRYPTS, hosts=("mx.{domain}",))),
    _two("eu.override-whole-name-first", "nothing; no STARTTLS; overrides of .parent: none; of domain: encrypt",
         NO_TLS, NO_STARTTLS, _ENCRYPTS, replace(_INSTEAD[_L.NONE], domains=(".override-whole-name-first.test",))),
)  # fmt: skip


def _to(who: str) -> Phase:
    return Phase(to=(who,))


_ENDS = (
    _under(replace(_ENCRYPTS, last_day=-1), "ended", "nothing; no STARTTLS; override: encrypt until yesterday",
           delivered("none", _ENDED), NO_STARTTLS),
    Scenario("override-ends", "STS enforce; expired; override: encrypt instead for two days",
             replace(each(_overridden("encrypted"), _overridden("encrypted"), Expected((("deferred 4.7.5",),), "none")),
                     logged=frozenset({_OVERRIDDEN, _ENDED})),
             (EXPIRED,), ENFORCE, overrides=(replace(_INSTEAD[_L.ENCRYPT], last_day=2),),
             then=(Phase(), _to("ann"), _to("eve"))),
    Scenario("override-ends-waiting", "nothing; no STARTTLS; override: encrypt for two days",
             Expected((("deferred 4.7.4", "7d: delivered 2.0.0"),), "none", logged=frozenset({_ENDED})),
             (NO_STARTTLS,), overrides=(replace(_ENCRYPTS, last_day=2),)),
    Scenario("override-ends-unused", "STS enforce; down, then up, expired; override: none instead for two days",
             Expected((("deferred 4.4.1", "7d: failed 5.7.5"),), "none", "551 5.7.5", frozenset({_ENDED})),
             (Host(up=False),), ENFORCE, overrides=(replace(_INSTEAD[_L.NONE], last_day=2),),
             then=(Phase(), Phase(), Phase((EXPIRED,)))),
)  # fmt: skip


def _required(scenario: Scenario) -> Scenario:
    """The sender says REQUIRETLS."""
    return replace(scenario, publishes=f"{scenario.publishes}; REQUIRETLS", mail_options=("REQUIRETLS",))


def _waived(scenario: Scenario) -> Scenario:
    """The sender says `TLS-Required: No`."""
    return replace(scenario, publishes=f"{scenario.publishes}; TLS-Required: No", header="TLS-Required: No\r\n")


_SENDERS = (
    _required(_under(_INSTEAD[_L.NONE], "requiretls-none", "TLSA 3 1 1; override: none instead", VERIFIED,
                     MATCHING, zone=SIGNED)),
    _required(_under(_INSTEAD[_L.ENCRYPT], "requiretls-encrypt", "STS enforce; expired; override: encrypt instead",
                     failed("550 5.7.10"), EXPIRED, sts=ENFORCE)),
    _required(_under(_BESIDE[_L.VERIFY], "requiretls-verify", "nothing; override: verify", failed("550 5.7.10"), GOOD)),
    _waived(_under(_BESIDE[_L.ENCRYPT], "waived-encrypt", "STS enforce; expired; override: encrypt", ENCRYPTED,
                   EXPIRED, sts=ENFORCE)),
    _waived(_under(_BESIDE[_L.ENCRYPT], "waived-no-starttls", "STS enforce; no STARTTLS; override: encrypt", NO_TLS,
                   NO_STARTTLS, sts=ENFORCE)),
    _waived(_under(_BESIDE[_L.VERIFY], "waived-verify", "STS enforce; self-signed; override: verify", REFUSED,
                   SELF_SIGNED, sts=ENFORCE)),
)  # fmt: skip

SCENARIOS = _LESS + _ENCRYPT + _VERIFY + _DANE + _FINGERPRINTS + _VERSIONS + _TARGETS + _ENDS + _SENDERS
