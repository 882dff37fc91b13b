"""What is noted with a message of what its envelope and its header say; what a defect of ours costs."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.events import DefectFound, Event, MessageAccepted
from relay.mail.address import parse_address
from relay.mail.header import Header
from relay.mail.message import Body, InlineBody, MessageId, NewMessage, SmtpUtf8
from relay.policy.clients import Grant, Peer, Quota
from relay.policy.quota import NOTHING, account_of
from relay.settings import HostPort, ListenerSettings, SubmissionSettings
from relay.submission import replies
from relay.submission.front import Front
from relay.submission.quota import Quotas, Spending
from relay.submission.receive import Receiver, Transaction, _smtputf8
from relay.submission.received import Client
from relay.submission.verbs import Mail, Rcpt

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

HEADERS = {"ASCII": b"Subject: x\r\n\r\n", "UTF-8": "Subject: ä\r\n\r\n".encode(), "body": "\r\nä\r\n".encode()}
ADDRESSES = {
    "sender": (parse_address("ä@example.test".encode()), "rcpt@example.test", SmtpUtf8.NEEDED),
    "recipient": (parse_address(b"a@example.test"), "ö@example.test", SmtpUtf8.NEEDED),
    "a domain has an ASCII form": (parse_address("a@exämple.test".encode()), "b@exämple.test", SmtpUtf8.ASKED),
    "null sender": (None, "b@example.test", SmtpUtf8.ASKED),
    "ASCII": (parse_address(b"a@example.test"), "b@example.test", SmtpUtf8.ASKED),
}


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("header", HEADERS)
def test_what_needs_smtputf8(name: str, header: str) -> None:
    sender, recipient, expected = ADDRESSES[name]
    address = parse_address(recipient.encode())
    found = Header(HEADERS[header].partition(b"\r\n")[0] + b"\r\n")
    for asked in (False, True):
        transaction = Transaction(Mail(sender, asked))
        transaction.add(Rcpt(address))
        wanted = SmtpUtf8.NEEDED if header == "UTF-8" else expected
        assert _smtputf8(transaction, found) is (wanted if asked else SmtpUtf8.UNASKED)


class InMemory:
    """A body that is kept nowhere else."""

    def __init__(self) -> None:
        self.octets = b""
        self.discarded = False

    async def write(self, octets: bytes) -> None:
        self.octets += octets

    async def finish(self) -> Body:
        return InlineBody(self.octets)

    async def discard(self) -> None:
        self.discarded = True


class Desk:
    """A receiver over nothing but memory; `emit` and `clock` may break."""

    def __init__(self, folder: Path, clock: Callable[[], datetime], emit: Callable[[Event], None]) -> None:
        self.writer = InMemory()
        self.stored: list[NewMessage] = []
        self.quotas = Quotas(folder, lambda: NOW, emit)
        self.peer = Peer(ipaddress.ip_address("192.0.2.1"), "l")
        self.grant = Grant("all", quota=Quota(recipients_per_day=1))
        front = Front(
            clock=clock,
            new_id=lambda: MessageId(1),
            emit=emit,
            new_body=lambda _id: self.writer,
            accept=self._accept,
            tls=None,
            users=None,
            quotas=self.quotas,
        )
        self.receiver = Receiver("relay.test", SubmissionSettings(), front)

    async def _accept(self, message: NewMessage) -> None:
        self.stored.append(message)

    async def send(self) -> str:
        """One message to one recipient. Returns the answer."""
        place = ListenerSettings(name="l", listen=(HostPort(host="127.0.0.1", port=0),))
        spending = self.quotas.message(self.grant, self.peer)
        assert isinstance(spending, Spending)
        recipient = parse_address(b"b@example.test")
        assert await spending.add(recipient) is None
        transaction = Transaction(Mail(None, smtputf8=False), spending=spending)
        transaction.add(Rcpt(recipient))
        client = Client(self.peer, "client.test", True, None, place, self.grant)
        incoming = await self.receiver.begin(client, transaction)
        await incoming.take(b"From: a@example.test\r\n\r\nx\r\n")
        return (await incoming.end()).text

    @property
    def held(self) -> bool:
        return self.quotas.held(account_of(self.grant, self.peer)) != NOTHING


@pytest.mark.asyncio
async def test_what_is_on_disk_is_answered_so_whatever_breaks_then(tmp_path: Path) -> None:
    events: list[Event] = []

    def emit(event: Event) -> None:
        if isinstance(event, MessageAccepted):
            raise OSError("the log is broken")
        events.append(event)

    desk = Desk(tmp_path, lambda: NOW, emit)
    assert await desk.send() == "250 2.0.0 queued as 0000000000001"
    assert [event.where for event in events if isinstance(event, DefectFound)] == ["submission"]
    assert (len(desk.stored), desk.writer.discarded, desk.held) == (1, False, False)
    await desk.quotas.close()


@pytest.mark.asyncio
async def test_what_a_defect_keeps_from_the_disk_counts_for_nobody(tmp_path: Path) -> None:
    times = [NOW]  # there is one for the Received line, and none for the message
    events: list[Event] = []
    desk = Desk(tmp_path, times.pop, events.append)
    assert await desk.send() == replies.INTERNAL_ERROR.text
    assert [type(event).__name__ for event in events] == ["DefectFound", "SubmissionRefused"]
    assert (desk.stored, desk.writer.discarded, desk.held) == ([], True, False)
    await desk.quotas.close()
