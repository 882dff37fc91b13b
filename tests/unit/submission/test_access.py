"""The address of a client."""

from __future__ import annotations

import ipaddress

import pytest

from relay.submission.access import client_address

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
