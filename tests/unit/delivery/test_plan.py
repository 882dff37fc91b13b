"""What sessions are shared by: never across hosts, addresses, demands, sources, EHLO names and logins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.delivery.opening import Target
from relay.delivery.plan import session_key
from relay.delivery.pool import SessionKey
from relay.policy.observed import TlsVersion
from relay.policy.requirement import Level, Requirement, Rule
from relay.policy.routing import Hop, Place
from relay.policy.source import Source

TARGET = Target("mx.test", "192.0.2.1", 25)
NEED = Requirement("mx.test", "mx.test", Level.ANY, Rule.OPPORTUNISTIC)
SOURCE = Source("192.0.2.9", "2001:db8::9", "relay.test")
HOP = Hop("hop", (Place("mx.test", 25),), user="me")
KEY = session_key(TARGET, NEED, SOURCE)


@pytest.mark.parametrize(
    "other",
    [
        session_key(replace(TARGET, host="mx2.test"), NEED, SOURCE),
        session_key(replace(TARGET, address="192.0.2.2"), NEED, SOURCE),
        session_key(replace(TARGET, port=26), NEED, SOURCE),
        session_key(TARGET, replace(NEED, level=Level.ENCRYPTED), SOURCE),
        session_key(TARGET, replace(NEED, minimum=TlsVersion.TLS_1_2), SOURCE),
        session_key(TARGET, replace(NEED, starttls=False), SOURCE),
        session_key(TARGET, NEED, replace(SOURCE, ipv4="192.0.2.8")),
        session_key(TARGET, NEED, replace(SOURCE, ipv4="")),
        session_key(TARGET, NEED, replace(SOURCE, hostname="news.test")),
        session_key(TARGET, NEED, SOURCE, HOP),
    ],
    ids=str,
)
def test_sessions_that_are_not_shared(other: SessionKey) -> None:
    assert other != KEY


@pytest.mark.parametrize(
    "source", [SOURCE, replace(SOURCE, ipv6=""), replace(SOURCE, rule=("a.example",))], ids=["same", "ipv6", "rule"]
)
def test_sessions_that_are_shared(source: Source) -> None:
    """What makes no difference to the host makes none here: the other family, and who wrote the address down."""
    assert session_key(TARGET, NEED, source) == KEY


@pytest.mark.parametrize("other", [replace(HOP, user="you"), replace(HOP, name="other"), replace(HOP, user=None)])
def test_logins_are_told_apart(other: Hop) -> None:
    assert session_key(TARGET, NEED, SOURCE, other) != session_key(TARGET, NEED, SOURCE, HOP)


def test_a_route_without_a_login_shares_with_others() -> None:
    assert session_key(TARGET, NEED, SOURCE, replace(HOP, user=None)) == KEY
