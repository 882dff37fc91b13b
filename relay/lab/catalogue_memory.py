"""Hosts that had TLS and have none now. docs/tls-policy.md, RFC 3207 section 6.

Mail to bob at first and to ann at `20m` shows for how long a host has had TLS; `lab.world` has the settings.
"""

from __future__ import annotations

from relay.lab.catalogue_sts import ENFORCE, NO_TLS, TEST_FAILED, TESTING
from relay.lab.catalogue_tls import CLEAR, ENCRYPTED, GOOD, NO_STARTTLS, SECOND, STARTTLS_454, VERIFIED
from relay.lab.scenario import Expected, Host, Override, Phase, Scenario, Sts, each, healed
from relay.policy.override import OverrideLevel, OverrideMode

_LOST = "tls-lost"
_GIVEN_UP, _HEALED = healed("7.4", "none", _LOST, when="7d"), healed("7.4", "encrypted", _LOST, when="7d")
_WAIVES = "TLS-Required: No\r\n"
_OPPORTUNISTIC = Override(OverrideLevel.OPPORTUNISTIC, OverrideMode.REPLACE)
_TO_ANN = Phase(to=("ann",))


def _lost(
    name: str,
    publishes: str,
    expected: Expected,
    *later: Phase,
    sts: Sts | None = None,
    header: str = "",
    overrides: tuple[Override, ...] = (),
) -> Scenario:
    """A host with TLS at first and at `20m`."""
    return Scenario(f"tls-lost{name}", publishes, expected, (GOOD,), sts, header=header, overrides=overrides,
                    then=(_TO_ANN, *later))  # fmt: skip


def _to_eve(*hosts: Host) -> Phase:
    return Phase(hosts, to=("eve",))


SCENARIOS = (
    _lost("", "nothing; then no STARTTLS", each(ENCRYPTED, ENCRYPTED, _GIVEN_UP, CLEAR),
          _to_eve(NO_STARTTLS), Phase(to=("joe",))),
    _lost("-refused", "nothing; then STARTTLS says 454", each(ENCRYPTED, ENCRYPTED, _GIVEN_UP), _to_eve(STARTTLS_454)),
    _lost("-healed", "nothing; then no STARTTLS, then good", each(ENCRYPTED, ENCRYPTED, _HEALED),
          _to_eve(NO_STARTTLS), Phase((GOOD,))),
    _lost("-second", "nothing; then no STARTTLS; another host",
          each(ENCRYPTED, ENCRYPTED, Expected(ENCRYPTED.journeys, "encrypted", logged=frozenset({_LOST}))),
          _to_eve(NO_STARTTLS, SECOND)),
    _lost("-waived", "nothing; then no STARTTLS; TLS-Required: No", each(ENCRYPTED, ENCRYPTED, CLEAR),
          _to_eve(NO_STARTTLS), header=_WAIVES),
    _lost("-sts", "STS enforce; then no STARTTLS", each(VERIFIED, VERIFIED, NO_TLS), _to_eve(NO_STARTTLS), sts=ENFORCE),
    _lost("-testing", "STS testing; then no STARTTLS",
          each(VERIFIED, VERIFIED, healed("7.4", "none", _LOST, TEST_FAILED, when="7d")),
          _to_eve(NO_STARTTLS), sts=TESTING),
    _lost("-override", "nothing; then no STARTTLS; override: opportunistic instead",
          each(ENCRYPTED, ENCRYPTED, CLEAR), _to_eve(NO_STARTTLS), overrides=(_OPPORTUNISTIC,)),
    Scenario("tls-lost-soon", "nothing; then, too soon, no STARTTLS", each(ENCRYPTED, CLEAR),
             then=(_to_eve(NO_STARTTLS),)),
    Scenario("tls-lost-long-ago", "nothing; then, after one mail, no STARTTLS", each(ENCRYPTED, CLEAR),
             then=(Phase(), _to_eve(NO_STARTTLS))),
)  # fmt: skip
