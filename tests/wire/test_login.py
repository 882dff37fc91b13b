"""Logging in at a next hop: which mechanism, what the host may answer, and that secrets go nowhere else."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from smtp_peer import CLOSE, STALL, Peer, Step, host

from relay.delivery.credentials import Credentials
from relay.delivery.login import LoginFailed, choose, offered
from relay.delivery.opening import Target, TlsPlan, open_session
from relay.delivery.results import login_failed
from relay.delivery.smtp import MailOptions, OpenSession
from relay.delivery.transaction import Lost, Timeouts
from relay.lab.certs import LabCa
from relay.lab.sink import Sink, SinkScript
from relay.mail.outcome import Cause, TlsUsed
from relay.mail.status import Reply
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule
from relay.tls import ClientContexts

CA = LabCa.make(datetime.now(UTC))
CONTEXT = CA.issue(("hop.test",)).server_context()
PLAN = TlsPlan(ClientContexts(CA.pem).webpki, "hop.test", path_verified=True)
PROVEN = Allow(TlsUsed.VERIFIED, Rule.OVERRIDE, proven_by=Rule.OVERRIDE)
PASSWORD, TOKEN = "pen,cil=pässword", "ya29." + "t" * 1500
USERS = {"me": PASSWORD, "robot": TOKEN}
ALL = "AUTH LOGIN PLAIN XOAUTH2 SCRAM-SHA-256"
BY_PASSWORD = Credentials("me", PASSWORD, setting='[[route]] "hop"')
BY_TOKEN = Credentials("robot", token=TOKEN, setting='[[route]] "hop"')
SOON = Timeouts(auth_seconds=0.2)
PATIENT = Timeouts(auth_seconds=20)


@asynccontextmanager
async def sink(keywords: str, *auth: str) -> AsyncIterator[tuple[OpenSession, Sink]]:
    """A lab host, and a session with it that is open but not logged in."""
    made = Sink(SinkScript(context=CONTEXT, tls_extensions=(keywords,), users=USERS, auth=auth))
    try:
        session = await opened((await made.start()).port)
        yield session, made
        await session.quit()
        assert made.complaints == []
    finally:
        await made.stop()


async def opened(port: int, plan: TlsPlan | None = PLAN, timeouts: Timeouts = PATIENT) -> OpenSession:
    session = await open_session(Target("hop.test", "127.0.0.1", port), plan, Source(hostname="relay.test"), timeouts)
    assert isinstance(session, OpenSession), session
    return session


@asynccontextmanager
async def peer(keywords: bytes, *steps: Step, timeouts: Timeouts = PATIENT) -> AsyncIterator[OpenSession]:
    """A session with a host inside TLS that says and reads exactly these things after EHLO."""
    hello = b"250-hop.test\r\n250 " + keywords + b"\r\n"

    async def shake(there: Peer) -> None:
        await there.start_tls(CONTEXT)

    begin = (b"220 hop.test\r\n", 1, b"250-hop.test\r\n250 STARTTLS\r\n", 1, b"220 go\r\n", shake, 1, hello)
    async with host(*begin, *steps) as there:
        session = await opened(there.port, timeouts=timeouts)
        try:
            yield session
        finally:
            session.close()


def challenge(text: str) -> bytes:
    return b"334 " + base64.b64encode(text.encode()) + b"\r\n"


async def body() -> AsyncIterator[bytes]:
    yield b"Subject: x\r\n\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keywords", "credentials", "mechanism"),
    [
        (ALL, BY_PASSWORD, "SCRAM-SHA-256"),
        (ALL, BY_TOKEN, "XOAUTH2"),
        (ALL, replace(BY_PASSWORD, token="x"), "SCRAM-SHA-256"),
        ("AUTH LOGIN PLAIN XOAUTH2", replace(BY_TOKEN, password="x"), "XOAUTH2"),
        ("AUTH LOGIN PLAIN", replace(BY_PASSWORD, token="x"), "PLAIN"),
        ("AUTH LOGIN", BY_PASSWORD, "LOGIN"),
        ("auth login", BY_PASSWORD, "LOGIN"),
        ("AUTH XOAUTH2 CRAM-MD5 PLAIN", BY_PASSWORD, "PLAIN"),
    ],
)
async def test_the_strongest_mechanism_that_both_have(keywords: str, credentials: Credentials, mechanism: str) -> None:
    async with sink(keywords) as (session, there):
        assert await session.log_in(credentials, PROVEN) is None
        await session.send(b"a@a.test", [b"b@b.test"], body(), MailOptions(), PROVEN)
        assert [mail.user for mail in there.received] == [credentials.user]
        assert [line.split()[1] for line in there.commands if line.startswith("AUTH")] == [mechanism]


@pytest.mark.parametrize(
    ("keywords", "mechanisms"),
    [
        ((), ()),
        (("AUTH",), ()),
        (("SIZE 1", "AUTH PLAIN plain", "AUTH=PLAIN LOGIN"), ("PLAIN", "LOGIN")),
        (("AUTHX PLAIN", "X AUTH PLAIN"), ()),
    ],
)
def test_what_is_offered(keywords: tuple[str, ...], mechanisms: tuple[str, ...]) -> None:
    assert offered(keywords) == mechanisms


def test_nonces_are_never_the_same() -> None:
    made = [choose(["SCRAM-SHA-256"], BY_PASSWORD) for _ in range(3)]
    assert len({one.first for one in made if one is not None}) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keywords", "credentials", "reason"),
    [
        ("SIZE 1", BY_PASSWORD, "does not offer AUTH"),
        (
            "AUTH CRAM-MD5",
            BY_PASSWORD,
            "offers AUTH with CRAM-MD5, and this server has what SCRAM-SHA-256, PLAIN, LOGIN needs",
        ),
        ("AUTH PLAIN", BY_TOKEN, "offers AUTH with PLAIN, and this server has what XOAUTH2 needs"),
        ("AUTH SCRAM-SHA-256", replace(BY_PASSWORD, password="\ue000"), "cannot be told the password by SCRAM"),
    ],
)
async def test_no_mechanism(keywords: str, credentials: Credentials, reason: str) -> None:
    async with sink(keywords) as (session, there):
        failed = await session.log_in(credentials, PROVEN)
        assert isinstance(failed, LoginFailed)
        assert failed.reason.startswith(reason) and failed.reply is None
        assert not [line for line in there.commands if line.startswith("AUTH")]


@pytest.mark.asyncio
@pytest.mark.parametrize("keywords", ["AUTH PLAIN", "AUTH LOGIN", "AUTH SCRAM-SHA-256"])
async def test_a_wrong_password(keywords: str) -> None:
    async with sink(keywords) as (session, _there):
        mechanism = keywords.removeprefix("AUTH ")
        failed = await session.log_in(replace(BY_PASSWORD, password="pencil"), PROVEN)
        refusal = Reply.of(535, ("5.7.8 wrong name or password",))
        assert failed == LoginFailed(f"refused the login of me ({mechanism})", refusal)
        outcome = login_failed(failed, BY_PASSWORD, "hop.test", TlsUsed.VERIFIED)
        assert (str(outcome.status), outcome.cause, outcome.reply) == ("4.7.8", Cause.LOGIN, refusal)
        assert outcome.reason == f'hop.test refused the login of me ({mechanism}) ([[route]] "hop")'


@pytest.mark.asyncio
async def test_a_stale_token() -> None:
    """The provider's own words are kept."""
    async with sink("AUTH XOAUTH2") as (session, _there):
        failed = await session.log_in(replace(BY_TOKEN, token="stale"), PROVEN)
        assert failed == LoginFailed(
            'refused the login of robot (XOAUTH2): {"status":"400","schemes":"Bearer","scope":"https://mail.example/"}',
            Reply.of(535, ("5.7.8 wrong name or password",)),
        )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    ["535 5.7.8 no", "534 5.7.9 too weak", "454 4.7.0 later", "432 4.7.12 change it", "530 5.7.0 no", "500 no"],
)
async def test_refusals(answer: str) -> None:
    async with sink("AUTH PLAIN", answer) as (session, _there):
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        assert isinstance(failed, LoginFailed) and failed.reply is not None and failed.reply.text == answer
        outcome = login_failed(failed, BY_PASSWORD, "hop.test", TlsUsed.VERIFIED)
        assert (str(outcome.status), outcome.cause) == ("4.7.8", Cause.LOGIN)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((1, CLOSE), "closed the connection after AUTH"),
        ((1, STALL), "said nothing for 0.2 seconds after AUTH"),
        ((1, b"421 4.3.2 bye\r\n"), 'answered "421 4.3.2 bye" after AUTH'),
        ((1, b"250 2.0.0 fine\r\n"), 'answered "250 2.0.0 fine" after AUTH'),
        ((1, b"what?\r\n"), "did not speak SMTP after AUTH"),
    ],
)
async def test_a_host_that_is_lost_has_not_refused_the_login(steps: tuple[Step, ...], reason: str) -> None:
    async with peer(b"AUTH PLAIN", *steps, timeouts=SOON if STALL in steps else PATIENT) as session:
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        assert isinstance(failed, Lost) and failed.reason == reason and not session.reusable()
        outcome = login_failed(failed, BY_PASSWORD, "hop.test", TlsUsed.VERIFIED)
        assert (str(outcome.status), outcome.cause, outcome.reason) == ("4.4.2", None, f"hop.test {reason}")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("keywords", "steps", "reason"),
    [
        (b"AUTH PLAIN", (1, challenge("more"), 1, b"501 ok\r\n"), "asked for more than AUTH PLAIN has"),
        (
            b"AUTH LOGIN",
            (1, challenge("U"), 1, challenge("P"), 1, challenge("X"), 1, b"501 ok\r\n"),
            "asked for more than AUTH LOGIN has",
        ),
        (b"AUTH LOGIN", (1, challenge("U"), 1, b"235 2.7.0 ok\r\n"), "said yes to LOGIN before the login was over"),
        (b"AUTH LOGIN", (1, b"334 User?\r\n", 1, b"501 ok\r\n"), "sent a challenge that is not base64"),
        (b"AUTH SCRAM-SHA-256", (1, b"235 2.7.0 ok\r\n"), "said yes to SCRAM-SHA-256 before the login was over"),
        (
            b"AUTH SCRAM-SHA-256",
            (1, challenge("r=x"), 1, b"501 ok\r\n"),
            "sent a first message of SCRAM that makes no sense",
        ),
    ],
)
async def test_hosts_that_go_wrong(keywords: bytes, steps: tuple[Step, ...], reason: str) -> None:
    """With `*` the login is given up. RFC 4954 section 4."""
    async with peer(keywords, *steps) as session:
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        assert isinstance(failed, LoginFailed) and failed.reason == reason


@pytest.mark.asyncio
async def test_a_host_that_does_not_know_the_password_is_not_believed() -> None:
    """It lets anybody in, whatever the proof, and cannot sign."""

    async def answer(there: Peer) -> None:
        first = base64.b64decode((await there.line()).split()[2])
        nonce = first.split(b"r=")[1].decode()
        await there.say(challenge(f"r={nonce}x,s=QQ==,i=4096"))
        await there.line()
        await there.say(challenge("v=" + base64.b64encode(bytes(32)).decode()))
        assert await there.line() == b"*\r\n"
        await there.say(b"501 5.7.0 as you like\r\n")

    async with peer(b"AUTH SCRAM-SHA-256", answer) as session:
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        assert failed == LoginFailed("does not know the password itself: its signature (SCRAM) is wrong")


@pytest.mark.asyncio
async def test_a_long_token_is_sent_by_itself() -> None:
    """RFC 4954 section 4: it would make the command longer than 512 octets."""
    heard: list[bytes] = []

    async def answer(there: Peer) -> None:
        heard.append(await there.line())
        await there.say(b"334 \r\n")
        heard.append(await there.line())
        await there.say(b"235 2.7.0 ok\r\n")

    async with peer(b"AUTH XOAUTH2", answer) as session:
        assert await session.log_in(BY_TOKEN, PROVEN) is None
    assert heard[0] == b"AUTH XOAUTH2\r\n"
    assert base64.b64decode(heard[1]) == f"user=robot\x01auth=Bearer {TOKEN}\x01\x01".encode()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "allow",
    [
        Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC),
        Allow(TlsUsed.ENCRYPTED, Rule.OPPORTUNISTIC),
        Allow(TlsUsed.VERIFIED, Rule.OPPORTUNISTIC),
        Allow(TlsUsed.ENCRYPTED, Rule.DANE, proven_by=Rule.DANE),
    ],
    ids=str,
)
async def test_never_without_proof_of_who_the_host_is(allow: Allow) -> None:
    async with sink(ALL) as (session, there):
        with pytest.raises(ValueError, match="has not proven who the host is"):
            await session.log_in(BY_PASSWORD, allow)
        assert not [line for line in there.commands if line.startswith("AUTH")]


@pytest.mark.asyncio
async def test_never_in_clear_text_whatever_the_proof_says() -> None:
    """A verdict on some other session is none on this one."""
    async with host(b"220 hop.test\r\n", 1, b"250-hop.test\r\n250 AUTH PLAIN\r\n") as there:
        session = await opened(there.port, None)
        with pytest.raises(ValueError, match="has not proven who the host is"):
            await session.log_in(BY_PASSWORD, PROVEN)
        session.close()
    assert b"AUTH" not in there.heard


@pytest.mark.asyncio
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2"])
async def test_the_transcript_shows_that_there_was_a_login_and_no_more(mechanism: str) -> None:
    credentials = BY_TOKEN if mechanism == "XOAUTH2" else BY_PASSWORD
    async with sink(f"AUTH {mechanism}") as (session, there):
        assert await session.log_in(credentials, PROVEN) is None
        lines = session.dialogue()
        sent = [line for command in there.commands if command.startswith("AUTH") for line in command.split()[2:]]
    told = [line[8:] for line in lines]
    begins = f"> AUTH {mechanism}" if mechanism in ("LOGIN", "XOAUTH2") else f"> AUTH {mechanism} ..."
    assert begins in told and told[-1] == "< 235 2.7.0 welcome"
    assert set(told[told.index(begins) + 1 : -1]) <= {"> ...", "> ", "< 334 ..."}
    for secret in (PASSWORD, TOKEN, *sent):
        assert secret not in "\n".join(lines)


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [None, 30])
async def test_what_a_host_echoes_is_hidden_too(cut: int | None) -> None:
    async def echo(there: Peer) -> None:
        line = (await there.line()).strip()
        await there.say(b"500 5.5.1 unknown: " + line[:cut] + b"\r\n")

    async with peer(b"AUTH PLAIN", echo) as session:
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        assert isinstance(failed, LoginFailed) and failed.reply is not None
        assert failed.reply.text == "500 5.5.1 unknown: AUTH PLAIN ..."
        assert session.dialogue()[-1].endswith("< 500 5.5.1 unknown: AUTH PLAIN ...")


@pytest.mark.asyncio
async def test_a_host_that_says_the_password_itself() -> None:
    refusal = f"535 5.7.8 {PASSWORD} is wrong\r\n".encode()
    async with peer(b"AUTH PLAIN", 1, refusal) as session:
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        assert isinstance(failed, LoginFailed) and failed.reply is not None
        assert failed.reply.text == "535 5.7.8 ... is wrong"
        assert PASSWORD not in "\n".join(session.dialogue())


@pytest.mark.asyncio
async def test_what_a_host_echoes_without_a_code_is_hidden_too() -> None:
    async def echo(there: Peer) -> None:
        await there.say(await there.line())

    async with peer(b"AUTH PLAIN", echo) as session:
        failed = await session.log_in(BY_PASSWORD, PROVEN)
        secret = base64.b64encode(f"\0me\0{PASSWORD}".encode()).decode()
        assert secret not in str(failed) and secret not in "\n".join(session.dialogue())
