"""MTA-STS: which hosts a policy lists, and what a session with one must show. RFC 8461 sections 3.2, 4 and 5."""

from __future__ import annotations

from relay.lab.catalogue_tls import (
    CLEAR,
    EXPIRED,
    GARBAGE,
    GOOD,
    HANGS_UP,
    INJECTS,
    NO_STARTTLS,
    OLD_TLS,
    SECOND,
    STALLS_ONCE,
    STARTTLS_454,
    STARTTLS_502,
    VERIFIED,
)
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Host, Scenario, Sts, delivered, healed, refused
from relay.lab.zones import Security
from relay.policy.sts import StsMode

ENFORCE = Sts()
ANY = Sts(mx=("*.{domain}",))
OTHER = Sts(mx=("mail.{domain}",))
TESTING = Sts(StsMode.TESTING)
NONE = Sts(StsMode.NONE, mx=())

REFUSED, NO_TLS, TOO_OLD, NOT_LISTED = refused("7.5"), refused("7.4"), refused("7.6"), refused("4.8")
HEALED = healed("7.5", "verified")
TEST_FAILED = "policy-test-failed"
WOULD_BE_REFUSED = delivered("encrypted", TEST_FAILED)


def _enforce(name: str, publishes: str, expected: Expected, *hosts: Host, sts: Sts = ENFORCE) -> Scenario:
    return Scenario(f"sts-{name}", f"STS enforce{publishes}", expected, hosts, sts)


def _certificate(name: str, publishes: str, expected: Expected, leaf: Leaf, *names: str) -> Scenario:
    return _enforce(name, f"; {publishes}", expected, Host(leaf=leaf, names=names))


def _testing(name: str, publishes: str, expected: Expected, host: Host, sts: Sts = TESTING) -> Scenario:
    return Scenario(f"sts-testing-{name}", f"STS testing{publishes}", expected, (host,), sts)


_HOSTS = (
    _enforce("good", "", VERIFIED, GOOD),
    _enforce("no-starttls", "; no STARTTLS", NO_TLS, NO_STARTTLS),
    _enforce("starttls-454", "; STARTTLS says 454", NO_TLS, STARTTLS_454),
    _enforce("starttls-502", "; STARTTLS says 502", NO_TLS, STARTTLS_502),
    _enforce("old-tls", "; TLS 1.1", TOO_OLD, OLD_TLS),
    _enforce("injected", "; clear text behind the 220", REFUSED, INJECTS),
    _enforce("hang-up", "; hangs up in the handshake", REFUSED, HANGS_UP),
    _enforce("garbage", "; no TLS in the handshake", REFUSED, GARBAGE),
    _enforce("stall-once", "; once silent in the handshake", HEALED, STALLS_ONCE),
)

_CERTIFICATES = (
    _certificate("expired", "expired", REFUSED, Leaf.EXPIRED),
    _certificate("not-yet-valid", "not yet valid", REFUSED, Leaf.NOT_YET_VALID),
    _certificate("self-signed", "self-signed", REFUSED, Leaf.SELF_SIGNED),
    _certificate("unknown-ca", "of an unknown authority", REFUSED, Leaf.UNKNOWN_CA),
    _certificate("no-intermediate", "intermediate not sent", REFUSED, Leaf.MISSING_INTERMEDIATE),
    _certificate("client-only", "certificate for clients only", REFUSED, Leaf.CLIENT_EKU),
    _certificate("cn-only", "no subjectAltName", REFUSED, Leaf.CN_ONLY),
    _certificate("wrong-name", "certificate of another host", REFUSED, Leaf.GOOD, "other.{domain}"),
    _certificate("names-domain", "certificate of the domain", REFUSED, Leaf.GOOD, "{domain}"),
    _certificate("san-wildcard", "certificate for *.domain", VERIFIED, Leaf.GOOD, "*.{domain}"),
    _certificate("san-upper", "certificate for MX.domain", VERIFIED, Leaf.GOOD, "MX.{domain}"),
    _enforce(
        "san-deep", ", mx.eu.domain; certificate for *.domain", REFUSED, Host("mx.eu", names=("*.{domain}",)),
        sts=Sts(mx=("mx.eu.{domain}",)),
    ),
    _enforce(
        "san-bare", ", the domain itself; certificate for *.domain", REFUSED, Host("@", names=("*.{domain}",)),
        sts=Sts(mx=("{domain}",)),
    ),
)  # fmt: skip

_LISTED = (
    _enforce("not-listed", ", mx: another", NOT_LISTED, GOOD, sts=OTHER),
    _enforce("wildcard", ", mx: *.domain", VERIFIED, GOOD, sts=ANY),
    _enforce("wildcard-deep", ", mx: *.domain; host mx.eu.domain", NOT_LISTED, Host("mx.eu"), sts=ANY),
    _enforce("wildcard-bare", ", mx: *.domain; host is the domain", NOT_LISTED, Host("@"), sts=ANY),
    _enforce("upper-case", ", mx: MX.domain", VERIFIED, GOOD, sts=Sts(mx=("MX.{domain}",))),
    _enforce("many-mx", ", three mx", VERIFIED, GOOD, sts=Sts(mx=("a.test", "*.b.test", "mx.{domain}"))),
    _enforce(
        "elsewhere", "; host of a provider", VERIFIED, Host(zone=Security.UNSIGNED), sts=Sts(mx=("*.{elsewhere}",))
    ),
    _enforce(
        "alias-named", "; MX is an alias, and named", VERIFIED, Host("host", alias="mx", names=("mx.{domain}",))
    ),
    _enforce("alias-target-named", "; MX is an alias, its target named", REFUSED, Host("host", alias="mx")),
    _enforce(
        "alias-target-listed", ", mx: the target of an alias", NOT_LISTED,
        Host("host", alias="mx", names=("mx.{domain}",)), sts=Sts(mx=("host.{domain}",)),
    ),
    Scenario("sts-implicit-mx", "STS enforce; no MX", VERIFIED, (Host("@"),), Sts(mx=("{domain}",)), mx_records=()),
)  # fmt: skip

_TWO_HOSTS = (
    _enforce("second-mx-good", "; expired, good", VERIFIED, EXPIRED, SECOND, sts=ANY),
    _enforce("second-listed", ", mx: the second host", VERIFIED, GOOD, SECOND, sts=Sts(mx=("mx2.{domain}",))),
    _enforce("second-not-listed", ", mx: the first host; expired", REFUSED, EXPIRED, SECOND),
    _enforce("both-bad", "; no STARTTLS, expired", NO_TLS, NO_STARTTLS, Host("mx2", 20, Leaf.EXPIRED), sts=ANY),
    _enforce("first-down", "; down, good", VERIFIED, Host(up=False), SECOND, sts=ANY),
)

_MODES = (
    _testing("good", "", VERIFIED, GOOD),
    _testing("no-starttls", "; no STARTTLS", delivered("none", TEST_FAILED), NO_STARTTLS),
    _testing("garbage", "; no TLS in the handshake", delivered("none", TEST_FAILED), GARBAGE),
    _testing("old-tls", "; TLS 1.1", WOULD_BE_REFUSED, OLD_TLS),
    _testing("bad-cert", "; expired", WOULD_BE_REFUSED, EXPIRED),
    _testing("not-listed", ", mx: another", WOULD_BE_REFUSED, GOOD, Sts(StsMode.TESTING, OTHER.mx)),
    Scenario("sts-none", "STS none; no STARTTLS", CLEAR, (NO_STARTTLS,), NONE),
)

SCENARIOS = _HOSTS + _CERTIFICATES + _LISTED + _TWO_HOSTS + _MODES
