"""Fetching MTA-STS policies from HTTPS hosts that do everything wrong, and what is in force afterwards."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.events import Event, PolicyChanged, PolicyFetched, PolicyFetchFailed
from relay.guard import AddressGuard
from relay.lab.certs import LabCa, Leaf
from relay.lab.zones import Fault, Security, Zone, Zones
from relay.lookup.resolver import Resolver
from relay.lookup.sts import BACK_OFF, StsFinder
from relay.lookup.sts_cache import FILE_NAME, StsCache
from relay.lookup.sts_fetch import PolicyFetcher
from relay.policy.sts import (
    NoSts,
    StsFetchFailed,
    StsFound,
    StsMode,
    StsPolicy,
    StsProblem,
    StsResult,
    StsUnknown,
    parse_policy,
)
from relay.settings import HostPort
from relay.tls import https_context

CA = LabCa.make(datetime.now(UTC))
CONTEXT = https_context(CA.pem)
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmax_age: 86400\r\n"
TIMEOUT = timedelta(seconds=5)

Respond = Callable[[asyncio.Transport], None]


def http(body: bytes = POLICY, status: str = "200 OK", length: bool = True, **headers: str) -> bytes:
    """A response in octets; an underscore in a header's name stands for a hyphen."""
    lines = {"Content_Type": "text/plain", **({"Content_Length": str(len(body))} if length else {}), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value != "none")
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


@dataclass
class PolicyHost:
    """An HTTPS server on loopback that answers each request with `answer`, octet by octet as given, or as `respond`."""

    answer: bytes = field(default_factory=http)
    respond: Respond | None = None
    requests: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, names: tuple[str, ...] = ("mta-sts.a.test",), leaf: Leaf = Leaf.GOOD) -> AsyncIterator[int]:
        context = CA.issue(names, leaf).server_context()
        context.sni_callback = lambda _, name, __: self.names.append(name)
        async with self.on(context) as port:
            yield port

    @asynccontextmanager
    async def on(self, context: ssl.SSLContext) -> AsyncIterator[int]:
        connections: list[_Connection] = []

        def connection() -> _Connection:
            connections.append(_Connection(self))
            return connections[-1]

        server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for each in connections:
                each.end()
            await server.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(self, host: PolicyHost) -> None:
        self.host = host
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        if not self.received.endswith(b"\r\n\r\n"):
            return
        self.host.requests.append(self.received)
        if self.host.respond is not None:
            self.host.respond(self.transport)
        else:
            self.transport.write(self.host.answer)
            self.transport.close()

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()


@asynccontextmanager
async def dns(
    records: str = "mta-sts A 127.0.0.1", security: Security = Security.UNSIGNED
) -> AsyncIterator[tuple[Zones, Resolver]]:
    zones = Zones({"a.test": Zone(records, security, ttl=0)})
    resolver = Resolver([await zones.start()], timedelta(seconds=0.5))
    try:
        yield zones, resolver
    finally:
        await resolver.close()
        await zones.stop()


async def fetch(
    host: PolicyHost, names: tuple[str, ...] = ("mta-sts.a.test",), leaf: Leaf = Leaf.GOOD, timeout: timedelta = TIMEOUT
) -> StsPolicy | StsFetchFailed:
    async with dns() as (_, resolver), host.running(names, leaf) as port:
        return await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT, timeout).fetch("a.test")


GOOD_ANSWERS = {
    "plain": http(),
    "with a charset": http(Content_Type="text/plain; charset=utf-8"),
    "with a nonsense charset": http(Content_Type="TEXT/PLAIN ;charset=x-klingon"),
    "in chunks": chunked(POLICY),
    "identity encoding": http(Content_Encoding="identity"),
    "as large as allowed": http(POLICY + b"x: " + b"y" * (65536 - len(POLICY) - 3)),
    "with a cookie": http(Set_Cookie="a=b"),
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", GOOD_ANSWERS.values(), ids=GOOD_ANSWERS)
async def test_good_answers(answer: bytes) -> None:
    policy = await fetch(PolicyHost(answer))
    assert isinstance(policy, StsPolicy), policy
    assert (policy.mode, policy.mx, policy.max_age) == (StsMode.ENFORCE, ("mx.a.test",), timedelta(days=1))


UNFIT = "the policy could not be fetched from mta-sts.a.test: "


def unfetched(why: str) -> StsFetchFailed:
    return StsFetchFailed(UNFIT + why, StsProblem.FETCH)


TOO_LARGE = UNFIT + "its answer is larger than 65536 octets"
NOT_HTTP = UNFIT + "it did not answer in proper HTTP"
BAD_ANSWERS = {
    "301": (
        http(status="301 Moved", Location="https://mta-sts.a.test/policy"),
        UNFIT + "it answered with a redirect (301)",
    ),
    "302 with a policy": (http(status="302 Found", Location="/x"), UNFIT + "it answered with a redirect (302)"),
    "307 to http": (
        http(status="307 x", Location="http://mta-sts.a.test/"),
        UNFIT + "it answered with a redirect (307)",
    ),
    "404 with a policy": (http(status="404 Not Found"), UNFIT + "it answered 404"),
    "500 with a policy": (http(status="500 Oops"), UNFIT + "it answered 500"),
    "201 with a policy": (http(status="201 Created"), UNFIT + "it answered 201"),
    "203 with a policy": (http(status="203 x"), UNFIT + "it answered 203"),
    "206 with a policy": (http(status="206 Partial Content"), UNFIT + "it answered 206"),
    "204": (http(b"", status="204 No Content"), UNFIT + "it answered 204"),
    "html": (http(Content_Type="text/html"), UNFIT + "its answer is not of the type text/plain"),
    "no type": (http(Content_Type="none"), UNFIT + "its answer is not of the type text/plain"),
    "nonsense type": (http(Content_Type="plain text"), UNFIT + "its answer is not of the type text/plain"),
    "text/plainer": (http(Content_Type="text/plainer"), UNFIT + "its answer is not of the type text/plain"),
    "gzip": (http(gzip.compress(POLICY), Content_Encoding="gzip"), UNFIT + "its answer is compressed"),
    "gzip bomb": (http(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"), UNFIT + "its answer is compressed"),
    "said to be compressed": (http(Content_Encoding="br"), UNFIT + "its answer is compressed"),
    "one octet too many": (http(POLICY + b"x: " + b"y" * (65536 - len(POLICY) - 2)), TOO_LARGE),
    "5 MB": (http(POLICY + b"x: " + b"y" * 5_000_000), TOO_LARGE),
    "5 MB in a chunk": (chunked(POLICY + b"x: " + b"y" * 5_000_000), TOO_LARGE),
    "no length": (http(length=False), UNFIT + "its answer does not say where it ends"),
    "shorter than it says": (http(Content_Length="1000"), NOT_HTTP),
    "chunks without an end": (chunked(POLICY)[:-5], NOT_HTTP),
    "nothing": (b"", NOT_HTTP),
    "no HTTP": (b"220 mx.a.test ESMTP\r\n", NOT_HTTP),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, NOT_HTTP),
    "two lengths": (http(Content_length="7"), NOT_HTTP),
    "empty": (http(b""), "the policy at mta-sts.a.test is not valid: there is no version"),
    "a web page": (http(b"<html>\n"), "the policy at mta-sts.a.test is not valid: line 1 is not a key"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("answer", "reason"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_bad_answers(answer: bytes, reason: str) -> None:
    found = await fetch(PolicyHost(answer))
    assert isinstance(found, StsFetchFailed)
    assert found.reason.startswith(reason)
    assert found.problem is (StsProblem.INVALID if " is not valid: " in reason else StsProblem.FETCH)


def drip(transport: asyncio.Transport) -> None:
    """Never silent, never done."""
    transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n")

    def drop() -> None:
        if not transport.is_closing():
            transport.write(b"x")
            asyncio.get_running_loop().call_later(0.01, drop)

    drop()


def silence(transport: asyncio.Transport) -> None:
    """Not a word."""


@pytest.mark.asyncio
@pytest.mark.parametrize("respond", [drip, silence])
async def test_one_time_limit_for_all(respond: Respond) -> None:
    found = await fetch(PolicyHost(respond=respond), timeout=timedelta(seconds=0.3))
    what = "the policy host mta-sts.a.test did not send the policy within 0.3 seconds"
    assert found == StsFetchFailed(what, StsProblem.FETCH)


@pytest.mark.asyncio
async def test_what_is_asked() -> None:
    host = PolicyHost()
    assert isinstance(await fetch(host), StsPolicy)
    request = host.requests[0].decode()
    assert request.startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.a.test:")
    assert "Accept-Encoding: identity\r\n" in request
    assert "User-Agent: Relay\r\n" in request
    assert "\r\nCookie:" not in request
    assert "\r\nAuthorization:" not in request
    assert host.names == ["mta-sts.a.test"]  # SNI


@pytest.mark.asyncio
async def test_no_proxy_and_no_netrc_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine mta-sts.a.test login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    host = PolicyHost()
    assert isinstance(await fetch(host), StsPolicy)
    assert b"\r\nAuthorization:" not in host.requests[0]


REFUSED = UNFIT + "its certificate was not accepted ("
CERTIFICATES = [
    (("mta-sts.b.test",), Leaf.GOOD, REFUSED + "Hostname mismatch"),
    (("a.test",), Leaf.GOOD, REFUSED + "Hostname mismatch"),
    (("*.*.test",), Leaf.GOOD, REFUSED + "Hostname mismatch"),
    (("mta-sts.a.test",), Leaf.CN_ONLY, REFUSED + "Hostname mismatch"),
    (("mta-sts.a.test",), Leaf.EXPIRED, REFUSED + "certificate has expired"),
    (("mta-sts.a.test",), Leaf.NOT_YET_VALID, REFUSED + "certificate is not yet valid"),
    (("mta-sts.a.test",), Leaf.SELF_SIGNED, REFUSED + "self"),
    (("mta-sts.a.test",), Leaf.UNKNOWN_CA, REFUSED),
    (("mta-sts.a.test",), Leaf.MISSING_INTERMEDIATE, REFUSED + "unable to get local issuer certificate"),
    (("mta-sts.a.test",), Leaf.CLIENT_EKU, REFUSED),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("names", "leaf", "reason"), CERTIFICATES)
async def test_the_host_must_prove_its_name(names: tuple[str, ...], leaf: Leaf, reason: str) -> None:
    host = PolicyHost()
    found = await fetch(host, names, leaf)
    assert isinstance(found, StsFetchFailed)
    assert found.reason.startswith(reason)
    assert found.problem is StsProblem.CERTIFICATE
    assert not host.requests


@pytest.mark.asyncio
async def test_a_wildcard_certificate_is_fine() -> None:
    assert isinstance(await fetch(PolicyHost(), ("*.a.test",)), StsPolicy)


@pytest.mark.asyncio
async def test_old_tls() -> None:
    host = PolicyHost()
    old = CA.issue(("mta-sts.a.test",)).server_context(ssl.TLSVersion.TLSv1_1)
    async with dns() as (_, resolver), host.on(old) as port:
        found = await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT).fetch("a.test")
    assert found == unfetched("no connection to it could be made")  # asyncio's servers just hang up
    assert not host.requests


class ClearText(asyncio.Protocol):
    """Answers HTTP to whatever comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(http())
        transport.close()


@pytest.mark.asyncio
async def test_no_tls() -> None:
    server = await asyncio.get_running_loop().create_server(ClearText, "127.0.0.1", 0)
    async with dns() as (_, resolver):
        port = server.sockets[0].getsockname()[1]
        found = await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT).fetch("a.test")
    server.close()
    await server.wait_closed()
    assert found == unfetched("the TLS handshake failed")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ("mta-sts A 127.0.0.1", "127.0.0.1 is a loopback address"),
        ("mta-sts AAAA ::1", "::1 is a loopback address"),
        ("mta-sts AAAA ::ffff:127.0.0.1", "::ffff:127.0.0.1 is an address for 127.0.0.1, a loopback address"),
        ("mta-sts A 169.254.169.254", "169.254.169.254 is a link-local address"),
        ("mta-sts CNAME inside\ninside A 10.0.0.1", "10.0.0.1 is a private address"),
        ("mta-sts A 0.0.0.0", "0.0.0.0 is the unspecified address"),
    ],
)
async def test_inner_addresses_are_not_connected_to(records: str, reason: str) -> None:
    host = PolicyHost()
    async with dns(records) as (_, resolver), host.running() as port:
        found = await PolicyFetcher(resolver, port, AddressGuard(False), CONTEXT).fetch("a.test")
    assert found == unfetched(reason)
    assert not host.requests
    assert not host.names


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("records", "security", "reason"),
    [
        ("x A 127.0.0.1", Security.UNSIGNED, "it has no address"),
        ("mta-sts TXT x", Security.UNSIGNED, "it has no address"),
        (
            "mta-sts A 127.0.0.1",
            Security.BOGUS,
            "the DNS answer for mta-sts.a.test (AAAA) failed DNSSEC validation",
        ),
    ],
)
async def test_hosts_without_addresses(records: str, security: Security, reason: str) -> None:
    async with dns(records, security) as (_, resolver):
        found = await PolicyFetcher(resolver, 443, AddressGuard(True), CONTEXT).fetch("a.test")
    assert found == unfetched(reason)


@pytest.mark.asyncio
async def test_forged_addresses_of_one_family_spoil_those_of_the_other() -> None:
    host = PolicyHost()
    async with dns("mta-sts A 127.0.0.1") as (zones, resolver), host.running() as port:
        zones.set_fault("mta-sts.a.test", "AAAA", Fault.BOGUS)
        found = await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT).fetch("a.test")
    assert found == unfetched("the DNS answer for mta-sts.a.test (AAAA) failed DNSSEC validation")
    assert not host.requests


@pytest.mark.asyncio
async def test_an_alias_is_followed_and_must_not_change_the_name() -> None:
    async with dns("mta-sts CNAME elsewhere\nelsewhere A 127.0.0.1") as (_, resolver):
        for name, good in (("mta-sts.a.test", True), ("elsewhere.a.test", False)):
            async with PolicyHost().running((name,)) as port:
                found = await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT).fetch("a.test")
                assert isinstance(found, StsPolicy) is good


@pytest.mark.asyncio
async def test_a_closed_port() -> None:
    async with PolicyHost().running() as port:
        pass
    async with dns() as (_, resolver):
        found = await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT).fetch("a.test")
    assert found == unfetched("no connection to it could be made")


@pytest.mark.asyncio
async def test_the_second_address_is_tried() -> None:
    async with (
        dns("mta-sts A 127.0.0.1\nmta-sts A 127.9.9.9\nmta-sts AAAA ::1") as (_, resolver),
        PolicyHost().running() as port,
    ):
        fetcher = PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT)
        assert isinstance(await fetcher.fetch("a.test"), StsPolicy)


@pytest.mark.parametrize("fault", ["verify_mode", "check_hostname", "common_name", "version"])
def test_a_context_that_does_not_verify_is_refused(fault: str) -> None:
    context = https_context(CA.pem)
    if fault in ("verify_mode", "check_hostname"):
        context.check_hostname = False
    if fault == "verify_mode":
        context.verify_mode = ssl.CERT_NONE
    if fault == "common_name":
        context.hostname_checks_common_name = True
    if fault == "version":
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    resolver = Resolver([HostPort(host="127.0.0.1", port=53)], TIMEOUT)
    with pytest.raises(ValueError, match="polic"):
        PolicyFetcher(resolver, 443, AddressGuard(False), context)


# What is in force.


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@dataclass
class Stage:
    """A domain, a.test, its DNS and policy host, and a finder that can be restarted."""

    zones: Zones
    host: PolicyHost
    resolver: Resolver
    folder: Path
    port: int
    clock: Clock = field(default_factory=Clock)
    events: list[Event] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def record(self, *texts: str) -> None:
        self.zones.replace("_mta-sts.a.test", "TXT", *(f'"{text}"' for text in texts))

    async def begin(self) -> None:
        self.cache = StsCache(self.folder, self.troubles.append)
        await self.cache.open()
        fetcher = PolicyFetcher(self.resolver, self.port, AddressGuard(True), CONTEXT, timedelta(seconds=2))
        self.finder = StsFinder(self.resolver, self.cache, fetcher, self.clock, self.events.append)

    async def end(self) -> None:
        await self.finder.close()
        await self.cache.close()

    async def restart(self) -> None:
        await self.end()
        await self.begin()

    async def find(self) -> StsResult:
        self.resolver._cache.clear()  # as if its TTL had passed
        return await self.finder.find("a.test")

    @property
    def fetches(self) -> int:
        return len(self.host.requests)


@asynccontextmanager
async def stage(tmp_path: Path, security: Security = Security.UNSIGNED) -> AsyncIterator[Stage]:
    records = '_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A 127.0.0.1'
    host = PolicyHost()
    async with dns(records, security) as (zones, resolver), host.running() as port:
        play = Stage(zones, host, resolver, tmp_path, port)
        await play.begin()
        try:
            yield play
        finally:
            await play.end()


def found(play: Stage, policy_id: str = "1", stale_reason: str | None = None, body: bytes = POLICY) -> StsFound:
    problem = StsProblem.FETCH if stale_reason == FAILED else None
    return StsFound(parse_policy(body), policy_id, datetime(2026, 1, 1, tzinfo=UTC), stale_reason, problem)


FAILED = UNFIT + "it answered 404"
NO_RECORD = "there is no TXT record at _mta-sts.a.test"


@pytest.mark.asyncio
async def test_a_policy_is_fetched_once_and_survives_a_restart(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        assert await play.find() == found(play)
        assert play.events == [PolicyFetched("a.test", "1", "enforce")]
        play.clock.pass_(hours=23)
        assert await play.find() == found(play)
        await play.restart()
        assert await play.find() == found(play)
        assert play.fetches == 1
        assert not play.troubles


@pytest.mark.asyncio
@pytest.mark.parametrize("domain", ["", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
async def test_literals_have_no_policy(tmp_path: Path, domain: str) -> None:
    async with stage(tmp_path) as play:
        assert await play.finder.find(domain) == NoSts()
        assert not play.zones.asked


@pytest.mark.asyncio
async def test_without_a_record_there_is_no_policy(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        for texts in ((), ("v=spf1 -all",), ("v=STSv1; id=1", "v=STSv1; id=2"), ("v=STSv1; id=!",)):
            play.record(*texts)
            assert await play.find() == NoSts()
        assert play.fetches == 0
        assert not play.events


@pytest.mark.asyncio
async def test_neither_record_nor_host_can_end_a_policy_before_its_time(tmp_path: Path) -> None:
    """RFC 8461 sections 3.1 and 10.2: an attacker can bring all of these about."""
    async with stage(tmp_path) as play:
        await play.find()
        play.host.answer = http(status="404 Not Found")
        play.record()
        assert await play.find() == found(play, stale_reason=NO_RECORD)
        play.record("v=STSv1; id=1;", "v=STSv1; id=1;")  # DNS keeps one of the two
        play.record("v=STSv1; id=1;", "v=STSv1; id=3;")
        assert await play.find() == found(play, stale_reason="there is no one valid record at _mta-sts.a.test")
        play.zones.set_fault("_mta-sts.a.test", "TXT", Fault.SERVFAIL)
        reason = "DNS reported a failure (SERVFAIL) for _mta-sts.a.test (TXT)"
        assert await play.find() == found(play, stale_reason=reason)
        play.zones.set_security("a.test", Security.BOGUS)
        play.zones.set_fault("_mta-sts.a.test", "TXT", None)
        assert isinstance(await play.find(), StsFound)
        play.zones.set_security("a.test", Security.UNSIGNED)
        await play.restart()
        play.record()
        assert await play.find() == found(play, stale_reason=NO_RECORD)
        play.clock.pass_(days=1, seconds=-1)
        assert isinstance(await play.find(), StsFound)
        play.clock.pass_(seconds=1)
        assert await play.find() == NoSts()
        assert play.fetches == 1


@pytest.mark.asyncio
async def test_a_new_id_is_fetched_at_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.find()
        body = POLICY.replace(b"enforce", b"none")
        play.host.answer = http(body)
        play.record("v=STSv1; id=2;")
        assert await play.find() == found(play, "2", body=body)
        assert play.events[-1] == PolicyFetched("a.test", "2", "none")
        play.record()
        assert await play.find() == found(play, "2", NO_RECORD, body)  # a fetched "none" counts like any other


@pytest.mark.asyncio
async def test_the_old_policy_stays_when_the_new_one_cannot_be_fetched(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.find()
        play.host.answer = http(status="404 Not Found")
        play.record("v=STSv1; id=2;")
        assert await play.find() == found(play, stale_reason=FAILED)
        assert play.events[-1] == PolicyFetchFailed("a.test", FAILED, in_force="1")
        assert play.fetches == 2
        await play.restart()  # the back-off is kept as well
        play.clock.pass_(seconds=BACK_OFF.total_seconds() - 1)
        assert await play.find() == found(play, stale_reason=FAILED)
        assert play.fetches == 2
        play.clock.pass_(seconds=1)
        assert await play.find() == found(play, stale_reason=FAILED)
        assert play.fetches == 3
        play.clock.pass_(seconds=BACK_OFF.total_seconds())
        play.host.answer = http()
        assert await play.find() == replace(found(play, "2"), fetched_at=play.clock())
        play.host.answer = http(status="404 Not Found")
        assert await play.find() == replace(found(play, "2"), fetched_at=play.clock())
        assert play.fetches == 4


@pytest.mark.asyncio
async def test_another_id_is_fetched_at_once_though_the_last_one_failed(tmp_path: Path) -> None:
    """RFC 8461 section 3.3: the back-off is for each version."""
    async with stage(tmp_path) as play:
        play.host.answer = http(status="404 Not Found")
        assert await play.find() == unfetched("it answered 404")
        await play.restart()
        play.host.answer = http()
        assert await play.find() == unfetched("it answered 404")
        play.record("v=STSv1; id=2;")
        assert await play.find() == found(play, "2")
        assert play.fetches == 2


@pytest.mark.asyncio
async def test_the_old_id_coming_back_makes_the_old_policy_current(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.find()
        play.host.answer = http(status="404 Not Found")
        play.record("v=STSv1; id=2;")
        await play.find()
        play.record("v=STSv1; id=1;")
        assert await play.find() == found(play)


@pytest.mark.asyncio
async def test_a_failed_first_fetch_is_as_if_there_were_no_policy(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.host.answer = http(status="404 Not Found")
        assert await play.find() == unfetched("it answered 404")
        assert play.events == [PolicyFetchFailed("a.test", FAILED, in_force=None)]
        await play.restart()
        assert await play.find() == unfetched("it answered 404")
        assert play.fetches == 1
        play.host.answer = http()
        play.clock.pass_(minutes=5)
        assert isinstance(await play.find(), StsFound)


@pytest.mark.asyncio
async def test_a_clock_set_back_does_not_stop_fetching(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.host.answer = http(status="404 Not Found")
        await play.find()
        play.clock.pass_(days=-30)
        play.host.answer = http()
        assert isinstance(await play.find(), StsFound)


@pytest.mark.asyncio
async def test_an_expired_policy_is_fetched_again_though_its_id_is_the_same(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.find()
        play.clock.pass_(days=1)
        assert await play.find() == replace(found(play), fetched_at=play.clock())
        play.clock.pass_(days=1)
        play.host.answer = http(status="404 Not Found")
        assert await play.find() == unfetched("it answered 404")
        assert play.fetches == 3


@pytest.mark.asyncio
async def test_use_is_noted_once_a_day_and_changes_nothing_else(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.host.answer = http(POLICY.replace(b"86400", b"604800"))
        policy = await play.find()
        for hours, noted in ((23, datetime(2026, 1, 1, tzinfo=UTC)), (2, datetime(2026, 1, 2, 1, tzinfo=UTC))):
            play.clock.pass_(hours=hours)
            assert await play.find() == policy
            await play.restart()
            entry = await play.cache.get("a.test")
            assert entry is not None
            assert (entry.used_at, entry.found) == (noted, policy)


@pytest.mark.asyncio
async def test_a_policy_that_expires_at_once_holds_for_the_delivery_that_fetched_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.host.answer = http(POLICY.replace(b"86400", b"0"))
        for fetches in (1, 2):
            assert isinstance(await play.find(), StsFound)
            assert play.fetches == fetches


@pytest.mark.asyncio
async def test_a_record_that_cannot_be_looked_up(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.zones.set_fault("_mta-sts.a.test", "TXT", Fault.TIMEOUT)
        assert await play.find() == StsFetchFailed("the DNS lookup of _mta-sts.a.test (TXT) timed out")
        play.zones.set_fault("_mta-sts.a.test", "TXT", None)
        play.zones.set_security("a.test", Security.BOGUS)
        reason = "the DNS answer for _mta-sts.a.test (TXT) failed DNSSEC validation"
        assert await play.find() == StsUnknown(reason, bogus=True)


@pytest.mark.asyncio
async def test_a_record_by_alias_and_in_pieces(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.record()
        play.zones.replace("_mta-sts.a.test", "CNAME", "_mta-sts.provider.test.")
        play.zones.set("provider.test", Zone('_mta-sts TXT "v=STS" "v1; id" "=77;"', Security.UNSIGNED))
        assert await play.find() == found(play, "77")


@pytest.mark.asyncio
async def test_many_at_once_share_one_fetch(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        results = await asyncio.gather(*(play.finder.find("a.test") for _ in range(30)))
        assert results == [found(play)] * 30
        assert play.fetches == 1
        assert len(play.events) == 1


@pytest.mark.asyncio
async def test_one_who_gives_up_does_not_end_the_fetch(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        first = asyncio.create_task(play.finder.find("a.test"))
        second = asyncio.create_task(play.finder.find("a.test"))
        while not play.host.requests:
            await asyncio.sleep(0)
        first.cancel()
        assert await second == found(play)


@pytest.mark.asyncio
async def test_refresh_fetches_whatever_the_id(tmp_path: Path) -> None:
    """RFC 8461 section 5.1; administrators who change the policy often forget the id."""
    async with stage(tmp_path) as play:
        await play.find()
        body = POLICY.replace(b"mx.a.test", b"new.a.test")
        play.host.answer = http(body)
        assert await play.finder.refresh("a.test") == found(play)  # fetched just now
        assert play.fetches == 1
        play.clock.pass_(seconds=BACK_OFF.total_seconds())
        assert await play.find() == found(play)
        renewed = replace(found(play, body=body), fetched_at=play.clock())
        assert await play.finder.refresh("a.test") == renewed
        assert play.events[-1] == PolicyChanged("a.test", "1")
        assert await play.find() == renewed
        play.host.answer = http(status="404 Not Found")
        play.clock.pass_(seconds=BACK_OFF.total_seconds())
        assert await play.finder.refresh("a.test") == replace(
            renewed, stale_reason=FAILED, stale_problem=StsProblem.FETCH
        )
        assert await play.finder.refresh("a.test") == replace(
            renewed, stale_reason=FAILED, stale_problem=StsProblem.FETCH
        )
        assert play.fetches == 3  # the last one fell into the back-off
        play.record()
        assert await play.find() == replace(renewed, stale_reason=NO_RECORD)


@pytest.mark.asyncio
@pytest.mark.parametrize(("drawn", "hours"), [(0.0, 6), (0.5, 9), (0.999, 12)])
async def test_policies_are_refreshed_well_before_they_expire(drawn: float, hours: int, tmp_path: Path) -> None:
    """RFC 8461 section 3.3. This policy lives for a day."""
    async with stage(tmp_path) as play:
        await play.find()
        play.clock.pass_(hours=hours, minutes=-1)
        await play.finder.keep_fresh(lambda: drawn)
        assert play.fetches == 1
        await play.restart()  # also what is on disk only
        play.clock.pass_(minutes=1)
        await play.finder.keep_fresh(lambda: drawn)
        assert play.fetches == 2
        fetched_at = play.clock()
        play.clock.pass_(hours=23)
        play.record()
        assert await play.find() == replace(found(play, stale_reason=NO_RECORD), fetched_at=fetched_at)


@pytest.mark.asyncio
async def test_a_failed_refresh_keeps_the_policy_and_a_policy_without_a_record_is_left_alone(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.find()
        play.host.answer = http(status="404 Not Found")
        play.clock.pass_(hours=13)
        await play.finder.keep_fresh(lambda: 0.0)
        assert play.events[-1] == PolicyFetchFailed("a.test", FAILED, in_force="1")
        await play.finder.keep_fresh(lambda: 0.0)
        assert play.fetches == 2  # the second one fell into the back-off
        assert await play.find() == found(play)
        play.record()
        play.clock.pass_(hours=1)
        await play.finder.keep_fresh(lambda: 0.0)
        assert play.fetches == 2


@pytest.mark.asyncio
async def test_a_refresh_that_finds_no_record_is_no_use_either(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        play.host.answer = http(POLICY.replace(b"86400", b"31557600"))
        await play.find()
        play.record()
        play.clock.pass_(days=100)
        await play.finder.keep_fresh(lambda: 0.0)
        play.clock.pass_(days=80)
        await play.finder.keep_fresh(lambda: 0.0)
        assert await play.cache.get("a.test") is None


@pytest.mark.asyncio
async def test_a_policy_that_no_mail_has_used_for_half_a_year_is_forgotten(tmp_path: Path) -> None:
    """Being refreshed is no use."""
    async with stage(tmp_path) as play:
        play.host.answer = http(POLICY.replace(b"86400", b"31557600"))
        await play.find()
        for _ in range(179):
            play.clock.pass_(days=1)
            await play.finder.keep_fresh(lambda: 0.0)
        assert play.fetches == 180
        assert await play.cache.get("a.test") is not None
        play.clock.pass_(days=1)
        await play.finder.keep_fresh(lambda: 0.0)
        assert await play.cache.get("a.test") is None
        await play.restart()
        assert await play.cache.get("a.test") is None


@pytest.mark.asyncio
async def test_when_the_file_cannot_be_read_nothing_is_taken_for_granted(tmp_path: Path) -> None:
    """No record and no cache to look into: a policy may be in force, so the mail waits."""
    async with stage(tmp_path) as play:
        await play.find()
        await play.restart()
        await play.cache._run(lambda: play.cache._file._connection.execute("ALTER TABLE policy RENAME TO gone"))  # type: ignore[union-attr]
        play.record()
        result = await play.find()
        assert isinstance(result, StsUnknown)
        assert result.reason.startswith("the file of MTA-STS policies cannot be read (no such table: policy)")
        play.record("v=STSv1; id=2;")
        play.host.answer = http(status="404 Not Found")
        assert isinstance(await play.find(), StsUnknown)
        play.host.answer = http()
        assert await play.find() == found(play, "2")  # what is fetched now is certain
    assert (tmp_path / FILE_NAME).exists()


@pytest.mark.asyncio
async def test_after_damage_a_policy_that_cannot_be_had_keeps_mail_back_for_a_day(tmp_path: Path) -> None:
    """The domain announces a policy, which may have been in force: that is not to be undone by a damaged file."""
    async with stage(tmp_path) as play:
        assert await play.find() == found(play)
        await play.end()
        (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
        await play.begin()
        play.host.answer = http(status="404 Not Found")
        result = await play.find()
        assert result == StsUnknown(f"{FAILED}, and the policies that were fetched before are lost (damaged file)")
        play.clock.pass_(minutes=4)
        assert isinstance(await play.find(), StsUnknown)  # in the back-off too
        await play.restart()
        assert isinstance(await play.find(), StsUnknown)
        play.zones.set_fault("_mta-sts.a.test", "TXT", Fault.SERVFAIL)
        assert isinstance(await play.find(), StsUnknown)
        play.zones.set_fault("_mta-sts.a.test", "TXT", None)
        play.clock.pass_(days=1)
        assert await play.find() == unfetched("it answered 404")
        play.record()
        assert await play.find() == NoSts()


@pytest.mark.asyncio
async def test_after_damage_what_can_be_fetched_is_in_force(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.end()
        (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
        await play.begin()
        assert await play.find() == found(play)
        play.host.answer = http(status="404 Not Found")
        play.record("v=STSv1; id=2;")
        assert await play.find() == found(play, stale_reason=FAILED)
