"""Which addresses may be connected to: a table of each kind, with both edges of each network."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.guard import AddressGuard

PUBLIC = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.31.196.1",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2606:4700:4700::1111",
    "2a01:4f8::1",
    "3fff:1000::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2001:0:808:808::f7f7:f7f7",
]

PRIVATE = [
    ("10.0.0.0", "a private address"),
    ("10.255.255.255", "a private address"),
    ("100.64.0.0", "carrier"),
    ("100.127.255.255", "carrier"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("169.254.0.0", "link-local"),
    ("169.254.169.254", "link-local"),  # where clouds keep their secrets
    ("172.16.0.0", "a private address"),
    ("172.31.255.255", "a private address"),
    ("192.0.0.8", "protocols"),  # "global" for Python 3.11's ipaddress
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "reserved"),
    ("192.168.0.0", "a private address"),
    ("192.168.255.255", "a private address"),
    ("198.18.0.0", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.255", "documentation"),
    ("240.0.0.0", "reserved"),
    ("255.255.255.254", "reserved"),
    ("::1", "loopback"),
    ("0:0:0:0:0:0:0:1", "loopback"),
    ("::2", "reserved"),
    ("::127.0.0.1", "reserved"),  # the IPv4-compatible addresses of old
    ("::8.8.8.8", "reserved"),
    ("::ffff:127.0.0.1", "for 127.0.0.1, a loopback"),
    ("::ffff:7f00:1", "for 127.0.0.1, a loopback"),
    ("::ffff:10.1.2.3", "for 10.1.2.3, a private"),
    ("::ffff:0:127.0.0.1", "reserved"),  # IPv4-translated, RFC 2765
    ("64:ff9b::10.0.0.1", "for 10.0.0.1, a private"),
    ("64:ff9b::169.254.169.254", "link-local"),
    ("64:ff9b:1::8.8.8.8", "NAT64"),
    ("100::1", "discards"),
    ("2001:0:7f00:1::f7f7:f7f7", "for 127.0.0.1, a loopback"),  # Teredo by a private server
    ("2001:0:808:808::80ff:fffe", "for 127.0.0.1, a loopback"),  # Teredo to a private client
    ("2001:2::1", "protocols"),
    ("2001:10::1", "protocols"),
    ("2001:1ff:ffff::", "protocols"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::1", "for 127.0.0.1, a loopback"),  # "global" for Python 3.11's ipaddress
    ("2002:c0a8:101::1", "for 192.168.1.1, a private"),
    ("3fff::1", "documentation"),
    ("4000::1", "reserved"),
    ("5f00::1", "reserved"),
    ("fc00::1", "a private address"),
    ("fdff:ffff::1", "a private address"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
]

NEVER = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::%1", "unspecified"),
    ("::ffff:0.0.0.0", "for 0.0.0.0, the unspecified"),
    ("64:ff9b::", "for 0.0.0.0, the unspecified"),
    ("64:ff9b::255.255.255.255", "broadcast"),
    ("2002:e000:1::1", "for 224.0.0.1, a multicast"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("", "not an IP address"),
    ("mx.example.org", "not an IP address"),
    ("127.1", "not an IP address"),  # the C library would take these three for 127.0.0.1
    ("0x7f000001", "not an IP address"),
    ("2130706433", "not an IP address"),
    ("127.000.000.001", "not an IP address"),
    ("[::1]", "not an IP address"),
    ("10.0.0.0/8", "not an IP address"),
    ("1.1.1.1\n", "not an IP address"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert AddressGuard(allow_private=False).refusal(address) is None
    assert AddressGuard(allow_private=True).refusal(address) is None


@pytest.mark.parametrize(("address", "why"), PRIVATE)
def test_private_addresses_pass_only_when_allowed(address: str, why: str) -> None:
    refusal = AddressGuard(allow_private=False).refusal(address)
    assert refusal is not None
    assert refusal.startswith(address)
    assert why in refusal
    assert AddressGuard(allow_private=True).refusal(address) is None


@pytest.mark.parametrize(("address", "why"), NEVER)
def test_what_is_never_an_address_of_a_host(address: str, why: str) -> None:
    for allow_private in (False, True):
        refusal = AddressGuard(allow_private).refusal(address)
        assert refusal is not None
        assert why in refusal


_DISGUISES = [ipaddress.IPv6Network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16")]


@given(st.ip_addresses())
def test_nothing_passes_that_python_calls_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Not the other way round: is_global lets too much pass. What has an IPv4 address inside is tested below."""
    if any(address in network for network in _DISGUISES):
        return
    if AddressGuard(allow_private=False).refusal(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_an_address_in_disguise_is_judged_like_itself(address: ipaddress.IPv4Address) -> None:
    guard = AddressGuard(allow_private=False)
    bare = guard.refusal(str(address)) is None
    number = int(address)
    for disguise in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80):
        assert (guard.refusal(str(ipaddress.IPv6Address(disguise))) is None) is bare
