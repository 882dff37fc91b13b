"""TLS reports: what the domain is told of its mail of the first two days. RFC 8460, docs/tls-reports.md.

`TOLD` gives scenarios of other subjects a record, so that they are reported; the rest are about reports themselves.
Mail that is kept back is tried at first and at `20m`, and on the second day at `1d`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from relay.lab.catalogue_dane import SIGNED
from relay.lab.catalogue_sts import ENFORCE, NO_TLS, REFUSED
from relay.lab.catalogue_tls import ENCRYPTED, EXPIRED, NO_STARTTLS, VERIFIED
from relay.lab.certs import Leaf
from relay.lab.scenario import Host, Phase, Scenario, Tlsrpt, each
from relay.lab.script import SinkScript
from relay.lab.zones import Fault

_BY_MAIL = Tlsrpt()


def telling(scenario: Scenario, texts: Iterable[str], tlsrpt: Tlsrpt = _BY_MAIL) -> Scenario:
    """The scenario with a record, whose domain must be told this."""
    return replace(scenario, tlsrpt=tlsrpt, expected=replace(scenario.expected, reported=frozenset(texts)))


def _kept_back(*texts: str) -> tuple[str, ...]:
    """What is told of a mail that meets the same at each attempt."""
    return (*(f"{text} x2" for text in texts), *(f"day 2: {text}" for text in texts))


_NONE_OK = ("no-policy-found ok",)
_STS_OK = ("sts ok",)
_NOT_VALID = _kept_back("sts validation-failure")
_NOT_TRUSTED = _kept_back("sts certificate-not-trusted")
_OTHER_NAME = _kept_back("sts certificate-host-mismatch")
_TLSA_OK, _TLSA_NOT_VALID = ("tlsa mx ok",), _kept_back("tlsa mx validation-failure")
_NOT_FETCHED = (*_NONE_OK, "sts sts-policy-fetch-error")
_NO_POLICY = (*_NONE_OK, "sts sts-policy-invalid")
_OF_NOBODY = (*_NONE_OK, "sts sts-webpki-invalid")

TOLD: Mapping[str, tuple[str, ...]] = {
    # Nothing published: whether there was TLS. Clear text after a handshake that failed is no session with TLS.
    "no-policy": _NONE_OK,
    "no-policy-self-signed": _NONE_OK,
    "no-policy-no-starttls": ("no-policy-found starttls-not-supported",),
    "no-policy-starttls-454": ("no-policy-found starttls-not-supported",),
    "no-policy-injected": ("no-policy-found validation-failure",),
    "no-policy-garbage": ("no-policy-found validation-failure",),
    "no-policy-stall": ("no-policy-found validation-failure",),
    "greylisted": ("no-policy-found ok x2",),
    "one-of-two-refused": _NONE_OK,
    "lost-after-final-dot": ("no-policy-found ok x2",),
    "route-mx": _NONE_OK,
    "tls-lost": ("no-policy-found ok x2", "day 2: no-policy-found starttls-not-supported"),
    "null-mx": (),
    "host-down": _NONE_OK,  # a host that is down has no TLS to tell of
    # MTA-STS: sessions.
    "sts-good": _STS_OK,
    "sts-no-starttls": _kept_back("sts starttls-not-supported"),
    "sts-starttls-502": _kept_back("sts starttls-not-supported"),
    "sts-old-tls": _NOT_VALID,
    "sts-hang-up": _NOT_VALID,
    "sts-garbage": _NOT_VALID,
    "sts-stall-once": ("sts validation-failure", "sts ok"),
    "sts-expired": _kept_back("sts certificate-expired"),
    "sts-not-yet-valid": _NOT_TRUSTED,
    "sts-self-signed": _NOT_TRUSTED,
    "sts-unknown-ca": _NOT_TRUSTED,
    "sts-no-intermediate": _NOT_TRUSTED,
    "sts-client-only": _NOT_TRUSTED,
    "sts-cn-only": _OTHER_NAME,
    "sts-wrong-name": _OTHER_NAME,
    # MTA-STS: hosts.
    "sts-not-listed": _NOT_VALID,
    "sts-second-listed": ("sts validation-failure", "sts ok"),
    "sts-second-mx-good": ("sts certificate-expired", "sts ok"),
    "sts-both-bad": _kept_back("sts starttls-not-supported", "sts certificate-expired"),
    "sts-first-down": _STS_OK,
    # MTA-STS: modes. What is only tested is told as what is enforced.
    "sts-testing-good": _STS_OK,
    "sts-testing-no-starttls": ("sts starttls-not-supported",),
    "sts-testing-garbage": ("sts validation-failure",),
    "sts-testing-old-tls": ("sts validation-failure",),
    "sts-testing-bad-cert": ("sts certificate-expired",),
    "sts-testing-not-listed": ("sts validation-failure",),
    "sts-none": ("no-policy-found starttls-not-supported",),
    # MTA-STS: policies that cannot be had, and the session without one.
    "sts-record-none": _NONE_OK,
    "sts-record-twice": _NONE_OK,
    "sts-record-bogus": _kept_back("sts dnssec-invalid"),
    "sts-policy-404": _NOT_FETCHED,
    "sts-policy-redirect": _NOT_FETCHED,
    "sts-policy-html": _NOT_FETCHED,
    "sts-policy-hangs": _NOT_FETCHED,
    "sts-policy-no-host": _NOT_FETCHED,
    "sts-policy-bad-cert": _OF_NOBODY,
    "sts-policy-self-signed": _OF_NOBODY,
    "sts-policy-wrong-name": _OF_NOBODY,
    "sts-text-no-mx": _NO_POLICY,
    "sts-text-bad-mx": _NO_POLICY,
    # MTA-STS: changes. A policy that was in force stays so, and is the one that is told of.
    "sts-then-rotated": ("sts validation-failure", "sts ok"),
    "sts-then-404": (
        "sts ok", "sts sts-policy-fetch-error", "sts certificate-expired",
        "day 2: sts sts-policy-fetch-error", "day 2: sts certificate-expired",
    ),
    "sts-then-cert-healed-late": ("sts certificate-expired x2", "day 2: sts ok"),
    "sts-then-none": ("sts certificate-expired", "no-policy-found ok"),
    # DANE: the policy domain is that of the host.
    "dane-good": _TLSA_OK,
    "dane-expired": _TLSA_OK,
    "dane-mismatch": _TLSA_NOT_VALID,
    "dane-2-expired": _kept_back("tlsa mx certificate-expired"),
    "dane-2-wrong-name": _kept_back("tlsa mx certificate-host-mismatch"),
    "dane-2-root-not-sent": _TLSA_NOT_VALID,
    "dane-unusable": ("tlsa mx tlsa-invalid",),
    "dane-no-starttls": _kept_back("tlsa mx starttls-not-supported"),
    "dane-old-tls": _TLSA_NOT_VALID,
    "dane-second-good": ("tlsa mx validation-failure", "tlsa mx2 ok"),
    "dane-second-without": ("tlsa mx validation-failure", "no-policy-found ok"),
    "dane-none": _NONE_OK,
    "dane-unsigned-zone": _NONE_OK,
    "dane-servfail": _kept_back("tlsa mx dnssec-invalid"),
    "dane-bogus": _kept_back("tlsa mx dnssec-invalid"),
    "dane-bogus-host-second": ("no-policy-found dnssec-invalid", "tlsa mx2 ok"),
    "dane-domain": ("tlsa ok",),
    "dane-alias-target": _TLSA_OK,
    "dane-alias-original": ("tlsa mail ok",),
    "override-dane-only-unusable": _kept_back("tlsa mx tlsa-invalid"),
    "override-dane-only-none": _kept_back("tlsa mx dane-required"),
    # DANE and MTA-STS: each for itself.
    "dane-sts-both-good": (*_TLSA_OK, *_STS_OK),
    "dane-mismatch-sts-good": _kept_back("tlsa mx validation-failure", "sts ok"),
    "dane-good-sts-bad": _kept_back("tlsa mx ok", "sts certificate-not-trusted"),
    "dane-good-sts-not-listed": _kept_back("sts validation-failure"),  # no session, so nothing of the records
    "dane-good-sts-testing": (*_TLSA_OK, "sts certificate-not-trusted"),
    "dane-unusable-sts-bad": _kept_back("tlsa mx tlsa-invalid", "sts certificate-not-trusted"),
    "dane-sts-one-host-each": ("tlsa mx validation-failure", "sts certificate-expired", "sts ok x2"),
    # What the sender or the operator asks for changes nothing of what is published.
    "tls-waived-sts-bad-cert": ("sts certificate-expired",),
    "tls-waived-dane": ("tlsa mx validation-failure",),
    "requiretls-dane": _TLSA_OK,
    "requiretls-not-offered": _STS_OK,
    "override-opportunistic": ("sts certificate-expired",),
    "override-none": (),  # STARTTLS is left alone: nothing was seen of it
    "override-verify-self-signed": (),  # the demand that broke off the handshake is our own
    "override-encrypt-no-starttls": _kept_back("no-policy-found starttls-not-supported"),
}  # fmt: skip


def with_report(scenario: Scenario) -> Scenario:
    """The scenario as `TOLD` has it."""
    return telling(scenario, TOLD[scenario.name]) if scenario.name in TOLD else scenario


def _record(name: str, publishes: str, told: Iterable[str], *txt: str) -> Scenario:
    """A host without fault, and this record."""
    return telling(Scenario(f"report-record-{name}", f"TLSRPT record: {publishes}", ENCRYPTED), told, Tlsrpt(txt))


_VERSION = "v=TLSRPTv1;"
_RECORDS = (
    _record("none", "none", ()),
    _record("twice", "two of them", (), f"{_VERSION} rua={{mailbox}}", f"{_VERSION} rua={{mailbox}};"),
    _record("beside", "other TXT beside it", _NONE_OK, "v=spf1 -all", f"{_VERSION} rua={{mailbox}}"),
    _record("version", "of version 2", (), "v=TLSRPTv2; rua={mailbox}"),
    _record("no-rua", "no rua", (), _VERSION),
    _record("bad-rua", "rua is no URI", (), f"{_VERSION} rua=postmaster@{{domain}}"),
    _record("http", "rua is http:", (), f"{_VERSION} rua=http://www.{{domain}}/"),
    _record("one-bad", "rua: ftp: and a mailbox", _NONE_OK, f"{_VERSION} rua=ftp://{{domain}}/,{{mailbox}}"),
    _record("unknown-field", "an unknown field", _NONE_OK, f"{_VERSION} rua={{mailbox}}; colour=blue;"),
    telling(Scenario("report-record-servfail", "TLSRPT record: SERVFAIL", ENCRYPTED,
                     faults={("_smtp._tls", "TXT"): Fault.SERVFAIL}), ()),
)  # fmt: skip


def _place(name: str, publishes: str, told: Iterable[str], tlsrpt: Tlsrpt) -> Scenario:
    """A host without fault, and reports that go there."""
    return telling(Scenario(f"report-{name}", f"TLS reports {publishes}", ENCRYPTED), told, tlsrpt)


_HTTPS = Tlsrpt((f"{_VERSION} rua={{endpoint}}",))
_POSTED_OK = ("https: no-policy-found ok",)
_PLACES = (
    _place("https", "by HTTPS", _POSTED_OK, _HTTPS),
    _place("https-later", "by HTTPS: 503, then 201", _POSTED_OK, replace(_HTTPS, statuses=(503, 201))),
    _place("https-refused", "by HTTPS: 404", (), replace(_HTTPS, statuses=(404,))),
    _place("https-expired", "by HTTPS; expired", _POSTED_OK, replace(_HTTPS, leaf=Leaf.EXPIRED)),
    _place("both", "by mail and HTTPS", (*_POSTED_OK, *_NONE_OK),
           Tlsrpt((f"{_VERSION} rua={{mailbox}},{{endpoint}}",))),
    _place("both-refused", "by HTTPS, 500, and mail", _NONE_OK,
           Tlsrpt((f"{_VERSION} rua={{endpoint}},{{mailbox}}",), statuses=(500,))),
)  # fmt: skip

# The mail with a report arrives however bad TLS is there, and is counted in no report.
_OWN = Tlsrpt((f"{_VERSION} rua=mailto:reports@{{domain}}",))
_SESSIONS = (
    telling(Scenario("report-own-mail", "TLS reports by mail to itself", ENCRYPTED), _NONE_OK, _OWN),
    telling(Scenario("report-own-mail-expired", "STS enforce; expired; TLS reports by mail to itself", REFUSED,
                     (EXPIRED,), ENFORCE), _kept_back("sts certificate-expired"), _OWN),
    telling(Scenario("report-own-mail-clear", "STS enforce; no STARTTLS; TLS reports by mail to itself", NO_TLS,
                     (NO_STARTTLS,), ENFORCE), _kept_back("sts starttls-not-supported"), _OWN),
    telling(Scenario("report-reused-session", "nothing; one recipient a transaction", each(ENCRYPTED, ENCRYPTED),
                     (Host(script=SinkScript(max_recipients=1)),), recipients=("bob", "eve")), _NONE_OK),
    telling(Scenario("report-two-days", "STS enforce; a mail a day", each(VERIFIED, VERIFIED), sts=ENFORCE,
                     then=(Phase(), Phase(to=("eve",)))), ("sts ok", "day 2: sts ok")),
    telling(Scenario("report-mx-bogus", "MX: wrong signature", REFUSED, security=SIGNED,
                     faults={("@", "MX"): Fault.BOGUS}), _kept_back("no-policy-found dnssec-invalid")),
)  # fmt: skip

SCENARIOS = _RECORDS + _PLACES + _SESSIONS
