"""Reports by HTTPS to hosts that strangers name: a real aiohttp server, real certificates, real DNS."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta

import pytest
from report_endpoint import CA, Endpoint

from relay.guard import AddressGuard
from relay.lab.certs import Leaf
from relay.lab.zones import Zone, Zones
from relay.lookup.resolver import Resolver
from relay.policy.tlsrpt_record import HttpsTo, TlsrptRecord, parse_tlsrpt
from relay.tls import https_context, https_context_unverified
from relay.tlsrpt.post import NotPosted, Posted, Poster

VERIFIED = https_context(CA.pem)
REPORT = b"\x1f\x8b" + b"report" * 5000
DNS = "@ A 127.0.0.1\nelsewhere A 192.0.2.1\n"


def place(uri: str) -> HttpsTo:
    found = parse_tlsrpt((f"v=TLSRPTv1; rua={uri}".encode(),))
    assert isinstance(found, TlsrptRecord)
    [only] = found.places
    assert isinstance(only, HttpsTo)
    return only


async def post(uri: str, *, private: bool = True, timeout: timedelta = timedelta(seconds=5)) -> Posted | NotPosted:
    zones = Zones({"r.test": Zone(DNS, ttl=0)})
    resolver = Resolver([await zones.start()], timedelta(seconds=0.5))
    try:
        poster = Poster(resolver, AddressGuard(private), VERIFIED, https_context_unverified(), timeout)
        return await poster.post(place(uri), REPORT)
    finally:
        await resolver.close()
        await zones.stop()


@pytest.mark.asyncio
async def test_it_arrives() -> None:
    endpoint = Endpoint()
    async with endpoint.running() as port:
        assert await post(f"https://r.test:{port}/v1/t%2Clsrpt?a=%21") == Posted(201)
    [(method, path, headers, body)] = endpoint.got
    assert (method, path, body) == ("POST", "/v1/t%2Clsrpt?a=%21", REPORT)
    assert headers["Content-Type"] == "application/tlsrpt+gzip"
    assert headers["Host"] == f"r.test:{port}"
    assert headers["User-Agent"] == "Relay"
    assert not {"Authorization", "Cookie", "Content-Encoding"} & set(headers)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (200, Posted(200)),
        (204, Posted(204)),
        (302, NotPosted("r.test answered with a redirect (302), which is not followed")),
        (400, NotPosted("r.test answered 400")),
        (410, NotPosted("r.test answered 410")),
        (503, NotPosted("r.test answered 503")),
    ],
)
@pytest.mark.asyncio
async def test_what_the_host_answers(status: int, found: Posted | NotPosted) -> None:
    endpoint = Endpoint(status=status, headers={"Location": "/again", "Set-Cookie": "a=b"} if status != 204 else {})
    async with endpoint.running() as port:
        assert await post(f"https://r.test:{port}/") == found
    assert len(endpoint.got) == 1


@pytest.mark.asyncio
async def test_a_long_answer_is_not_read() -> None:
    async with Endpoint(answer=b"x" * (8 << 20)).running() as port:
        assert await post(f"https://r.test:{port}/") == Posted(201)


@pytest.mark.parametrize(
    ("leaf", "name", "fault"),
    [
        (Leaf.EXPIRED, "r.test", "certificate has expired"),
        (Leaf.SELF_SIGNED, "r.test", "self-signed certificate"),
        (Leaf.UNKNOWN_CA, "r.test", "self-signed certificate in certificate chain|unable to get local issuer"),
        (Leaf.GOOD, "other.test", "Hostname mismatch"),
    ],
)
@pytest.mark.asyncio
async def test_a_bad_certificate_is_told_of_and_no_hindrance(leaf: Leaf, name: str, fault: str) -> None:
    endpoint = Endpoint()
    async with endpoint.running(leaf, name) as port:
        found = await post(f"https://r.test:{port}/")
    assert isinstance(found, Posted)
    assert found.certificate_fault is not None
    assert any(one in found.certificate_fault for one in fault.split("|"))
    assert [body for *_, body in endpoint.got] == [REPORT]  # once


@pytest.mark.asyncio
async def test_a_host_that_does_not_answer() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until we hang up
        writer.close()
        gone.set()

    context = CA.issue(("r.test",), Leaf.GOOD).server_context()
    async with await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        found = await post(f"https://r.test:{port}/", timeout=timedelta(seconds=0.3))
        await gone.wait()
    assert found == NotPosted("r.test did not answer within 0.3 seconds")


@pytest.mark.asyncio
async def test_nobody_listens_there() -> None:
    assert await post("https://r.test:1/") == NotPosted("r.test: no connection to it could be made")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("https://r.test/", "loopback"),
        ("https://elsewhere.r.test/", "documentation"),
        ("https://nowhere.r.test/", "no address"),
    ],
)
@pytest.mark.asyncio
async def test_addresses_that_nobody_may_send_us_to(uri: str, reason: str) -> None:
    found = await post(uri, private=False)
    assert isinstance(found, NotPosted)
    assert reason in found.reason


def test_the_first_context_must_verify() -> None:
    resolver = Resolver([], timedelta(seconds=1))
    with pytest.raises(ValueError, match="must verify"):
        Poster(resolver, AddressGuard(False), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), https_context_unverified())
