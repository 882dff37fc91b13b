"""What a [[client]] allows, at MAIL and RCPT: senders, recipients, sizes and quotas, over real sessions."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import argon2
import pytest
from submission_peer import LOOPBACK, NOW, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import DefectFound, MessageAccepted, QuotaReached, SubmissionRefused
from relay.settings import ClientSettings, ListenerSettings, NoticeSettings
from relay.submission.users import Users

pytestmark = pytest.mark.asyncio

SERVER_TLS = lab_tls()
TLS = client_tls()
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HERE = ["127.0.0.0/8"]
LOGIN = "AUTH PLAIN AGFsaWNlAHNlY3JldA=="  # alice, secret
SENDER = "550 5.7.1 You may not send from this address"
RECIPIENT = "550 5.7.1 You may not send to this address"


def table(**keys: Any) -> ClientSettings:
    return ClientSettings.model_validate({"name": "x", "networks": HERE, **keys})


def wanted(*tables: ClientSettings, **more: Any) -> Wanted:
    return Wanted(tables={"client": tables}, **more)


def with_users(folder: Path, *tables: ClientSettings, **settings: Any) -> Wanted:
    """A second listener with TLS from the first octet, alice's password, and nobody trusted for its address."""
    (folder / "users").write_text(f"alice:{CHEAP.hash('secret')}\n")
    options: Mapping[str, Any] = {"listen_tls": (LOOPBACK,), "trusted_networks": (), **settings}
    users = Users.load(folder / "users")
    return Wanted(options, tables={"client": tables}, tls=SERVER_TLS, users=users)


async def asked(client: Client, *dialogue: tuple[str, str]) -> None:
    for line, expected in dialogue:
        answer = await client.ask(line)
        assert answer.startswith(expected), (line, answer)


async def send(client: Client, *recipients: str) -> list[str]:
    """The answers to MAIL, RCPT and, if anybody is taken, the message."""
    answers = [await client.ask("MAIL FROM:<a@b.test>")]
    if answers[0].startswith("250 "):
        answers += [await client.ask(f"RCPT TO:<{one}>") for one in recipients]
        if any(answer.startswith("250 ") for answer in answers[1:]):
            await client.ask("DATA")
            answers.append(await client.ask("x\r\n."))
    await client.ask("RSET")
    return [answer[:9] for answer in answers]


async def test_senders_are_told_at_mail(tmp_path: Path) -> None:
    limited = table(senders=["b.test", "boss@c.test", ".d.test"])
    async with running(tmp_path, wanted(limited)) as server, await server.connect() as client:
        await client.hello()
        await asked(
            client,
            ("MAIL FROM:<a@b.test>", "250 "),
            ("RSET", "250 "),
            ('MAIL FROM:<"boss"@C.test>', "250 "),
            ("RSET", "250 "),
            ("MAIL FROM:<a@x.d.test>", "250 "),
            ("RSET", "250 "),
            ("MAIL FROM:<a@c.test>", SENDER),
            ("RCPT TO:<a@c.test>", "503 5.5.1 "),
            ("MAIL FROM:<>", SENDER),
            ("MAIL FROM:<a@b.test.evil.test>", SENDER),
            ('MAIL FROM:<"x@b.test"@evil.test>', SENDER),
            ("MAIL FROM:<x%b.test@evil.test>", SENDER),
            ("MAIL FROM:<a@evil.test> AUTH=a@b.test", SENDER),
            ("MAIL FROM:<@b.test:a@evil.test>", "553 5.1.7 a source route"),
        )
        refusal = await server.event(SubmissionRefused)
        assert isinstance(refusal, SubmissionRefused) and refusal.about == "MAIL FROM:<a@c.test>"


async def test_recipients_are_told_at_rcpt(tmp_path: Path) -> None:
    limited = table(recipients=["b.test", "boss@c.test"])
    async with running(tmp_path, wanted(limited)) as server, await server.connect() as client:
        await client.hello()
        await asked(
            client,
            ("MAIL FROM:<a@b.test> SMTPUTF8", "250 "),
            ("RCPT TO:<a@c.test>", RECIPIENT),
            ("RCPT TO:<a@[127.0.0.1]>", RECIPIENT),
            ('RCPT TO:<"a@b.test"@c.test>', RECIPIENT),
            ("RCPT TO:<a%b.test@c.test>", RECIPIENT),
            ("RCPT TO:<a@\u0432.test>", RECIPIENT),  # a Cyrillic letter that looks like a b, or nearly
            ("RCPT TO:<Boss@c.test>", RECIPIENT),
            ("RCPT TO:<boss+x@c.test>", RECIPIENT),
            ('RCPT TO:<"bo\\ss"@c.test>', "250 "),
            ("RCPT TO:<a%evil.test@b.test>", "250 "),  # b.test's own affair
            ("DATA", "354 "),
            ("x\r\n.", "250 2.0.0 "),
        )
        (message,) = await server.stored()
        assert message.recipients == ('"bo\\ss"@c.test', "a%evil.test@b.test")


@pytest.mark.parametrize(
    ("mailbox", "recipients", "answer"),
    [
        (None, [], "550 5.1.1 No local mailboxes here"),
        ("root@b.test", [], "250 2.1.5 "),
        ("root@b.test", ["b.test"], "250 2.1.5 "),
        ("root@b.test", ["c.test"], RECIPIENT),  # the list speaks of the mailbox, and so does the refusal
        ("röot@b.test", [], "553 5.6.7 "),
    ],
)
async def test_the_bare_postmaster(mailbox: str | None, recipients: list[str], answer: str, tmp_path: Path) -> None:
    """RFC 5321 section 4.5.1."""
    given = wanted(table(recipients=recipients))
    notices = NoticeSettings.model_validate({"postmaster": mailbox or ""})
    given = Wanted(tables={**given.tables, "notices": notices})
    async with running(tmp_path, given) as server, await server.connect() as client:
        await client.hello()
        await asked(client, ("MAIL FROM:<>", "250 "), ("RCPT TO:<PostMaster> NOTIFY=NEVER", answer))
        if answer.startswith("250 "):
            await asked(client, ("RCPT TO:<root@b.test>", "250 "), ("DATA", "354 "), ("x\r\n.", "250 2.0.0 "))
            (message,) = await server.stored()
            assert message.recipients == ("root@b.test",)
            accepted = await server.event(MessageAccepted)
            assert isinstance(accepted, MessageAccepted) and accepted.allowed_by == "x"


async def test_names_are_compared_by_their_a_labels(tmp_path: Path) -> None:
    limited = table(senders=["bücher.test"], recipients=["xn--bcher-kva.test"])
    async with running(tmp_path, wanted(limited)) as server, await server.connect() as client:
        await client.hello()
        await asked(
            client,
            ("MAIL FROM:<a@xn--bcher-kva.test>", "250 "),
            ("RSET", "250 "),
            ("MAIL FROM:<a@BÜCHER.test> SMTPUTF8", "250 "),
            ("RCPT TO:<a@bücher.test>", "250 "),
            ("RCPT TO:<a@bucher.test>", RECIPIENT),
        )


async def test_a_user_sends_under_its_own_name(tmp_path: Path) -> None:
    limited = table(networks=[], users=["*"], senders=["{user}@b.test"])
    async with running(tmp_path, with_users(tmp_path, limited)) as server, await server.connect(1, tls=TLS) as client:
        await client.hello()
        await asked(
            client,
            (LOGIN, "235 "),
            ("MAIL FROM:<alice@b.test>", "250 "),
            ("RSET", "250 "),
            ("MAIL FROM:<bob@b.test>", SENDER),
            ("MAIL FROM:<alice@evil.test>", SENDER),
            ("MAIL FROM:<alice+bob@b.test>", SENDER),
        )


@pytest.mark.parametrize(
    ("own", "tables", "listener", "answer"),
    [
        ("none", (), 0, "530 5.7.0 Authentication required"),  # after STARTTLS
        ("none", (), 1, "530 5.7.0 Authentication required"),
        ("none", (), 2, "550 5.7.1 Relaying denied: this client may not send mail here"),  # no AUTH there
        ("alice", ({"name": "x", "users": ["bob"]},), 1, "550 5.7.1 Relaying denied: this user may not send mail here"),
        ("alice", ({"name": "x", "users": ["alice"], "listeners": ["submission"]},), 1, "550 5.7.1 Relaying denied"),
        ("alice", ({"name": "x", "users": ["alice"], "networks": ["192.0.2.0/24"]},), 1, "550 5.7.1 Relaying denied"),
    ],
)
async def test_what_strangers_hear(
    own: str, tables: tuple[Any, ...], listener: int, answer: str, tmp_path: Path
) -> None:
    """RFC 4954 section 6: 530 where a login would help; a client then asks for a password."""
    given = with_users(tmp_path, *map(ClientSettings.model_validate, tables))
    deaf = ListenerSettings(name="deaf", listen=(LOOPBACK,), auth=False)
    given = Wanted(given.settings, {**given.tables, "listener": (deaf,)}, given.tls, given.users)
    tls = TLS if listener == 1 else None
    async with running(tmp_path, given) as server, await server.connect(listener, tls=tls) as client:
        await client.hello()
        if own != "none":
            await asked(client, (LOGIN, "235 "))
        await asked(client, ("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@c.test>", answer), ("DATA", "503 5.5.1 "))


async def test_the_size_that_holds_for_this_client(tmp_path: Path) -> None:
    """Shown by EHLO, kept at MAIL and in the message, and another one after the login."""
    tables = table(max_message_size="1k"), table(name="y", networks=[], users=["*"], max_message_size=3000)
    given = with_users(tmp_path, *tables, max_message_size=2000, trusted_networks=("192.0.2.0/24",))
    async with running(tmp_path, given) as server, await server.connect() as client:
        assert "250-SIZE 1024" in await client.hello()
        await asked(
            client, ("MAIL FROM:<a@b.test> SIZE=1025", "552 5.3.4 "), ("MAIL FROM:<a@b.test> SIZE=1024", "250 ")
        )
        await asked(client, ("RCPT TO:<b@b.test>", "250 "), ("DATA", "354 "))
        await asked(client, ("x" * 800 + "\r\n" + "x" * 300 + "\r\n.", "552 5.3.4 Message too big"))
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
    away = table(networks=["192.0.2.0/24"], max_message_size="1k")
    given = with_users(tmp_path, away, tables[1], max_message_size=2000)
    async with running(tmp_path / "2", given) as server, await server.connect(1, tls=TLS) as client:
        assert "250-SIZE 2000" in await client.hello()
        await asked(client, (LOGIN, "235 "))
        assert "250-SIZE 3000" in await client.hello()
        assert (await client.deliver(b"x" * 900 + b"\r\n" + (b"y" * 900 + b"\r\n") * 2 + b".\r\n")).startswith(
            "250 2.0.0 "
        )


async def test_messages_in_a_minute(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(table(messages_per_minute=2))) as server, await server.connect() as client:
        await client.hello()
        for _ in range(3):  # what was given up does not count
            await asked(client, ("MAIL FROM:<a@b.test>", "250 "), ("RSET", "250 "))
        for _ in range(2):
            assert await send(client, "r@b.test") == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
        await asked(
            client,
            ("MAIL FROM:<a@b.test>", "450 4.7.1 Too many messages: your limit is 2 in a minute, try again later"),
            ("RCPT TO:<b@b.test>", "503 5.5.1 "),
        )
        reached = await server.event(QuotaReached)
        assert isinstance(reached, QuotaReached)
        assert (reached.account, reached.limit, reached.most) == ("x, address 127.0.0.1", "messages_per_minute", 2)


@pytest.mark.parametrize(
    ("limits", "sender", "answers"),
    [
        ({"messages_per_minute": 1}, "a@b.test", ["450", "503", "503"]),
        ({"recipients_per_day": 1}, "a@b.test", ["250", "450", "503"]),
        ({"senders": ["b.test"]}, "a@c.test", ["550", "503", "503"]),
        ({"recipients": ["b.test"]}, "a@c.test", ["250", "550", "503"]),
    ],
)
async def test_refusals_in_a_pipeline_are_no_mistakes(
    limits: dict[str, Any], sender: str, answers: list[str], tmp_path: Path
) -> None:
    """A mail server above its quota goes on with its next message, and is not sent away."""
    async with running(tmp_path, wanted(table(**limits))) as server, await server.connect() as client:
        await client.hello()
        await send(client, "a@b.test")
        for _ in range(30):
            client.send(f"MAIL FROM:<{sender}>\r\nRCPT TO:<r@c.test>\r\nDATA\r\nRSET\r\n".encode())
            assert [(await client.reply())[:3] for _ in range(4)] == [*answers, "250"]


async def test_recipients_in_a_day(tmp_path: Path) -> None:
    """Those above the limit are told so; the others of the message are taken."""
    day = [NOW]
    given = wanted(table(recipients_per_day=2, new_recipients_per_day=100), clock=lambda: day[0])
    async with running(tmp_path, given) as server, await server.connect() as client:
        await client.hello()
        assert await send(client, "a@b.test", "a@B.test", "b@b.test", "c@b.test") == [
            *("250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.1.5", "450 4.7.1", "250 2.0.0"),
        ]
        answer = "450 4.7.1 Too many recipients: your limit is 2 in 24 hours, try again later"
        await asked(client, ("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<a@b.test>", answer), ("RSET", "250 "))
        day[0] += timedelta(days=1, minutes=10)
        assert await send(client, "a@b.test") == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
        assert server.count(DefectFound) == 0


async def test_new_recipients_in_a_day(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(table(new_recipients_per_day=1))) as server, await server.connect() as client:
        await client.hello()
        assert await send(client, "a@b.test") == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
        assert await send(client, "b@b.test", "a@b.test") == ["250 2.1.0", "450 4.7.1", "250 2.1.5", "250 2.0.0"]


@pytest.mark.parametrize(
    "ends", ["RSET", "EHLO again", "QUIT", "hangs up", "hangs up in DATA", "hangs up in BDAT", "message refused"]
)
async def test_however_a_message_ends_its_quota_is_free_again(ends: str, tmp_path: Path) -> None:
    limited = table(messages_per_minute=1, recipients_per_day=1, new_recipients_per_day=1, max_message_size="1k")
    async with running(tmp_path, wanted(limited)) as server, await server.connect() as other:
        await other.hello()
        async with await server.connect() as client:
            await client.hello()
            await asked(client, ("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@b.test>", "250 "))
            assert await send(other, "c@b.test") == ["450 4.7.1"]
            match ends:
                case "RSET":
                    await asked(client, ("RSET", "250 "))
                case "EHLO again":
                    await client.hello()
                case "QUIT":
                    await asked(client, ("QUIT", "221 "))
                case "hangs up in DATA":
                    await asked(client, ("DATA", "354 "))
                    client.send(b"half a message\r\n")
                case "hangs up in BDAT":
                    client.send(b"BDAT 4\r\nhalf")
                    assert (await client.reply()).startswith("250 ")
                case "message refused":
                    await asked(client, ("DATA", "354 "), ("x" * 900 + "\r\n" + "x" * 900 + "\r\n.", "552 5.3.4 "))
        await _gone(server, 1)
        assert await send(other, "c@b.test") == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
        assert await send(other, "c@b.test") == ["450 4.7.1"]


async def test_who_hangs_up_during_the_commit_gets_nothing_back(tmp_path: Path) -> None:
    """Or a thief would hang up after each message."""
    async with (
        running(tmp_path, wanted(table(messages_per_minute=1, recipients_per_day=1))) as server,
        await server.connect() as other,
    ):
        await other.hello()
        server.queue.may_put.clear()
        async with await server.connect() as client:
            await client.begin("b@b.test")
            client.send(b"x\r\n.\r\n")
            await server.queue.putting.wait()
            linger = struct.pack("ii", 1, 0)  # a reset, not an end of file
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await _gone(server, 1)
        assert await send(other, "c@b.test") == ["450 4.7.1"]
        server.queue.may_put.set()
        await server.event(MessageAccepted)
        assert await send(other, "c@b.test") == ["450 4.7.1"]


async def test_a_message_in_chunks_counts_once(tmp_path: Path) -> None:
    given = wanted(table(messages_per_minute=2, recipients_per_day=2))
    async with running(tmp_path, given) as server, await server.connect() as client:
        await client.hello()
        for _ in range(2):
            await asked(client, ("MAIL FROM:<a@b.test>", "250 "), ("RCPT TO:<b@b.test>", "250 "))
            client.send(b"BDAT 3\r\nx\r\nBDAT 3 LAST\r\ny\r\n")
            assert [(await client.reply())[:9] for _ in range(2)] == ["250 2.0.0"] * 2
        assert await send(client, "c@b.test") == ["450 4.7.1"]


async def test_a_message_that_the_queue_does_not_take_costs_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(table(messages_per_minute=1, recipients_per_day=1))) as server:
        server.queue.put_error = OSError("broken")
        async with await server.connect() as client:
            assert (await client.deliver(b"x\r\n.\r\n")).startswith("451 4.3.0 ")
            server.queue.put_error = None
            assert await send(client, "b@b.test") == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]


async def _gone(server: Running, left: int) -> None:
    """Wait until so many sessions are left."""
    async with asyncio.timeout(10):
        while len(server.server._shared.sessions) > left:
            await asyncio.sleep(0.001)
