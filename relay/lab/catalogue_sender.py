"""What the sender asks of TLS: REQUIRETLS, and `TLS-Required: No`. RFC 8689 sections 3 to 5."""

from __future__ import annotations

from dataclasses import replace

from relay.lab.catalogue_dane import BOGUS, MATCHING, MINE, MISMATCHED, PKIX, SIGNED, TLSA_AT_MX, UNSIGNED
from relay.lab.catalogue_fetching import NOT_FOUND
from relay.lab.catalogue_sts import ANY, ENFORCE, NONE, OTHER, REFUSED, TESTING
from relay.lab.catalogue_tls import CLEAR, ENCRYPTED, EXPIRED, GOOD, NO_STARTTLS, SECOND, STARTTLS_454, VERIFIED
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Host, Phase, Scenario, Sts, each, failed, healed, refused
from relay.lab.script import SinkScript
from relay.lab.zones import Fault, Security

_REQUIRETLS = ("REQUIRETLS",)
_WAIVES = "TLS-Required: No\r\n"
_NOT_OFFERED = Host(script=SinkScript(tls_extensions=()))
_FAILED, _UNSUPPORTED = failed("550 5.7.10"), failed("550 5.7.30")


def _required(
    name: str, publishes: str, expected: Expected, *hosts: Host, sts: Sts | None = None, zone: Security = UNSIGNED
) -> Scenario:
    """The sender says REQUIRETLS."""
    return Scenario(
        f"requiretls-{name}", f"{publishes}; REQUIRETLS", expected, hosts, sts, zone, mail_options=_REQUIRETLS
    )


def _waived(
    name: str, publishes: str, expected: Expected, host: Host, sts: Sts | None = None, zone: Security = UNSIGNED
) -> Scenario:
    """The sender says `TLS-Required: No`."""
    return Scenario(
        f"tls-waived-{name}", f"{publishes}; TLS-Required: No", expected, (host,), sts, zone, header=_WAIVES
    )


_REQUIRED = (
    _required("dane", "TLSA 3 1 1", VERIFIED, MATCHING, zone=SIGNED),
    _required("sts-testing", "STS testing", VERIFIED, GOOD, sts=TESTING),
    _required("signed-mx", "a signed zone", VERIFIED, GOOD, zone=SIGNED),
    _required("nothing", "nothing", _FAILED, GOOD),
    _required("sts-none", "STS none", _FAILED, GOOD, sts=NONE),
    _required("sts-bad", "STS testing; expired", _FAILED, EXPIRED, sts=TESTING),
    _required("dane-mismatch", "TLSA of another key", _FAILED, MISMATCHED, zone=SIGNED),
    _required("dane-unusable", "TLSA 1 1 1 only", VERIFIED, Host(tlsa=(PKIX,)), zone=SIGNED),
    _required("dane-unsigned-mx", "unsigned MX, TLSA at its host", _FAILED, replace(MATCHING, zone=SIGNED)),
    _required("no-starttls", "STS enforce; no STARTTLS", _FAILED, NO_STARTTLS, sts=ENFORCE),
    _required("starttls-454", "STS enforce; STARTTLS says 454", refused("7.10", 550), STARTTLS_454, sts=ENFORCE),
    _required("not-offered", "STS enforce; not offered", _UNSUPPORTED, _NOT_OFFERED, sts=ENFORCE),
    _required("second-mx", "STS enforce; not offered, offered", VERIFIED, _NOT_OFFERED, SECOND, sts=ANY),
    _required("second-bad", "STS enforce; not offered, expired", _UNSUPPORTED,
              _NOT_OFFERED, Host("mx2", 20, Leaf.EXPIRED), sts=ANY),
    Scenario("requiretls-own-host", "no MX; REQUIRETLS", VERIFIED, (Host("@"),), mx_records=(),
             mail_options=_REQUIRETLS),
    Scenario("requiretls-and-waived", "nothing; REQUIRETLS and TLS-Required: No", _FAILED, mail_options=_REQUIRETLS,
             header=_WAIVES),
    Scenario("requiretls-policy-later", "STS policy 404; then enforce; REQUIRETLS", healed("7.10", "verified"),
             sts=replace(ENFORCE, page=NOT_FOUND), mail_options=_REQUIRETLS, then=(Phase(sts=ENFORCE),)),
    Scenario("requiretls-record-kept", "STS enforce; then no record; REQUIRETLS", each(VERIFIED, VERIFIED),
             sts=ENFORCE, mail_options=_REQUIRETLS, then=(Phase(sts=replace(ENFORCE, txt=()), to=("eve",)),)),
)  # fmt: skip

_WAIVED = (
    _waived("dane", "TLSA of another key", ENCRYPTED, MISMATCHED, zone=SIGNED),
    _waived("dane-no-starttls", "TLSA 3 1 1; no STARTTLS", CLEAR, replace(NO_STARTTLS, tlsa=(MINE,)), zone=SIGNED),
    _waived("sts", "STS enforce; no STARTTLS", CLEAR, NO_STARTTLS, ENFORCE),
    _waived("sts-bad-cert", "STS enforce; expired", ENCRYPTED, EXPIRED, ENFORCE),
    _waived("sts-not-listed", "STS enforce, mx: another", ENCRYPTED, GOOD, OTHER),
    _waived("bogus", "a zone with wrong signatures", REFUSED, GOOD, zone=BOGUS),
    Scenario("tls-waived-servfail", "TLSA: SERVFAIL; TLS-Required: No", ENCRYPTED, (MATCHING,), None, SIGNED,
             faults={TLSA_AT_MX: Fault.SERVFAIL}, header=_WAIVES),
    Scenario("tls-waived-twice", "STS enforce; expired; TLS-Required: No twice", REFUSED, (EXPIRED,), ENFORCE,
             header=2 * _WAIVES),
    Scenario("tls-waived-case", "STS enforce; expired; tls-required: no", ENCRYPTED, (EXPIRED,), ENFORCE,
             header=_WAIVES.lower()),
)  # fmt: skip

SCENARIOS = _REQUIRED + _WAIVED
