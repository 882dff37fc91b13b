"""Where an operator may send mail that waits."""

from __future__ import annotations

import pytest

from relay.policy.routing import Discard, Entry, Hop, Place, Routes
from relay.rerouting import chosen_route

BACKUP = Entry("backup", Hop("backup", (Place("mx.example.org", 25),)))
ROUTES = Routes((BACKUP, Entry("nowhere", Discard("nowhere"))), next_hop=Place("192.0.2.1", 25))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("default", None),
        ("direct", "direct"),
        ("backup", "backup"),
        ("nowhere", "nowhere"),
        ("next-hop", "next-hop"),
        ("Gateway.example.org.:2525", "gateway.example.org:2525"),
        ("[2001:DB8::1]:25", "[2001:db8::1]:25"),
    ],
)
def test_where_it_may_go(text: str, wanted: str | None) -> None:
    assert chosen_route(text, ROUTES) == wanted


@pytest.mark.parametrize(
    "text", ["", "fallback", "Backup", "example.org", "host:0", "host:99999", "1.2.3:25", "a b:25"]
)
def test_where_it_may_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be one of backup, nowhere, next-hop, direct, default, or host:port"):
        chosen_route(text, ROUTES)
