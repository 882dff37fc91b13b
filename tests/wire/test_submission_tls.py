"""STARTTLS, implicit TLS and AUTH: what is forgotten, what is refused, and what opens relaying."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
from datetime import timedelta
from pathlib import Path

import argon2
import pytest
from submission_peer import HOSTNAME, LOOPBACK, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import AuthenticationFailed, DefectFound, FileRefused, MessageAccepted, SubmissionRefused
from relay.submission.users import Users
from relay.tls import ServerContexts

pytestmark = pytest.mark.asyncio

SERVER_TLS = lab_tls()
TLS = client_tls()
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
USERS = {"alice": "secret", "bob@example.test": 'ö:"%', "carol": "x" * 255}
IMPLICIT = {"listen": (), "listen_tls": (LOOPBACK,)}
LOGIN_NEEDED = "530 5.7.0 Authentication required"


def write_users(folder: Path, users: dict[str, str]) -> Path:
    """The users file, replaced as a whole, as `relay user add` does it."""
    new = folder / "users.new"
    new.write_text("".join(f"{name}:{CHEAP.hash(password)}\n" for name, password in users.items()))
    return new.replace(folder / "users")


def with_users(folder: Path, **settings: object) -> Wanted:
    """STARTTLS on one listener, TLS from the start on another, users, and no client trusted for its address."""
    options = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,), **settings}
    return Wanted(options, tls=SERVER_TLS, users=Users.load(write_users(folder, USERS)), loopback_trusted=False)


def plain(name: str, password: str, acting_for: str = "") -> str:
    return coded(f"{acting_for}\0{name}\0{password}")


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def secure(server: Running) -> Client:
    """A client that has said EHLO under TLS."""
    client = await server.connect(1, tls=TLS)
    await client.hello()
    return client


async def may_send(client: Client) -> bool:
    """Whether this client may send to anyone."""
    await client.ask("RSET")
    assert (await client.ask("MAIL FROM:<alice@example.test>")).startswith("250 ")
    answer = await client.ask("RCPT TO:<victim@example.org>")
    await client.ask("RSET")
    assert answer.startswith("250 ") or answer == LOGIN_NEEDED
    return answer.startswith("250 ")


# STARTTLS


async def test_starttls_forgets_everything(tmp_path: Path) -> None:
    """RFC 3207 section 4.2."""
    async with running(tmp_path, Wanted(tls=SERVER_TLS)) as server, await server.connect() as client:
        assert (await client.hello()).splitlines()[-1] == "250 STARTTLS"
        await client.ask("MAIL FROM:<before@example.test>")
        await client.ask("RCPT TO:<before@example.test>")
        await client.start_tls(TLS)
        for command in ("RCPT TO:<b@example.test>", "DATA", "MAIL FROM:<a@example.test>"):
            assert await client.ask(command) == "503 5.5.1 Send EHLO first"
        offers = (await client.hello()).splitlines()
        assert not any("STARTTLS" in line or "AUTH" in line for line in offers)
        assert await client.ask("DATA") == "503 5.5.1 Send MAIL first"
        assert (await client.deliver(b"x\r\n.\r\n", "after@example.test")).startswith("250 2.0.0 ")
        (message,) = await server.stored()
        assert message.recipients == ("after@example.test",)
        assert b"\twith ESMTPS (TLSv1.3 " in message.trace


async def test_what_is_offered_before_and_under_tls(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server, await server.connect() as client:
        clear = (await client.hello()).splitlines()
        assert clear[-1] == "250 STARTTLS"
        assert not any("AUTH" in line for line in clear)
        await client.start_tls(TLS)
        assert (await client.hello()).splitlines() == [
            *clear[:-1],
            "250-FUTURERELEASE 2592000 2026-04-03T05:06:00Z",  # as it can log in now
            "250-REQUIRETLS",
            "250 AUTH PLAIN LOGIN",
        ]
        assert await client.ask("HELO client.example.test") == f"250 {HOSTNAME}"


async def test_starttls_before_ehlo_and_twice(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(tls=SERVER_TLS)) as server, await server.connect() as client:
        assert await client.ask("STARTTLS now") == "501 5.5.4 This command takes no argument"
        await client.start_tls(TLS)
        await client.hello()
        assert await client.ask("STARTTLS") == "503 5.5.1 TLS is already active"
        assert (await client.ask("NOOP")).startswith("250 ")


INJECTED = [b"NOOP\r\n", b"EHLO evil\r\nMAIL FROM:<evil@example.test>\r\n", b"RSET", b"NOOP\r\n" * 1000]


@pytest.mark.parametrize("injected", INJECTED, ids=["one", "two", "half a line", "a thousand"])
async def test_commands_in_clear_text_behind_starttls_are_dropped(injected: bytes, tmp_path: Path) -> None:
    """Somebody in the middle may have added them (CVE-2011-0411)."""
    async with running(tmp_path, Wanted(tls=SERVER_TLS)) as server, await server.connect() as client:
        await client.hello()
        client.send(b"STARTTLS\r\n" + injected)
        assert (await client.reply()).startswith("220 2.0.0 ")
        await client.writer.start_tls(TLS)
        assert await client.ask("RCPT TO:<b@example.test>") == "503 5.5.1 Send EHLO first"
        assert await client.ask("VRFY x") == "252 2.0.0 Cannot verify, but will take mail and try to deliver it"


async def test_commands_in_clear_text_after_220_end_the_session(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(tls=SERVER_TLS)) as server, await server.connect() as client:
        await client.ask("STARTTLS")
        client.send(b"EHLO evil\r\nMAIL FROM:<evil@example.test>\r\n")
        assert await no_smtp(client)
        refusal = await server.event(SubmissionRefused)
        assert isinstance(refusal, SubmissionRefused)
        assert refusal.about.startswith("TLS handshake failed: ")
        assert refusal.client == "127.0.0.1"
        assert server.count(DefectFound) == 0


async def no_smtp(client: Client) -> bool:
    """Wait for the end; whether no reply came before it (a TLS alert may)."""
    try:
        left = await client.reader.read()
    except ConnectionError:
        return True
    return b"\r\n" not in left


def reset(client: Client) -> None:
    sock = client.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


# How a client may fail to shake hands.
BROKEN = {
    "silent": b"",
    "garbage": b"\x16\x03\x01garbage" * 100,
    "half a hello": b"\x16\x03\x01\x02\x00\x01",
    "closes": b"",
    "resets": b"",
}


@pytest.mark.timeout(20)  # a session that nobody ends would hold up the stop
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize("how", BROKEN)
async def test_handshake_that_fails(how: str, implicit: bool, tmp_path: Path) -> None:
    """It costs the client its connection, is reported, and leaves nothing behind: its place is free again."""
    quick = timedelta(milliseconds=500 if how in ("silent", "half a hello") else 20000)
    settings = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,), "max_connections": 1, "timeout": quick}
    async with running(tmp_path, Wanted(settings, tls=SERVER_TLS)) as server:
        async with await server.connect(int(implicit), greeted=not implicit) as client:
            if not implicit:
                assert (await client.ask("STARTTLS")).startswith("220 ")
            client.send(BROKEN[how])
            if how == "resets":
                reset(client)
            elif how == "closes":
                client.writer.close()
            else:
                assert await no_smtp(client)
        refusal = await server.event(SubmissionRefused)
        assert isinstance(refusal, SubmissionRefused)
        assert refusal.about.startswith("TLS handshake failed: ")
        async with await server.connect(1, tls=TLS) as other:
            assert (await other.hello()).startswith("250-")
        assert server.count(DefectFound) == 0


async def test_a_new_certificate_for_the_next_handshake(tmp_path: Path) -> None:
    def certificate(client: Client) -> bytes:
        found: bytes = client.writer.get_extra_info("ssl_object").getpeercert(True)
        return found

    async with running(tmp_path, with_users(tmp_path)) as server, await server.connect(1, tls=TLS) as first:
        before = certificate(first)
        server.server.tls = ServerContexts(lab_tls())
        async with await server.connect(1, tls=TLS) as second, await server.connect(0) as third:
            await third.start_tls(TLS)
            assert certificate(second) == certificate(third) != before
        assert (await first.hello()).startswith("250-")


# Implicit TLS


async def test_implicit_tls(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server, await secure(server) as client:
        assert await client.ask("STARTTLS") == "503 5.5.1 TLS is already active"
        assert not await may_send(client)
        assert await client.ask(f"AUTH PLAIN {plain('alice', 'secret')}") == "235 2.7.0 Authentication successful"
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
        (message,) = await server.stored()
        assert b"\twith ESMTPSA (TLSv1.3 " in message.trace
        event = await server.event(MessageAccepted)
        assert isinstance(event, MessageAccepted)
        assert event.login == "alice"
        assert await client.ask("QUIT") == "221 2.0.0 Bye"
        assert await client.closed()


async def test_clear_text_to_implicit_tls(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server, await server.connect(1, greeted=False) as client:
        client.send(b"EHLO x\r\nMAIL FROM:<a@example.test>\r\n")
        assert await no_smtp(client)


async def test_implicit_tls_is_never_clear_text(tmp_path: Path) -> None:
    """Not even for a defect of ours, which is told, and costs nothing but this client."""
    async with running(tmp_path, Wanted(tls=SERVER_TLS, settings={"listen_tls": (LOOPBACK,)})) as server:
        contexts, server.server.tls = server.server.tls, None
        async with await server.connect(1, greeted=False) as client:
            assert await client.reader.read() == b""
        assert isinstance(await server.event(DefectFound), DefectFound)
        server.server.tls = contexts
        async with await server.connect(1, tls=TLS) as client:
            assert (await client.hello()).startswith("250-")


async def test_implicit_tls_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a certificate"):
        async with running(tmp_path, Wanted(IMPLICIT)):
            pass


async def test_old_versions_name_themselves(tmp_path: Path) -> None:
    old = client_tls()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running(tmp_path, Wanted(IMPLICIT, tls=SERVER_TLS)) as server, await server.connect(tls=old) as client:
        await client.deliver(b"x\r\n.\r\n")
        (message,) = await server.stored()
        assert b"(TLSv1.2 " in message.trace


# AUTH. Each dialogue is under TLS, after EHLO: lines and how the answers begin. Then whether relaying is open.

Dialogue = list[tuple[str, str]]
GOOD = plain("alice", "secret")
USERNAME, PASSWORD = "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"
WRONG = "535 5.7.8 "
UNREADABLE = "501 5.5.2 "

DIALOGUES: dict[str, tuple[Dialogue, bool]] = {
    "PLAIN at once": ([(f"AUTH PLAIN {GOOD}", "235 2.7.0 ")], True),
    "PLAIN in lower case": ([(f"auth plain {GOOD}", "235 2.7.0 ")], True),
    "PLAIN asked": ([("AUTH PLAIN", "334 "), (GOOD, "235 2.7.0 ")], True),
    "PLAIN acting for oneself": ([(f"AUTH PLAIN {plain('alice', 'secret', 'alice')}", "235 ")], True),
    "PLAIN acting for another": ([(f"AUTH PLAIN {plain('alice', 'secret', 'bob')}", WRONG)], False),
    "PLAIN, hard to spell": ([(f"AUTH PLAIN {plain('bob@example.test', USERS['bob@example.test'])}", "235 ")], True),
    "PLAIN, longest": ([(f"AUTH PLAIN {plain('carol', 'x' * 255)}", "235 ")], True),
    "PLAIN, longer": ([(f"AUTH PLAIN {plain('carol', 'x' * 256)}", WRONG)], False),
    "PLAIN, longest line": ([(f"AUTH PLAIN {plain('carol', 'x' * 9000)}", WRONG)], False),
    "LOGIN": ([("AUTH LOGIN", USERNAME), (coded("alice"), PASSWORD), (coded("secret"), "235 ")], True),
    "LOGIN in mixed case": ([("aUth lOgin", USERNAME), (coded("alice"), PASSWORD), (coded("secret"), "235 ")], True),
    "LOGIN with the name": ([(f"AUTH LOGIN {coded('alice')}", PASSWORD), (coded("secret"), "235 ")], True),
    "LOGIN, empty name": ([("AUTH LOGIN =", PASSWORD), (coded("secret"), WRONG)], False),
    "wrong password": ([(f"AUTH PLAIN {plain('alice', 'Secret')}", WRONG)], False),
    "wrong, then right": ([(f"AUTH PLAIN {plain('alice', 'x')}", WRONG), (f"AUTH PLAIN {GOOD}", "235 ")], True),
    "another's password": ([(f"AUTH PLAIN {plain('carol', 'secret')}", WRONG)], False),
    "unknown user": ([(f"AUTH PLAIN {plain('mallory', 'secret')}", WRONG)], False),
    "no password": ([(f"AUTH PLAIN {plain('alice', '')}", WRONG)], False),
    "no name": ([(f"AUTH PLAIN {plain('', 'secret')}", UNREADABLE)], False),
    "too few parts": ([(f"AUTH PLAIN {coded('alice')}", UNREADABLE)], False),
    "too many parts": ([(f"AUTH PLAIN {plain('alice', 'secret')[:-4]}{coded('x' + chr(0) + 'y')}", UNREADABLE)], False),
    "nothing": ([("AUTH PLAIN =", UNREADABLE)], False),
    "nothing, asked": ([("AUTH PLAIN", "334 "), ("", UNREADABLE)], False),
    "PLAIN cancelled": ([("AUTH PLAIN", "334 "), ("*", "501 5.7.0 "), ("NOOP", "250 ")], False),
    "LOGIN cancelled": ([("AUTH LOGIN", USERNAME), ("*", "501 5.7.0 "), ("NOOP", "250 ")], False),
    "LOGIN cancelled late": ([("AUTH LOGIN", USERNAME), (coded("alice"), PASSWORD), ("*", "501 5.7.0 ")], False),
    "not base64": ([("AUTH PLAIN AGE", UNREADABLE), (f"AUTH PLAIN {GOOD[:4]}!{GOOD[4:]}", UNREADABLE)], False),
    "not base64, asked": ([("AUTH LOGIN", USERNAME), ("alice", UNREADABLE), ("NOOP", "250 ")], False),
    "blanks in base64": ([(f"AUTH PLAIN {GOOD[:4]} {GOOD[4:]}", "501 5.5.4 ")], False),
    "not UTF-8": ([("AUTH PLAIN AP8A/w==", UNREADABLE)], False),
    "control characters": ([("AUTH LOGIN", USERNAME), ("\x1b", "500 5.5.2 "), ("NOOP", "250 ")], False),
    "commands are no answers": (
        [("AUTH LOGIN", USERNAME), ("QUIT", PASSWORD), ("RSET", WRONG), ("NOOP", "250 ")],
        False,
    ),
    "line too long": ([(f"AUTH PLAIN {'A' * 12300}", "500 5.5.2 "), ("NOOP", "250 ")], False),
    "answer too long": ([("AUTH PLAIN", "334 "), ("A" * 12300, "500 5.5.6 "), ("NOOP", "250 ")], False),
    "no mechanism": ([("AUTH", "501 5.5.4 ")], False),
    "unknown mechanism": ([("AUTH CRAM-MD5", "504 5.5.4 "), ("AUTH EXTERNAL =", "504 5.5.4 ")], False),
    "twice": ([(f"AUTH PLAIN {GOOD}", "235 "), (f"AUTH PLAIN {GOOD}", "503 5.5.1 ")], True),
    "in a transaction": ([("MAIL FROM:<>", "250 "), (f"AUTH PLAIN {GOOD}", "503 5.5.1 ")], False),
    "after HELO": ([("HELO x", "250 "), (f"AUTH PLAIN {GOOD}", "503 5.5.1 ")], False),
    "EHLO again": ([(f"AUTH PLAIN {GOOD}", "235 "), ("EHLO y", "250-"), ("RSET", "250 ")], True),
    "AUTH= is not believed": ([("MAIL FROM:<> AUTH=alice", "250 "), ("RCPT TO:<b@example.org>", "530 5.7.0 ")], False),
}


@pytest.mark.parametrize("name", DIALOGUES)
async def test_dialogue(name: str, tmp_path: Path) -> None:
    dialogue, opens = DIALOGUES[name]
    async with running(tmp_path, with_users(tmp_path)) as server, await secure(server) as client:
        for line, expected in dialogue:
            answer = await client.ask(line)
            assert answer.startswith(expected), (line, answer)
        assert await may_send(client) is opens
        assert server.count(DefectFound) == 0


@pytest.mark.parametrize("line", [f"AUTH PLAIN {GOOD}", "AUTH PLAIN", "AUTH LOGIN", "AUTH", "AUTH NONSENSE"])
async def test_auth_in_clear_text(line: str, tmp_path: Path) -> None:
    """Refused before the password is asked for, and no use later."""
    async with running(tmp_path, with_users(tmp_path)) as server, await server.connect() as client:
        await client.hello()
        assert await client.ask(line) == "538 5.7.11 Encryption required for authentication"
        assert not await may_send(client)
        await client.start_tls(TLS)
        await client.hello()
        assert not await may_send(client)
        assert (await client.ask(f"AUTH PLAIN {GOOD}")).startswith("235 ")
        assert await may_send(client)


async def test_a_login_is_for_its_connection_alone(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server, await secure(server) as client:
        await client.ask(f"AUTH PLAIN {GOOD}")
        async with await secure(server) as other:
            assert not await may_send(other)
        assert await may_send(client)


async def test_too_many_failed_logins(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server, await secure(server) as client:
        for name in ("alice", "mallory\x1b[2J\r\n"):
            assert (await client.ask(f"AUTH PLAIN {plain(name, 'x')}")).startswith(WRONG)
        client.send(f"AUTH PLAIN {plain('alice', 'y')}\r\nAUTH PLAIN {GOOD}\r\nMAIL FROM:<>\r\n".encode())
        assert await client.reply() == "421 4.7.0 Too many failed logins, closing connection"
        assert await client.closed()
        failures = [event for event in server.events if isinstance(event, AuthenticationFailed)]
        assert [event.login for event in failures] == ["alice", "mallory\ufffd[2J\ufffd\ufffd", "alice"]
        assert {event.client for event in failures} == {"127.0.0.1"}


async def test_pipelined_after_auth(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server, await secure(server) as client:
        client.send(f"AUTH PLAIN {GOOD}\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n".encode())
        assert [(await client.reply())[:3] for _ in range(3)] == ["235", "250", "250"]


async def test_users_file_changes_under_way(tmp_path: Path) -> None:
    async with running(tmp_path, with_users(tmp_path)) as server:

        async def log_in(name: str, password: str) -> str:
            async with await secure(server) as client:
                return (await client.ask(f"AUTH PLAIN {plain(name, password)}"))[:3]

        assert await log_in("alice", "secret") == "235"
        path = write_users(tmp_path, {"alice": "changed", "dave": "new"})
        assert await log_in("alice", "secret") == "535"
        assert await log_in("alice", "changed") == "235"
        assert await log_in("dave", "new") == "235"
        path.write_text("dave\n")  # a mistake: what was in force stays so, and it is said once
        assert await log_in("dave", "new") == "235"
        assert await log_in("alice", "changed") == "235"
        assert [event for event in server.events if isinstance(event, DefectFound | FileRefused)] == [
            FileRefused(f"{path}, line 1: not of the form name:hash")
        ]
