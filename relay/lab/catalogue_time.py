"""What a domain changes while mail waits, or between two mails. RFC 8461 sections 3.3, 5.1 and 8, RFC 7672 section 8.4.

The first phase begins before the first passage of time, the second before the second: see `lab.play.PASSAGES`.
"""

from __future__ import annotations

from dataclasses import replace

from relay.lab.catalogue_dane import (
    BOGUS,
    ISSUER,
    MATCHING,
    MISMATCHED,
    SIGNED,
    TLSA_AT_MX,
    UNSIGNED,
)
from relay.lab.catalogue_fetching import NOT_FOUND, RECORD
from relay.lab.catalogue_sts import ENFORCE, HEALED, NONE, OTHER, REFUSED, TEST_FAILED, TESTING
from relay.lab.catalogue_tls import ENCRYPTED, EXPIRED, GOOD, NO_STARTTLS, VERIFIED
from relay.lab.certs import Leaf
from relay.lab.scenario import Expected, Host, Phase, Scenario, Sts, Tlsa, each, healed
from relay.lab.script import SinkScript
from relay.lab.site import PageFault, SitePage
from relay.lab.zones import Fault

GREYLISTING = Host(script=SinkScript(rcpt={"*": ("451 4.7.1 greylisted, come again", "250 2.1.5 ok")}))

_CHANGED = "policy-changed"
_UNCHANGED, _HEALTHY = Phase(), Phase((GOOD,))
_RELEASED = healed("7.5", "encrypted")
_WAITING = Expected((("deferred 4.7.5",),), "none")

_RENEWED, _NONE_RENEWED = replace(ENFORCE, id="2"), replace(NONE, id="2")  # announced, as it must be
_NO_RECORD = replace(ENFORCE, txt=())
_NO_POLICY = replace(ENFORCE, page=NOT_FOUND)
_ALL_GONE = replace(_NO_RECORD, page=NOT_FOUND)


def _waits(name: str, publishes: str, expected: Expected, host: Host, sts: Sts, *then: Phase) -> Scenario:
    """One mail, which has to wait."""
    return Scenario(f"sts-then-{name}", publishes, expected, (host,), sts, then=then)


def _again(name: str, publishes: str, second: Expected, first: Sts | None, *then: Phase) -> Scenario:
    """A mail under `first` to a good host, and in the last phase, when its certificate has expired, one to eve."""
    mail_to_eve = replace(then[-1], hosts=(EXPIRED,), to=("eve",))
    one = ENCRYPTED if first in (None, _NO_POLICY) else VERIFIED
    return Scenario(
        f"sts-then-{name}", f"{publishes}, expired", each(one, second), sts=first, then=(*then[:-1], mail_to_eve)
    )


def _lasting(sts: Sts, seconds: int) -> Sts:
    return replace(sts, max_age=seconds)


_HOUR, _DAY = 3600, 86400

_HEALS = (
    _waits("cert-healed", "STS enforce; expired, then good", HEALED, EXPIRED, ENFORCE, _HEALTHY),
    _waits("cert-healed-late", "STS enforce; expired, good a day later", healed("7.5", "verified", when="1d"),
           EXPIRED, ENFORCE, _UNCHANGED, _HEALTHY),
    _waits("starttls-back", "STS enforce; no STARTTLS, then good", healed("7.4", "verified"),
           NO_STARTTLS, ENFORCE, _HEALTHY),
    _waits("mx-corrected", "STS enforce; MX not listed, then listed", healed("4.8", "verified"),
           Host("old"), ENFORCE, _HEALTHY),
    _waits("greylisted", "STS enforce; greylisting", healed("7.1", "verified"), GREYLISTING, ENFORCE),
    _waits("worse", "STS enforce; expired, then no STARTTLS",
           Expected((("deferred 4.7.5", "20m: deferred 4.7.4", "7d: failed 5.7.4"),), "none", "551 5.7.4"),
           EXPIRED, ENFORCE, Phase((NO_STARTTLS,))),
)  # fmt: skip

_CHANGES = (
    _waits("rotated", "STS enforce, mx: another; then this one, new id", healed("4.8", "verified"),
           GOOD, OTHER, Phase(sts=_RENEWED)),
    _waits("rotated-same-id", "STS enforce, mx: another; then this one, same id",
           healed("4.8", "verified", _CHANGED), GOOD, OTHER, Phase(sts=ENFORCE)),
    _waits("none", "STS enforce; expired; then STS none, new id", _RELEASED, EXPIRED, ENFORCE,
           Phase(sts=_NONE_RENEWED)),
    _waits("none-same-id", "STS enforce; expired; then STS none, same id", healed("7.5", "encrypted", _CHANGED),
           EXPIRED, ENFORCE, Phase(sts=NONE)),
    _waits("testing", "STS enforce; expired; then STS testing", healed("7.5", "encrypted", TEST_FAILED),
           EXPIRED, ENFORCE, Phase(sts=replace(TESTING, id="2"))),
    _again("relaxed", "STS enforce; then none, new id", ENCRYPTED, ENFORCE, Phase(sts=_NONE_RENEWED)),
    _again("retired", "STS enforce; then none; then no record", ENCRYPTED, ENFORCE,
           Phase(sts=_NONE_RENEWED), _UNCHANGED, Phase(sts=replace(_NONE_RENEWED, txt=(), page=NOT_FOUND))),
    _again("enforced", "nothing; then STS enforce", REFUSED, None, Phase(sts=ENFORCE)),
    _again("tightened", "STS testing; then enforce, new id", REFUSED, TESTING, Phase(sts=_RENEWED)),
    _again("tightened-same-id", "STS testing; then enforce, same id", replace(REFUSED, logged=frozenset({_CHANGED})),
           TESTING, Phase(sts=ENFORCE), _UNCHANGED),
    _again("fetched-later", "STS policy 404; then enforce", REFUSED, _NO_POLICY, Phase(sts=ENFORCE)),
)  # fmt: skip

_STAYS = (  # none of this ends a policy that is in force
    _again("no-record", "STS enforce; then no record", REFUSED, ENFORCE, Phase(sts=_NO_RECORD)),
    _again("servfail", "STS enforce; then SERVFAIL for the record", REFUSED, ENFORCE,
           Phase(faults={RECORD: Fault.SERVFAIL})),
    _again("bogus", "STS enforce; then the record's signature wrong", REFUSED, ENFORCE,
           Phase(faults={RECORD: Fault.BOGUS})),
    _again("404", "STS enforce; then new id, 404", REFUSED, ENFORCE, Phase(sts=replace(_RENEWED, page=NOT_FOUND))),
    _again("redirect", "STS enforce; then new id, redirect", REFUSED, ENFORCE,
           Phase(sts=replace(_NONE_RENEWED, page=SitePage("", redirect_to="https://www.{domain}/")))),
    _again("hangs", "STS enforce; then new id, never answers", REFUSED, ENFORCE,
           Phase(sts=replace(_NONE_RENEWED, page=SitePage("", fault=PageFault.STALL)))),
    _again("impostor", "STS enforce; then new id, none from a self-signed host", REFUSED, ENFORCE,
           Phase(sts=replace(_NONE_RENEWED, leaf=Leaf.SELF_SIGNED))),
    _again("all-gone", "STS enforce; then neither record nor policy", REFUSED, ENFORCE, Phase(sts=_ALL_GONE)),
    _waits("no-record-waiting", "STS enforce; expired; then no record", REFUSED, EXPIRED, ENFORCE,
           Phase(sts=_NO_RECORD)),
)  # fmt: skip

_ENDS = (  # max_age, counted from the last fetch, is what ends it
    _waits("hour-over", "STS enforce for an hour; expired; then all gone", healed("7.5", "encrypted", when="1d"),
           EXPIRED, _lasting(ENFORCE, _HOUR), Phase(sts=_lasting(_ALL_GONE, _HOUR))),
    _waits("hour-over-404", "STS enforce for an hour; expired; then 404", healed("7.5", "encrypted", when="1d"),
           EXPIRED, _lasting(ENFORCE, _HOUR), Phase(sts=_lasting(_NO_POLICY, _HOUR))),
    _waits("hour-renewed", "STS enforce for an hour; expired", REFUSED, EXPIRED, _lasting(ENFORCE, _HOUR)),
    _waits("max-age-0", "STS enforce, max_age: 0; expired; then 404", _RELEASED,
           EXPIRED, _lasting(ENFORCE, 0), Phase(sts=_lasting(_NO_POLICY, 0))),
    _again("week-over", "STS enforce for seven days; then all gone", ENCRYPTED, _lasting(ENFORCE, 7 * _DAY),
           Phase(sts=_lasting(_ALL_GONE, 7 * _DAY)), _UNCHANGED, _UNCHANGED),
    _again("week-refreshed", "STS enforce for seven days; all gone after one", _WAITING, _lasting(ENFORCE, 7 * _DAY),
           _UNCHANGED, _UNCHANGED, Phase(sts=_lasting(_ALL_GONE, 7 * _DAY))),
)  # fmt: skip


def _dane(name: str, publishes: str, expected: Expected, host: Host, *then: Phase) -> Scenario:
    """In a zone that is signed at first."""
    return Scenario(f"dane-then-{name}", publishes, expected, (host,), None, SIGNED, then=then)


def _to_eve(host: Host) -> Phase:
    return Phase((host,), to=("eve",))


_OLD, _NEW = Tlsa(key=1), Tlsa(key=2)
_DANE = (
    _dane("rolled-over", "TLSA of the old key, of both, of both, of the new", each(*4 * [VERIFIED]),
          Host(key=1, tlsa=(_OLD,)),
          Phase((Host(key=1, tlsa=(_OLD, _NEW)),), to=("ann",)),
          Phase((Host(key=2, tlsa=(_OLD, _NEW)),), to=("eve",)),
          Phase((Host(key=2, tlsa=(_NEW,)),), to=("joe",))),
    _dane("key-too-early", "TLSA of the old key; then of both", HEALED,
          Host(key=2, tlsa=(_OLD,)), Phase((Host(key=2, tlsa=(_OLD, _NEW)),))),
    _dane("authority-kept", "TLSA 2 1 1; then another key", each(VERIFIED, VERIFIED),
          Host(key=1, tlsa=(ISSUER,)), _to_eve(Host(key=2, tlsa=(ISSUER,)))),
    _dane("removed", "TLSA of another key; then none", _RELEASED, MISMATCHED, _HEALTHY),
    _dane("added", "no TLSA; then of another key", each(ENCRYPTED, REFUSED), GOOD, _to_eve(MISMATCHED)),
    _dane("mx-moved", "TLSA of another key; then another MX", HEALED, MISMATCHED,
          Phase((replace(MATCHING, label="mx2"),))),
    _dane("zone-broken", "TLSA 3 1 1; then wrong signatures", each(VERIFIED, REFUSED), MATCHING,
          Phase(security=BOGUS, to=("eve",))),
    _dane("zone-unsigned", "TLSA of another key; then no signatures", _RELEASED, MISMATCHED, Phase(security=UNSIGNED)),
    _dane("sts-added", "TLSA 3 1 1; self-signed; then STS enforce", each(VERIFIED, REFUSED), MATCHING,
          Phase(sts=ENFORCE, to=("eve",))),
    Scenario("dane-then-zone-healed", "TLSA 3 1 1; wrong signatures, then right ones", HEALED, (MATCHING,), None,
             BOGUS, then=(Phase(security=SIGNED),)),
    Scenario("dane-then-zone-signed", "TLSA of another key; unsigned, then signed", each(ENCRYPTED, REFUSED),
             (MISMATCHED,), then=(Phase(security=SIGNED, to=("eve",)),)),
    Scenario("dane-then-servfail-healed", "TLSA: SERVFAIL, then 3 1 1", HEALED, (MATCHING,), None, SIGNED,
             faults={TLSA_AT_MX: Fault.SERVFAIL}, then=(Phase(faults={}),)),
)  # fmt: skip

SCENARIOS = _HEALS + _CHANGES + _STAYS + _ENDS + _DANE
