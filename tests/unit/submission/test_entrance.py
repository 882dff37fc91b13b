"""Whose address a header gives, and to whom it gives none."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from relay.policy.clients import Peer
from relay.settings import ListenerSettings
from relay.submission.entrance import client_of
from relay.submission.proxy import Header

LISTENER = ListenerSettings.model_validate(
    {"name": "x", "listen": ["127.0.0.1:25"], "proxy_from": ["127.0.0.1/32", "192.0.2.100/31", "2001:db8::/64"]}
)


@pytest.mark.parametrize(
    ("proxy", "told", "address", "known"),
    [
        ("192.0.2.100", "198.51.100.1", "198.51.100.1", True),
        ("192.0.2.100", "2001:db8:1::1", "2001:db8:1::1", True),
        ("192.0.2.100", None, "192.0.2.100", False),
        ("192.0.2.100", "192.0.2.100", "192.0.2.100", False),
        ("192.0.2.100", "192.0.2.101", "192.0.2.101", False),  # the proxy before it
        ("192.0.2.100", "2001:db8::7", "2001:db8::7", False),
        ("192.0.2.100", "127.0.0.2", "127.0.0.2", False),  # loopback there is not loopback here
        ("192.0.2.100", "::1", "::1", False),
        ("127.0.0.1", "127.0.0.2", "127.0.0.2", True),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", None, "127.0.0.1", False),
    ],
)
def test_whose_address_it_is(proxy: str, told: str | None, address: str, known: bool) -> None:
    header = Header(28, None if told is None else ip_address(told))
    found = client_of(header, Peer(ip_address(proxy), "x"), LISTENER)
    assert found == Peer(ip_address(address), "x", known=known)
    assert found.is_in([LISTENER.proxy_from[0].supernet(new_prefix=0)]) is (known and found.address.version == 4)
    assert not (found.on_this_machine and not known)
