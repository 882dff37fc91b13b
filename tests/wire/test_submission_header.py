"""What a listener and a client table make of a message, over real sockets into the real queue."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from submission_peer import LOOPBACK, Wanted, client_tls, lab_tls, running

from relay.events import MessageAccepted
from relay.mail.message import SmtpUtf8
from relay.policy.clients import Headers
from relay.settings import ClientSettings, ListenerSettings

pytestmark = pytest.mark.asyncio

END = b".\r\n"
WHOLE = b"From: sender@example.test\r\nDate: Wed, 04 Mar 2026 05:06:07 +0000\r\nMessage-ID: <x@y>\r\n"
BCC = b"Bcc: c@example.test\r\n"


def listener(**options: Any) -> ListenerSettings:
    return ListenerSettings(name="gate", listen=(LOOPBACK,), **options)


def client(**options: Any) -> ClientSettings:
    return ClientSettings.model_validate({"name": "app", "networks": ["127.0.0.0/8"], **options})


def wanted(
    *clients: ClientSettings, settings: dict[str, Any] | None = None, tls: ssl.SSLContext | None = None, **options: Any
) -> Wanted:
    tables = {"listener": (listener(**options),), "client": clients}
    return Wanted({"listen": (), **(settings or {})}, tables, tls, headers=Headers.FIX)


async def test_by_default_missing_fields_are_added_and_bcc_goes(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(headers=Headers.FIX)) as server, await server.connect() as peer:
        answer = await peer.deliver(b"Subject: x\r\n" + BCC + b"\r\nbody\r\n.\r\n")
        assert answer.startswith("250 2.0.0 queued as ")
        await peer.deliver(WHOLE + b"\r\nbody\r\n.\r\n")
        fixed, whole = await server.stored()
        id = str(fixed.claim.id)
        assert fixed.body == (
            b"Message-ID: <%s@relay.example.test>\r\nDate: Wed, 04 Mar 2026 05:06:07 +0000\r\n"
            b"From: sender@example.test\r\nSubject: x\r\n\r\nbody\r\n" % id.encode()
        )
        assert whole.body == WHOLE + b"\r\nbody\r\n"
        assert (fixed.claim.message_id, whole.claim.message_id) == (f"{id}@relay.example.test", "x@y")
        accepted = await server.event(MessageAccepted)
        assert isinstance(accepted, MessageAccepted)
        assert accepted.message_id == f"{id}@relay.example.test"
        assert accepted.size == len(fixed.trace + fixed.body) == fixed.claim.body.size


async def test_a_large_message_is_changed_only_at_its_top(tmp_path: Path) -> None:
    body = b"Bcc: this is the body\r\n" * 20_000
    async with running(tmp_path, Wanted(headers=Headers.FIX)) as server, await server.connect() as peer:
        await peer.deliver(BCC + WHOLE + b"\r\n" + body + END)
        (message,) = await server.stored()
        assert message.body == WHOLE + b"\r\n" + body
        assert server.queue.writers[0].largest < 512 << 10


async def test_what_needs_smtputf8_is_told_by_what_is_stored(tmp_path: Path) -> None:
    """Sender, header fields -> needs 8BITMIME, needs SMTPUTF8."""
    cases = [
        ("a@example.test", "Bcc: ä@example.test\r\n", (False, SmtpUtf8.ASKED)),
        ("a@example.test", "Subject: ä\r\n", (True, SmtpUtf8.NEEDED)),
        ("ä@example.test", "", (True, SmtpUtf8.NEEDED)),  # the From that we add
        ("a@exämple.test", "", (False, SmtpUtf8.ASKED)),  # a domain has an ASCII form
    ]
    async with running(tmp_path, Wanted(headers=Headers.FIX)) as server, await server.connect() as peer:
        await peer.hello()
        for sender, fields, _ in cases:
            assert (await peer.ask(f"MAIL FROM:<{sender}> SMTPUTF8")).startswith("250")
            await peer.ask("RCPT TO:<b@example.test>")
            await peer.ask("DATA")
            peer.send(f"{fields}\r\nx\r\n.\r\n".encode())
            assert (await peer.reply()).startswith("250 ")
        seen = [(one.claim.eight_bit, one.claim.smtputf8) for one in await server.stored()]
        assert seen == [expected for _, _, expected in cases]


async def test_refuse(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(client(), headers="refuse")) as server, await server.connect() as peer:
        answer = await peer.deliver(b"Subject: x\r\n\r\n.\r\n")
        assert answer == "554 5.6.0 The message has no From field"
        assert (await peer.deliver(WHOLE + BCC + b"\r\n.\r\n")).startswith("250 ")
        assert [message.body for message in await server.stored()] == [WHOLE + b"\r\n"]


async def test_a_client_table_counts_more_than_the_listener(tmp_path: Path) -> None:
    how = wanted(client(headers="leave", max_message_size=1024), headers="refuse")
    async with running(tmp_path, how) as server, await server.connect() as peer:
        assert (await peer.deliver(BCC + b"\r\n.\r\n")).startswith("250 ")
        assert await peer.deliver(b"x" * 1023 + b"\r\n.\r\n") == "552 5.3.4 Message too big"
        assert [message.body for message in await server.stored()] == [BCC + b"\r\n"]


async def test_authors(tmp_path: Path) -> None:
    async with (
        running(tmp_path, wanted(client(header_from=["example.test"]))) as server,
        await server.connect() as peer,
    ):
        for message, answer in {
            b"": "250 2.0.0 ",  # our From
            WHOLE: "250 2.0.0 ",
            b"From: a@evil.test\r\n": "550 5.7.1 Author not allowed: From: a@evil.test is not ",
            WHOLE + b"Sender: b@evil.test\r\n": "550 5.7.1 Author not allowed: Sender: b@evil.test ",
            WHOLE
            + b"no field\r\nSender: b@evil.test\r\n": "250 2.0.0 ",  # in the body: there is an empty line before it
            WHOLE + b"X: " + b"x" * (256 << 10) + b"\r\nSender: b@evil.test\r\n": "552 5.3.4 ",
        }.items():
            assert (await peer.deliver(message + b"\r\nx\r\n.\r\n")).startswith(answer), message[:80]
        assert len(await server.stored()) == 3
        await peer.ask("MAIL FROM:<sender@other.test>")
        await peer.ask("RCPT TO:<b@example.test>")
        await peer.ask("DATA")
        peer.send(b"Subject: x\r\n\r\n.\r\n")
        assert await peer.reply() == (
            "550 5.7.1 Author not allowed: From: sender@other.test is not an address that you may use"
        )


async def test_normalised_line_ends(tmp_path: Path) -> None:
    how = wanted(client(line_ends="normalise", headers="leave"))
    async with running(tmp_path, how) as server, await server.connect() as peer:
        message = b"Subject: x\n\na\rb\0\n.\nMAIL FROM:<evil@example.test>\n.\r\n"
        assert (await peer.deliver(message + b"\r\n.\r\n")).startswith("250 ")
        assert (await peer.ask("NOOP")).startswith("250 ")
        (stored,) = await server.stored()
        assert stored.body == b"Subject: x\r\n\r\na\r\nb\r\n.\r\nMAIL FROM:<evil@example.test>\r\n.\r\n\r\n"


async def test_long_lines(tmp_path: Path) -> None:
    message = b"x: y\r\n\r\n" + b"x" * 998 + b"\r\n" + b"y" * 999 + b"\r\n"
    for setting, answer in (("refuse", "554 5.6.0 Line 4 of the message is longer than 998 octets"), ("pass", "250 ")):
        async with (
            running(tmp_path / setting, Wanted({"long_lines": setting})) as server,
            await server.connect() as peer,
        ):
            assert (await peer.deliver(message + END)).startswith(answer)
            assert [one.body for one in await server.stored()] == [message] * (setting == "pass")


async def test_a_hidden_client(tmp_path: Path) -> None:
    how = wanted(client(), hide_client=True, tls=lab_tls())
    async with running(tmp_path, how) as server, await server.connect() as peer:
        await peer.hello()
        await peer.start_tls(client_tls())
        await peer.deliver(b"Subject: x\r\n\r\n.\r\n")
        (message,) = await server.stored()
        text = (message.trace + message.body).replace(b"\r\n\t", b" ")
        assert text.startswith(b"Received: by relay.example.test with ESMTPS (TLSv1.3 TLS_")
        assert b"127.0.0.1" not in text
        assert b"client" not in text
