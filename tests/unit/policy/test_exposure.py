"""Settings that make an open relay, whatever they are called."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from relay.policy.exposure import is_the_world
from relay.settings import Settings

EVERYBODY = "0.0.0.0/0"
TABLE = {"name": "c", "networks": [EVERYBODY]}


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("0.0.0.0/1", True),  # two halves are the whole
        ("128.0.0.0/1", True),
        ("2000::/3", True),  # all of IPv6 that has been given out
        ("64.0.0.0/7", True),
        ("fc00::/6", True),
        ("fc00::/7", False),  # private
        ("10.0.0.0/8", False),
        ("127.0.0.0/8", False),
        ("fd00::/8", False),
        ("fe80::/10", True),  # nobody needs so much of it
        ("192.0.2.0/24", False),
        ("2001:db8::/32", False),
    ],
)
def test_how_wide_is_the_world(network: str, found: bool) -> None:
    assert is_the_world(ip_network(network)) is found


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, []),
        (
            {"submission": {"trusted_networks": ["192.0.2.0/24", EVERYBODY, "::/0"]}},
            [("submission.trusted_networks", EVERYBODY), ("submission.trusted_networks", "::/0")],
        ),
        ({"client": [TABLE]}, [("[[client]] c", EVERYBODY)]),
        ({"client": [{**TABLE, "recipients": ["*"]}]}, [("[[client]] c", EVERYBODY)]),
        ({"client": [{**TABLE, "senders": ["example.org"]}]}, [("[[client]] c", EVERYBODY)]),  # anybody can say so
        ({"client": [{**TABLE, "recipients": ["example.org"]}]}, []),  # mail for a domain of ours
        ({"client": [{**TABLE, "users": ["*"]}]}, []),
        ({"client": [{**TABLE, "certificates": ["mail.example.org"]}]}, []),
        (
            {"listener": [{"name": "a", "listen": ["127.0.0.1:25"], "proxy_from": ["192.0.2.1/32", EVERYBODY]}]},
            [("proxy_from of [[listener]] a", EVERYBODY)],
        ),
    ],
)
def test_what_opens_the_relay(settings: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert list(Settings.model_validate(settings).exposures) == found
