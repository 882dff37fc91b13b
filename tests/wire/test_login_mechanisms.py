"""AUTH over real connections: what is on offer, SCRAM, clear text, real clients, and what happens to guessers."""

from __future__ import annotations

import asyncio
import base64
import smtplib
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiosmtplib
import argon2
import pytest
from submission_peer import LOOPBACK, Client, Running, Wanted, client_tls, lab_tls, running

from relay.delivery.sasl import SaslError, ScramSha256
from relay.events import AuthenticationFailed, DefectFound, LoginsBarred, MessageAccepted
from relay.settings import ListenerSettings, ListenerTls
from relay.submission.scram import make_verifier
from relay.submission.users import Users

pytestmark = pytest.mark.asyncio

SERVER_TLS = lab_tls()
TLS = client_tls()
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ALICE = f"alice:{CHEAP.hash('secret')}:{make_verifier('secret', b'0123456789abcdef', 4096)}\n"
BOB = f"bob:{CHEAP.hash('other')}\n"  # from before SCRAM
GOOD = base64.b64encode(b"\0alice\0secret").decode()
BAD = base64.b64encode(b"\0alice\0wrong").decode()
BARRED = "454 4.7.0 Too many failed logins from your address or network, try again later"
REFUSED = "535 5.7.8 Authentication credentials invalid"


def wanted(folder: Path, *lines: str, **settings: Any) -> Wanted:
    file = folder / "users"
    file.write_text("".join(lines or (ALICE,)))
    options = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,), **settings}
    return Wanted(options, tls=SERVER_TLS, users=Users.load(file), loopback_trusted=False)


async def secure(server: Running) -> Client:
    client = await server.connect(1, tls=TLS)
    await client.hello()
    return client


def mechanisms(hello: str) -> str:
    return next((line[4:] for line in hello.splitlines() if line[4:].startswith("AUTH")), "")


def said(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


async def may_send(client: Client) -> bool:
    await client.ask("RSET")
    await client.ask("MAIL FROM:<alice@example.test>")
    return (await client.ask("RCPT TO:<victim@example.org>")).startswith("250 ")


OFFERS = [
    ([ALICE], "AUTH SCRAM-SHA-256 PLAIN LOGIN"),
    ([ALICE, BOB], "AUTH PLAIN LOGIN"),
    (["# nobody yet\n"], ""),
]


@pytest.mark.parametrize(("lines", "expected"), OFFERS)
async def test_what_is_on_offer(lines: list[str], expected: str, tmp_path: Path) -> None:
    """SCRAM for all or for none: who finds it takes it."""
    async with running(tmp_path, wanted(tmp_path, *lines)) as server, await server.connect(1, tls=TLS) as client:
        assert mechanisms(await client.hello()) == expected
        for word in ("SCRAM-SHA-256", "PLAIN", "LOGIN", "EXTERNAL", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256-PLUS"):
            answer = await client.ask(f"AUTH {word}")
            assert answer[:3] == ("334" if word in expected.split() else "504"), word
            if answer.startswith("334"):
                await client.ask("*")


async def test_what_is_on_offer_follows_the_file(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path, BOB)) as server, await secure(server) as client:
        new = tmp_path / "new"
        new.write_text(ALICE)
        new.replace(tmp_path / "users")
        assert mechanisms(await client.hello()) == "AUTH SCRAM-SHA-256 PLAIN LOGIN"


async def scram(client: Client, name: str, password: str, *, at_once: bool = True) -> str:
    """Log in as a client of ours does; the last reply. AssertionError when the server cannot prove itself."""
    mechanism = ScramSha256(name, password, "client-nonce")
    assert mechanism.first is not None
    if at_once:
        answer = await client.ask(f"AUTH scram-sha-256 {said(mechanism.first)}")
    else:
        assert await client.ask("AUTH SCRAM-SHA-256") == "334 "
        answer = await client.ask(said(mechanism.first))
    while answer.startswith("334 "):
        try:
            response = mechanism.answer(base64.b64decode(answer[4:]))
        except SaslError as error:
            raise AssertionError(str(error)) from None
        answer = await client.ask(said(response))
    assert mechanism.complete is answer.startswith("235")
    return answer


@pytest.mark.parametrize("at_once", [True, False])
async def test_scram(at_once: bool, tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path)) as server, await secure(server) as client:
        assert await scram(client, "alice", "wrong", at_once=at_once) == REFUSED
        assert await scram(client, "mallory", "secret", at_once=at_once) == REFUSED
        assert not await may_send(client)
        await client.ask("RSET")
        assert await scram(client, "alice", "secret", at_once=at_once) == "235 2.7.0 Authentication successful"
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
        event = await server.event(MessageAccepted)
        assert isinstance(event, MessageAccepted)
        assert event.login == "alice"
        (message,) = await server.stored()
        assert b"\twith ESMTPSA (TLSv1.3 " in message.trace
        failed = [event for event in server.events if isinstance(event, AuthenticationFailed)]
        expected = [("alice", "SCRAM-SHA-256", "wrong password"), ("mallory", "SCRAM-SHA-256", "no such user")]
        assert [(event.login, event.mechanism, event.reason) for event in failed] == expected
        assert {event.listener for event in failed} == {"submission-tls"}


async def test_scram_with_a_password_that_is_taken_away_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path)) as server, await secure(server) as client:
        mechanism = ScramSha256("alice", "secret", "client-nonce")
        assert mechanism.first is not None
        challenge = await client.ask(f"AUTH SCRAM-SHA-256 {said(mechanism.first)}")
        (tmp_path / "users").write_text(BOB)
        async with await secure(server):  # whoever comes next has the file looked at
            pass
        assert await client.ask(said(mechanism.answer(base64.b64decode(challenge[4:])))) == REFUSED


async def test_scram_does_not_tell_who_exists(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path)) as server, await secure(server) as client:
        found: dict[str, tuple[int, str, str]] = {}
        for name in ("alice", "mallory", "mallory", "carol"):
            answer = await client.ask(f"AUTH SCRAM-SHA-256 {said(f'n,,n={name},r=x'.encode())}")
            nonce, salt, rounds = base64.b64decode(answer[4:]).decode().split(",")
            assert await client.ask("*") == "501 5.7.0 Authentication cancelled"
            assert found.setdefault(name, (len(nonce), salt, rounds)) == (len(nonce), salt, rounds)
        assert len({salt for _, salt, _ in found.values()}) == 3
        assert len({(nonce, len(salt), rounds) for nonce, salt, rounds in found.values()}) == 1


SCRAM_LINES = {
    "channel binding": ([b"p=tls-exporter,,n=alice,r=x"], "501 5.5.4 Channel binding is not supported"),
    "for another": ([b"n,a=boss,n=alice,r=x"], REFUSED),
    "no sense": ([b"hello"], "501 5.5.2 "),
    "no proof": ([b"n,,n=alice,r=x", b"c=biws,r=x"], "501 5.5.2 "),
    "nothing": ([b"n,,n=alice,r=x", b""], "501 5.5.2 "),
}


@pytest.mark.parametrize("name", SCRAM_LINES)
async def test_scram_that_goes_wrong(name: str, tmp_path: Path) -> None:
    lines, expected = SCRAM_LINES[name]
    async with running(tmp_path, wanted(tmp_path)) as server, await secure(server) as client:
        answer = await client.ask("AUTH SCRAM-SHA-256")
        for line in lines:
            assert answer.startswith("334 ")
            answer = await client.ask(said(line))
        assert answer.startswith(expected)
        assert (await client.ask("NOOP")).startswith("250 ")
        assert not await may_send(client)
        assert server.count(DefectFound) == 0


@pytest.mark.parametrize("last", ["*", said(b"x"), "x"])
async def test_scram_is_no_login_before_the_client_has_agreed(last: str, tmp_path: Path) -> None:
    """The client may find that the server does not know the password."""
    async with running(tmp_path, wanted(tmp_path)) as server, await secure(server) as client:
        mechanism = ScramSha256("alice", "secret", "n")
        assert mechanism.first is not None
        challenge = await client.ask(f"AUTH SCRAM-SHA-256 {said(mechanism.first)}")
        final = mechanism.answer(base64.b64decode(challenge[4:]))
        assert (await client.ask(said(final))).startswith("334 ")
        assert (await client.ask(last)).startswith("501 ")
        assert not await may_send(client)


# Before TLS, and where nobody may log in


async def test_clear_text_on_this_machine(tmp_path: Path) -> None:
    """127.0.0.1 is this machine; the setting lifts the need for TLS, and Received does not claim any."""
    given = wanted(tmp_path, plaintext_login_on_loopback=True)
    async with running(tmp_path, given) as server, await server.connect() as client:
        assert mechanisms(await client.hello()) == "AUTH SCRAM-SHA-256 PLAIN LOGIN"
        assert (await client.ask(f"AUTH PLAIN {GOOD}")).startswith("235 ")
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
        (message,) = await server.stored()
        assert b"\twith ESMTPA id " in message.trace


async def test_clear_text_without_that_setting(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path)) as server, await server.connect() as client:
        assert mechanisms(await client.hello()) == ""
        for word in ("SCRAM-SHA-256", "PLAIN", "NONSENSE", ""):
            assert await client.ask(f"AUTH {word}") == "538 5.7.11 Encryption required for authentication"


async def test_a_listener_without_auth(tmp_path: Path) -> None:
    given = wanted(tmp_path)
    listener = ListenerSettings(name="gateway", listen=(LOOPBACK,), tls=ListenerTls.IMPLICIT, auth=False)
    given = Wanted(given.settings, {"listener": (listener,)}, SERVER_TLS, users=given.users)
    async with running(tmp_path, given) as server, await server.connect(2, tls=TLS) as client:
        assert mechanisms(await client.hello()) == ""
        assert await client.ask(f"AUTH PLAIN {GOOD}") == "502 5.5.1 Command not implemented"


# Real clients


def send_with_smtplib(port: int, tls: bool) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", port, context=TLS) if tls else smtplib.SMTP("127.0.0.1", port) as client:
        if not tls:
            client.starttls(context=TLS)
        client.login("alice", "secret")
        client.sendmail("alice@example.test", ["bob@example.org"], "Subject: x\r\n\r\nx\r\n")


@pytest.mark.parametrize("number", [0, 1], ids=["STARTTLS", "implicit TLS"])
async def test_smtplib(number: int, tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path)) as server:
        await asyncio.to_thread(send_with_smtplib, server.addresses[number].port, bool(number))
        assert len(await server.stored()) == 1


@pytest.mark.parametrize("way", ["auth_plain", "auth_login"])
async def test_aiosmtplib(way: str, tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path)) as server:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.addresses[1].port, use_tls=True, tls_context=TLS)
        async with client:
            await client.ehlo()
            await getattr(client, way)("alice", "secret")
            await client.sendmail("alice@example.test", ["bob@example.org"], b"Subject: x\r\n\r\nx\r\n")
        assert len(await server.stored()) == 1


# Guessers


async def test_after_too_many_failures_no_password_is_looked_at(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path, max_failed_logins=4)) as server:
        for guesses in (2, 2):  # over two sessions: it is the address that counts
            async with await secure(server) as client:
                for _ in range(guesses):
                    assert await client.ask(f"AUTH PLAIN {BAD}") == REFUSED
        async with await secure(server) as client:
            assert await client.ask(f"AUTH PLAIN {GOOD}") == BARRED
            assert await client.ask("AUTH SCRAM-SHA-256") == BARRED
            assert not await may_send(client)
            assert await client.ask("RSET") == "250 2.0.0 OK"
            assert await client.ask("AUTH LOGIN") == "421 4.7.0 Too many failed logins, closing connection"
        assert [event for event in server.events if isinstance(event, LoginsBarred)] == [LoginsBarred("127.0.0.1")]


async def test_a_success_takes_the_failures_back(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(tmp_path, max_failed_logins=3)) as server:
        for _ in range(2):
            async with await secure(server) as client:
                assert await client.ask(f"AUTH PLAIN {BAD}") == REFUSED
                assert await client.ask(f"AUTH PLAIN {BAD}") == REFUSED
                assert (await client.ask(f"AUTH PLAIN {GOOD}")).startswith("235 ")


async def test_guesses_in_many_sessions_at_once_do_not_slip_by(tmp_path: Path) -> None:
    """Each password is looked at when its turn has come, and the count is looked at first."""
    async with running(tmp_path, wanted(tmp_path, max_failed_logins=2)) as server:
        clients = [await secure(server) for _ in range(12)]
        for client in clients:
            client.send(f"AUTH PLAIN {BAD}\r\n".encode())
        answers = [(await client.reply())[:3] for client in clients]
        assert sorted(set(answers)) == ["454", "535"]
        assert answers.count("535") <= 5  # two, and those that were under way at the same time
        for client in clients:
            await client.__aexit__()


async def test_a_guess_with_scram_counts_too(tmp_path: Path) -> None:
    given = wanted(tmp_path, max_failed_logins=1)
    async with running(tmp_path, given) as server, await secure(server) as client, await secure(server) as other:
        mechanism = ScramSha256("alice", "secret", "n")
        assert mechanism.first is not None
        challenge = await other.ask(f"AUTH SCRAM-SHA-256 {said(mechanism.first)}")
        assert await scram(client, "alice", "wrong") == REFUSED
        # Begun before, and no longer looked at: right or wrong looks the same.
        assert await other.ask(said(mechanism.answer(base64.b64decode(challenge[4:])))) == BARRED


async def test_it_is_the_client_behind_a_proxy_that_counts(tmp_path: Path) -> None:
    """The proxy is on this machine, its clients are not: no password in clear text, and guesses are theirs."""
    given = wanted(tmp_path, max_failed_logins=1, plaintext_login_on_loopback=True)
    listener = {"name": "proxied", "listen": ["127.0.0.1:0"], "proxy_from": ["127.0.0.1/32"]}
    given = replace(given, tables={"listener": (ListenerSettings.model_validate(listener),)})

    async def behind(server: Running, address: str) -> Client:
        client = await server.connect(2, greeted=False)
        client.send(f"PROXY TCP4 {address} 192.0.2.1 1000 587\r\n".encode())
        assert (await client.reply()).startswith("220 ")
        return client

    async with running(tmp_path, given) as server:
        for address in ("203.0.113.9", "127.0.0.1"):  # the second is the proxy itself, and tells nothing
            async with await behind(server, address) as client:
                assert mechanisms(await client.hello()) == ""
                assert (await client.ask(f"AUTH PLAIN {GOOD}")).startswith("538 5.7.11 ")
        async with await behind(server, "203.0.113.9") as guesser, await behind(server, "203.0.113.10") as other:
            for client in (guesser, other):
                await client.start_tls(TLS)
                await client.hello()
            assert await guesser.ask(f"AUTH PLAIN {BAD}") == REFUSED
            assert await guesser.ask(f"AUTH PLAIN {GOOD}") == BARRED
            assert (await other.ask(f"AUTH PLAIN {GOOD}")).startswith("235 ")
        assert await server.event(LoginsBarred) == LoginsBarred("203.0.113.9")
