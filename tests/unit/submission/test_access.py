"""Who may send to anyone: the one decision that makes an open relay or not."""

from __future__ import annotations

import ipaddress

import pytest

from relay.submission.access import client_address, may_relay

ADDRESSES = {
    "192.0.2.1": "192.0.2.1",
    "::1": "::1",
    "2001:db8::1": "2001:db8::1",
    "::ffff:192.0.2.1": "192.0.2.1",  # what a socket for both families names an IPv4 client
    "::FFFF:c000:201": "192.0.2.1",
    "::192.0.2.1": "::c000:201",  # not the mapped form
    "64:ff9b::192.0.2.1": "64:ff9b::c000:201",
}


@pytest.mark.parametrize("host", ADDRESSES)
def test_client_address(host: str) -> None:
    assert client_address(host) == ipaddress.ip_address(ADDRESSES[host])


@pytest.mark.parametrize("host", ["", "localhost", "192.0.2", "192.0.2.1:25", "[::1]", "/run/socket"])
def test_no_address(host: str) -> None:
    with pytest.raises(ValueError):
        client_address(host)


# client, login, trusted networks -> may it
CASES = [
    ("127.0.0.1", None, [], False),
    ("127.0.0.1", None, ["127.0.0.0/8"], True),
    ("128.0.0.1", None, ["127.0.0.0/8"], False),
    ("192.0.2.1", None, ["192.0.2.1/32"], True),
    ("192.0.2.2", None, ["192.0.2.1/32"], False),
    ("192.0.2.2", None, ["198.51.100.0/24", "192.0.2.0/24"], True),
    ("192.0.2.1", None, ["::/0"], False),  # each family for itself
    ("2001:db8::1", None, ["0.0.0.0/0"], False),
    ("2001:db8::1", None, ["2001:db8::/32"], True),
    ("2001:db9::1", None, ["2001:db8::/32"], False),
    ("::1", None, ["127.0.0.0/8"], False),
    ("192.0.2.1", "alice", [], True),
    ("192.0.2.1", "alice", ["198.51.100.0/24"], True),
    ("192.0.2.1", "", [], True),  # a name was accepted, whatever it is: None alone says that nobody has logged in
]


@pytest.mark.parametrize(("client", "login", "networks", "expected"), CASES)
def test_may_relay(client: str, login: str | None, networks: list[str], expected: bool) -> None:
    trusted = [ipaddress.ip_network(network) for network in networks]
    assert may_relay(ipaddress.ip_address(client), login, trusted) is expected


def test_a_mapped_client_is_in_its_ipv4_network() -> None:
    trusted = [ipaddress.ip_network("192.0.2.0/24")]
    assert may_relay(client_address("::ffff:192.0.2.1"), None, trusted)
    assert not may_relay(client_address("::ffff:192.0.3.1"), None, trusted)
