"""Logins that a service of the operator's knows, and access tokens: over real HTTPS, with hosts that do it wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
from aiohttp import web
from submission_peer import LOOPBACK, NOW, Client, Running, Wanted, client_tls, lab_tls, running
from token_issuer import Issuer, jwk, jwks, signed

from relay.events import AuthenticationFailed, DefectFound, Event, LoginSourceFailed, LoginSourceWorks, MessageAccepted
from relay.lab.certs import LabCa, Leaf
from relay.settings import LoginSettings
from relay.submission.callback import LoginService, Question, Unasked
from relay.submission.https import Https
from relay.submission.sources import login_service, token_logins
from relay.submission.users import Users
from relay.tls import https_context

pytestmark = pytest.mark.asyncio

CA = LabCa.make(datetime.now(UTC))
CONTEXT = https_context(CA.pem)
SERVER_TLS = lab_tls()
TLS = client_tls()
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
UNCHECKED = "454 4.7.0 Login cannot be checked now, try again later"
REFUSED = "535 5.7.8 Authentication credentials invalid"


@dataclass
class Site:
    """A web service on loopback that gives the answer it is told to, and keeps what it was asked."""

    status: int = 200
    body: bytes = b'{"ok": true}'
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    @contextlib.asynccontextmanager
    async def running(self, leaf: Leaf = Leaf.GOOD, scheme: str = "https") -> AsyncIterator[Site]:
        self.may_answer.set()
        application = web.Application()
        application.router.add_route("*", "/{any:.*}", self._answer)
        runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        context = CA.issue(("127.0.0.1",), leaf).server_context() if scheme == "https" else None
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/check"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, dict(request.headers), await request.read()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.may_answer.wait()
        finally:
            self.at_once -= 1
        return web.Response(status=self.status, body=self.body, headers=self.headers)


def password(name: str = "alice", secret: str = "secret") -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{name}\0{secret}".encode()).decode()


def wanted(service: LoginService | None = None, **more: Any) -> Wanted:
    settings = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,), "max_failed_logins": 100}
    return Wanted(settings, tls=SERVER_TLS, service=service, loopback_trusted=False, **more)


async def secure(server: Running) -> Client:
    client = await server.connect(1, tls=TLS)
    await client.hello()
    return client


# The service that knows names and passwords


def service(site: Site, events: list[Event], token_file: Path | None = None) -> LoginService:
    made = login_service(LoginSettings(url=site.url, url_token_file=token_file), CONTEXT, events.append)
    assert made is not None
    return made


async def test_what_the_service_is_asked(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    async with (
        Site(body=b'{"ok": true, "login": "alice@example.test"}').running() as site,
        running(tmp_path, wanted(service(site, [], token))) as server,
        await secure(server) as client,
    ):
        assert "AUTH PLAIN LOGIN" in await client.hello()
        assert (await client.ask(password("älice", 'sec"ret'))).startswith("235 ")
        ((method, headers, body),) = site.asked
        assert method == "POST"
        assert headers["Authorization"] == "Bearer s3cret"
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body) == {
            "name": "älice",
            "password": 'sec"ret',
            "client": "127.0.0.1",
            "listener": "submission-tls",
            "mechanism": "PLAIN",
        }
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
        accepted = await server.event(MessageAccepted)
        assert isinstance(accepted, MessageAccepted)
        assert accepted.login == "alice@example.test"


ANSWERS = [
    (200, b'{"ok": true}', "235"),
    (200, b' {"ok":true,"more":[]}', "235"),
    (200, b'{"ok": false}', "535"),
    (401, b"", "535"),
    (403, b"{}", "535"),
    (200, b'{"ok": 1}', "454"),
    (200, b'{"ok": "true"}', "454"),
    (200, b'{"ok": null}', "454"),
    (200, b"{}", "454"),
    (200, b"true", "454"),
    (200, b"", "454"),
    (200, b"\xff", "454"),
    (200, b"[" * 100_000, "454"),
    (200, b'{"ok": true, "login": ""}', "454"),
    (200, b'{"ok": true, "login": 7}', "454"),
    (200, b'{"ok": true, "login": "a\\r\\nb"}', "454"),
    (200, b'{"ok": true, "login": "\\ud800"}', "454"),
    (200, b'{"ok": true}' + b" " * 300_000, "454"),
    (201, b'{"ok": true}', "454"),
    (204, b"", "454"),
    (302, b'{"ok": true}', "454"),
    (404, b'{"ok": true}', "454"),
    (500, b'{"ok": true}', "454"),
]


@pytest.mark.parametrize(("status", "body", "expected"), ANSWERS, ids=range(len(ANSWERS)))
async def test_answers(status: int, body: bytes, expected: str, tmp_path: Path) -> None:
    events: list[Event] = []
    headers = {"Location": "/elsewhere"} if status == 302 else {}
    async with (
        Site(status, body, headers).running() as site,
        running(tmp_path, wanted(service(site, events))) as server,
        await secure(server) as client,
    ):
        assert (await client.ask(password()))[:3] == expected
        assert len(site.asked) == 1  # no redirect is followed
        assert [type(event) for event in events] == ([LoginSourceFailed] if expected == "454" else [])
        assert server.count(AuthenticationFailed) == (expected == "535")
        assert server.count(DefectFound) == 0


@pytest.mark.parametrize("leaf", [Leaf.UNKNOWN_CA, Leaf.EXPIRED, Leaf.SELF_SIGNED, Leaf.CN_ONLY, Leaf.CLIENT_EKU])
async def test_a_service_with_a_bad_certificate_is_not_told_a_password(leaf: Leaf, tmp_path: Path) -> None:
    events: list[Event] = []
    async with (
        Site().running(leaf) as site,
        running(tmp_path, wanted(service(site, events))) as server,
        await secure(server) as client,
    ):
        assert await client.ask(password()) == UNCHECKED
        assert site.asked == []
        (failed,) = events
        assert isinstance(failed, LoginSourceFailed)
        assert failed.source == "login.url"
        assert failed.reason.startswith("the login service could not be asked: its certificate was not accepted (")


async def test_a_service_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    """Told once, however many clients come; and nobody is told that the password is wrong."""
    events: list[Event] = []
    site = Site(status=503)
    async with (
        site.running(),
        running(tmp_path, wanted(service(site, events))) as server,
        await secure(server) as client,
    ):
        for _ in range(5):
            assert await client.ask(password()) == UNCHECKED
        site.status = 200
        assert (await client.ask(password())).startswith("235 ")
    assert events == [
        LoginSourceFailed("login.url", "the login service answered 503"),
        LoginSourceWorks("login.url"),
    ]


QUESTION = Question("alice", "secret", "192.0.2.1", "submission", "PLAIN")


async def test_a_service_that_does_not_answer(tmp_path: Path) -> None:
    async with Site().running() as site:
        site.may_answer.clear()
        slow = LoginService(site.url, None, Https(CONTEXT, timedelta(seconds=0.2)), lambda _reason: None)
        reason = "the login service could not be asked: it did not answer within 0.2 seconds"
        assert await slow.ask(QUESTION) == Unasked(reason)


async def test_a_service_that_is_not_there() -> None:
    async with Site().running() as site:
        pass
    gone = LoginService(site.url, None, Https(CONTEXT), lambda _reason: None)
    assert await gone.ask(QUESTION) == Unasked(
        "the login service could not be asked: no connection to it could be made"
    )


async def test_clear_text_on_this_machine() -> None:
    async with Site().running(scheme="http") as site:
        assert await LoginService(site.url, None, Https(CONTEXT), lambda _reason: None).ask(QUESTION) == "alice"


TOKEN_FILES = [
    (None, "cannot be read: No such file or directory"),
    (b"", "does not hold a token"),
    (b"a b", "does not hold a token"),
    (b"a\nb", "does not hold a token"),
    (b"\xff", "is not ASCII"),
]


@pytest.mark.parametrize(("content", "fault"), TOKEN_FILES)
async def test_without_its_token_the_service_is_not_asked(content: bytes | None, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    async with Site().running() as site:
        asked = LoginService(site.url, file, Https(CONTEXT), lambda _reason: None)
        assert await asked.ask(QUESTION) == Unasked(f"{file} {fault}")
        assert site.asked == []


async def test_the_users_file_comes_first(tmp_path: Path) -> None:
    """Its users' passwords go nowhere else, right or wrong."""
    file = tmp_path / "users"
    file.write_text(f"alice:{CHEAP.hash('secret')}\n")
    site = Site()
    async with site.running():
        given = wanted(service(site, []), users=Users.load(file))
        async with running(tmp_path, given) as server, await secure(server) as client:
            assert await client.ask(password("alice", "wrong")) == REFUSED
            assert site.asked == []
            assert (await client.ask(password("bob", "wrong"))).startswith("235 ")
            assert len(site.asked) == 1
        async with running(tmp_path / "again", given) as server, await secure(server) as client:
            assert (await client.ask(password("alice", "secret"))).startswith("235 ")
            assert len(site.asked) == 1


async def test_a_yes_is_remembered_and_a_no_is_not(tmp_path: Path) -> None:
    async with Site().running() as site, running(tmp_path, wanted(service(site, []))) as server:

        async def log_in(line: str) -> str:
            async with await secure(server) as client:
                return (await client.ask(line))[:3]

        assert [await log_in(password()) for _ in range(3)] == ["235"] * 3
        assert len(site.asked) == 1
        site.body = b'{"ok": false}'
        assert [await log_in(password()) for _ in range(2)] == ["235"] * 2
        assert [await log_in(password("alice", "x")) for _ in range(2)] == ["535"] * 2
        assert [await log_in(password("bob")) for _ in range(2)] == ["535"] * 2
        assert len(site.asked) == 5


async def test_one_network_asks_four_times_at_once_and_the_others_wait(tmp_path: Path) -> None:
    """They wait for their turn, so that a mail server with many sessions gets all of them."""
    async with Site().running() as site, running(tmp_path, wanted(service(site, []))) as server:
        site.may_answer.clear()
        clients = [await secure(server) for _ in range(10)]
        for number, client in enumerate(clients):
            client.send(f"{password(f'user{number}')}\r\n".encode())
        async with asyncio.timeout(10):
            while site.at_once < 4:
                await asyncio.sleep(0.01)
        await clients[0].__aexit__()  # leaves while it is being asked for
        site.may_answer.set()
        assert [(await client.reply())[:3] for client in clients[1:]] == ["235"] * 9
        assert site.most_at_once == 4
        (left,) = [event for event in server.events if isinstance(event, AuthenticationFailed)]
        assert (left.login, left.reason) == ("user0", "left before the answer")  # or guesses would cost nothing
        for client in clients[1:]:
            await client.__aexit__()
        assert server.count(DefectFound) == 0


# Access tokens

ISSUER = Issuer()
RULES = {"issuer": ISSUER.name, "audience": ISSUER.audience}


def tokens_of(site: Site, events: list[Event], **options: Any) -> Wanted:
    given = LoginSettings.model_validate({"jwks": site.url, **RULES, **options})
    made = token_logins(given, CONTEXT, lambda: NOW, asyncio.get_running_loop().time, events.append)
    return wanted(tokens=made)


def xoauth2(name: str, token: str) -> str:
    return "AUTH XOAUTH2 " + base64.b64encode(f"user={name}\x01auth=Bearer {token}\x01\x01".encode()).decode()


def oauthbearer(token: str, name: str = "") -> str:
    header = f"n,a={name}," if name else "n,,"
    return "AUTH OAUTHBEARER " + base64.b64encode(f"{header}\x01auth=Bearer {token}\x01\x01".encode()).decode()


GOOD = signed(ISSUER.claims())
LOGINS = [
    (oauthbearer(GOOD), True),
    (oauthbearer(GOOD, "alice@example.test"), True),
    (oauthbearer(GOOD, "ALICE@example.test"), True),
    (oauthbearer(GOOD, "boss@example.test"), False),
    (xoauth2("alice@example.test", GOOD), True),
    (xoauth2("Alice@Example.TEST", GOOD), True),
    (xoauth2("boss@example.test", GOOD), False),
    (xoauth2("alice@example.test", GOOD[:-4] + "AAAA"), False),
    (xoauth2("alice@example.test", signed(ISSUER.claims(exp=1))), False),
]


@pytest.mark.parametrize(("line", "good"), LOGINS, ids=range(len(LOGINS)))
async def test_tokens(line: str, good: bool, tmp_path: Path) -> None:
    async with (
        Site(body=jwks(jwk("RSA"))).running() as site,
        running(tmp_path, tokens_of(site, [])) as server,
        await secure(server) as client,
    ):
        assert "AUTH OAUTHBEARER XOAUTH2" in await client.hello()
        answer = await client.ask(line)
        if good:
            assert answer.startswith("235 ")
            assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
            accepted = await server.event(MessageAccepted)
            assert isinstance(accepted, MessageAccepted)
            assert accepted.login == "alice@example.test"
            return
        assert json.loads(base64.b64decode(answer.removeprefix("334 ")))["status"] in ("401", "invalid_token")
        assert await client.ask("AQ==" if "OAUTHBEARER" in line else "") == REFUSED
        (failed,) = [event for event in server.events if isinstance(event, AuthenticationFailed)]
        assert "ey" not in repr(failed)  # no token is logged


async def test_a_refused_token_counts_though_the_client_does_not_wait_for_the_answer(tmp_path: Path) -> None:
    async with Site(body=jwks(jwk("RSA"))).running() as site, running(tmp_path, tokens_of(site, [])) as server:
        async with await secure(server) as client:
            assert (await client.ask(oauthbearer("a.b.c"))).startswith("334 ")
            assert await client.ask("not base64!") == REFUSED
            assert (await client.ask(oauthbearer("a.b.c"))).startswith("334 ")
        assert server.count(AuthenticationFailed) == 2
        assert server.count(DefectFound) == 0


async def test_the_issuer_changes_its_keys(tmp_path: Path) -> None:
    site = Site(body=jwks(jwk("RSA")), headers={"Cache-Control": "public, max-age=900, must-revalidate"})
    async with site.running(), running(tmp_path, tokens_of(site, [])) as server:

        async def log_in(token: str) -> str:
            async with await secure(server) as client:
                answer = await client.ask(oauthbearer(token))
                return (await client.ask("AQ=="))[:3] if answer.startswith("334") else answer[:3]

        assert [await log_in(GOOD) for _ in range(3)] == ["235"] * 3
        site.body = jwks(jwk("P-256", "next"))
        assert (
            await log_in(signed(ISSUER.claims(), "P-256", "ES256", kid="next")) == "535"
        )  # not within the same minute
        assert len(site.asked) == 1
        assert site.asked[0][0] == "GET"


@pytest.mark.parametrize("leaf", [Leaf.UNKNOWN_CA, Leaf.EXPIRED])
async def test_without_keys_nobody_is_refused_for_good(leaf: Leaf, tmp_path: Path) -> None:
    events: list[Event] = []
    site = Site(body=jwks(jwk("RSA")))
    async with (
        site.running(leaf),
        running(tmp_path, tokens_of(site, events)) as server,
        await secure(server) as client,
    ):
        for _ in range(3):
            assert await client.ask(oauthbearer(GOOD)) == UNCHECKED
    (failed,) = events
    assert isinstance(failed, LoginSourceFailed)
    assert failed.source == "login.jwks"


async def test_another_claim(tmp_path: Path) -> None:
    token = signed(ISSUER.claims(None, upn="Bob@example.test"))
    async with (
        Site(body=jwks(jwk("RSA"))).running() as site,
        running(tmp_path, tokens_of(site, [], name_claim="upn")) as server,
        await secure(server) as client,
    ):
        assert (await client.ask(xoauth2("bob@example.test", token))).startswith("235 ")


async def test_nobody_is_called_like_a_token_of_the_api(tmp_path: Path) -> None:
    """A [[client]] for one would hold for the other."""
    async with (
        Site(body=b'{"ok": true, "login": "Token:web"}').running() as site,
        running(tmp_path, wanted(service(site, []))) as server,
        await secure(server) as client,
    ):
        assert (await client.ask(password())).startswith("535 5.7.8 ")


async def test_passwords_go_over_verified_tls_alone() -> None:
    lax = ssl.create_default_context()
    lax.check_hostname = False
    with pytest.raises(ValueError, match="verified"):
        Https(lax)
