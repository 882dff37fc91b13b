"""Takes one message from DATA to disk: Received line in front, limits, commit, and the answer.

Nothing is answered with 250 before the commit is on disk, and no commit runs in a task that a client can cancel by
hanging up: once the final dot is in, the message is stored whole or not at all, whatever becomes of the connection.
RFC 5321 sections 4.4 and 6.1, RFC 3848 and RFC 6531 section 3.7.3 (`with`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, TypeVar

from relay.events import DefectFound, MessageAccepted, StoreFailed, SubmissionRefused
from relay.mail.address import Address, AddressError, parse_domain
from relay.mail.message import (
    NOTHING_ASKED,
    Envelope,
    MessageId,
    NewMessage,
    Once,
    RecipientDsn,
    SmtpUtf8,
    TlsDemand,
)
from relay.mail.status import Reply
from relay.policy.clients import Grant, Peer
from relay.queue.store import BodyWriter, StoreUnavailable
from relay.settings import ListenerSettings
from relay.submission import replies
from relay.submission.data import DataReader, Inspection
from relay.submission.front import Front
from relay.submission.quota import Spending
from relay.submission.stream import Stream
from relay.submission.verbs import Mail, Rcpt

MAX_HOPS = 100  # Received lines; RFC 5321 §6.3: a large limit, normally at least 100
_MAX_LINE = 77
_HELO_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Client:
    """Who is sending, as far as we know. `helo` is what it called itself, `tls` version and cipher."""

    peer: Peer
    helo: str
    extended: bool
    tls: tuple[str, str] | None
    listener: ListenerSettings
    grant: Grant
    protocol: str | None = None  # other than SMTP


@dataclass(slots=True)
class Transaction:
    """What MAIL and RCPT have said so far. Recipients are kept once each, by local part and domain."""

    mail: Mail
    spending: Spending | None = None
    once: Once | None = None
    committing: bool = False  # whether it is stored is being settled, whatever becomes of the client
    recipients: dict[tuple[str, str], Address] = field(default_factory=dict)
    _asked: dict[tuple[str, str], RecipientDsn] = field(default_factory=dict, init=False)  # where something was asked

    def give_up(self) -> None:
        """It will not come to a message, unless that is being settled."""
        if self.spending is not None and not self.committing:
            self.spending.release()

    def add(self, key: tuple[str, str], rcpt: Rcpt) -> None:
        """One more recipient, or more to ask for one that is there: `key` is its local part and domain."""
        if key not in self.recipients:
            self.recipients[key] = rcpt.recipient
            if rcpt.dsn != NOTHING_ASKED:
                self._asked[key] = rcpt.dsn
        elif rcpt.dsn != NOTHING_ASKED or key in self._asked:
            # RFC 3461 §4 does not say what holds for an address given twice. The sender hears of all that it asked for
            # in either place, and the first ORCPT stays, as the first spelling of the address does.
            self._asked[key] = self._asked.get(key, NOTHING_ASKED).union(rcpt.dsn)

    @property
    def envelope(self) -> Envelope:
        """For the queue."""
        asked = tuple(self._asked.get(key, NOTHING_ASKED) for key in self.recipients) if self._asked else ()
        return Envelope(self.mail.sender, tuple(self.recipients.values()), asked)


def _smtputf8(transaction: Transaction, seen: Inspection) -> SmtpUtf8:
    if not transaction.mail.smtputf8:
        return SmtpUtf8.UNASKED
    addresses = [*transaction.recipients.values()]
    if transaction.mail.sender is not None:
        addresses.append(transaction.mail.sender)
    needed = seen.eight_bit_header or any(address.needs_smtputf8 for address in addresses)
    return SmtpUtf8.NEEDED if needed else SmtpUtf8.ASKED


def _demand(transaction: Transaction, seen: Inspection) -> TlsDemand:
    """RFC 8689 section 4.1: the parameter counts more than the header field."""
    if transaction.mail.requiretls:
        return TlsDemand.REQUIRED
    return TlsDemand.WAIVED if seen.waives_tls else TlsDemand.DEFAULT


def received_line(client: Client, hostname: str, smtputf8: bool, id: str, now: datetime) -> bytes:
    """Our trace header, folded, with its CRLF. RFC 5321 section 4.4."""
    literal = f"[IPv6:{client.peer.address}]" if client.peer.address.version == 6 else f"[{client.peer.address}]"
    words = [
        "Received: from",
        _host(client.helo),
        f"({literal})",
        f"by {hostname}",
        f"with {_protocol(client, smtputf8)}",
    ]
    if client.tls is not None:
        words.append(f"({client.tls[0]} {client.tls[1]})")
    words += [f"id {id};", _date(now.replace(microsecond=0))]
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= _MAX_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(f"\t{word}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


@lru_cache(maxsize=4)
def _date(now: datetime) -> str:
    return format_datetime(now)


@lru_cache(maxsize=1024)
def _host(helo: str) -> str:
    """The client's name for itself, as a domain if it is one; otherwise without what could break out of its place."""
    try:
        return parse_domain(helo)
    except AddressError:
        return "".join(letter if letter in _HELO_CHARACTERS else "?" for letter in helo[:255]) or "unknown"


def _protocol(client: Client, smtputf8: bool) -> str:
    """RFC 3848, RFC 6531 section 4.3: what was spoken, with S for TLS and A for AUTH."""
    if client.protocol is not None:
        return client.protocol
    if not client.extended:
        return "SMTP"
    return f"{'UTF8SMTP' if smtputf8 else 'ESMTP'}{'S' if client.tls else ''}{'A' if client.peer.login else ''}"


class Receiver:
    """Receives messages for one server. `drain` waits for the commits under way."""

    def __init__(self, hostname: str, max_size: int, front: Front) -> None:
        self._hostname = hostname
        self._max_size = max_size
        self.front = front
        self._commits: set[asyncio.Task[Any]] = set()

    async def receive(self, client: Client, transaction: Transaction, stream: Stream) -> Reply:
        """Ask for the message, read it up to its end, store it, and return the answer to the final dot.

        Raises stream.Gone when the client leaves before the end; then nothing is stored.
        """
        incoming = await self.begin(client, transaction)
        stream.say(replies.SEND_DATA)
        reader = DataReader()
        try:
            # To the true end, also when it is refused: what follows must not be taken for commands.
            while not reader.ended:
                await incoming.take(reader.feed(await stream.read_chunk()))
        except BaseException:
            incoming.drop()
            raise
        stream.put_back(reader.rest)
        return await incoming.end()

    async def begin(self, client: Client, transaction: Transaction) -> Incoming:
        """A message that is about to come."""
        id = self.front.new_id()
        keeper = Keeper(id, self.front.new_body(id), self.front)
        smtputf8 = transaction.mail.smtputf8
        await keeper.write(received_line(client, self._hostname, smtputf8, keeper.name, self.front.clock()))
        return Incoming(self, keeper, client, transaction, client.grant.size_limit(self._max_size))

    async def drain(self) -> None:
        """Wait until every commit that was begun has ended."""
        while self._commits:
            await asyncio.wait(self._commits)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work in a task of its own, which `drain` waits for."""
        task = asyncio.create_task(work)
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        return task


class Incoming:
    """One message on its way in: its octets through `take`, then `end`; or `drop`, at any time."""

    def __init__(
        self, receiver: Receiver, keeper: Keeper, client: Client, transaction: Transaction, limit: int
    ) -> None:
        self._receiver = receiver
        self._keeper = keeper
        self._client = client
        self._transaction = transaction
        self._limit = limit
        self._seen = Inspection()

    @property
    def id(self) -> MessageId:
        """Under which it will be stored."""
        return self._keeper.id

    @property
    def problem(self) -> Reply | None:
        """Why it is refused, as far as is known. What still comes is thrown away."""
        seen = self._seen
        if seen.size > self._limit:
            return replies.TOO_BIG
        if seen.fault is not None:
            return replies.bad_octet(seen.fault)
        return self._keeper.problem

    async def take(self, octets: bytes) -> None:
        """Take the next octets, never ending between CR and LF. Never raises."""
        self._seen.look(octets)
        if self.problem is None:
            await self._keeper.write(octets)
        else:
            await self._keeper.drop()

    async def end(self) -> Reply:
        """The message has ended: store it, and return the answer."""
        problem = self.problem
        if problem is None and self._seen.hops > MAX_HOPS:
            problem = replies.TOO_MANY_HOPS
        if problem is None:
            self._transaction.committing = True
            problem = await asyncio.shield(self._receiver.spawn(self._commit()))
        else:
            await asyncio.shield(self._receiver.spawn(self._keeper.drop()))
        return replies.queued(self._keeper.name) if problem is None else self.refuse(problem)

    def refuse(self, problem: Reply) -> Reply:
        """Report a refusal, and return it."""
        about = replies.printable(f"message from <{self._transaction.mail.sender or ''}>")
        self._receiver.front.emit(SubmissionRefused(str(self._client.peer.address), problem.text, about))
        return problem

    def drop(self) -> None:
        """Throw away what has come."""
        self._receiver.spawn(self._keeper.drop())

    async def _commit(self) -> Reply | None:
        """Put the message into the queue. Returns None when it is on disk, otherwise the refusal."""
        keeper, client, transaction, seen = self._keeper, self._client, self._transaction, self._seen
        front = self._receiver.front
        try:
            message = NewMessage(
                id=keeper.id,
                envelope=transaction.envelope,
                body=await keeper.writer.finish(),
                arrived=front.clock(),
                message_id=seen.message_id,
                eight_bit=seen.eight_bit,
                smtputf8=_smtputf8(transaction, seen),
                demand=_demand(transaction, seen),
                dsn=transaction.mail.dsn,
                login=client.peer.login,
                once=transaction.once,
            )
            await front.accept(message)
        except Exception as error:  # noqa: BLE001  whatever it was, the client hears that it is not stored
            await keeper.fail(error)
            transaction.committing = False
            transaction.give_up()
            return keeper.problem
        if transaction.spending is not None:
            await transaction.spending.accept()
        front.emit(
            MessageAccepted(
                id=keeper.name,
                message_id=message.message_id,
                sender=str(transaction.mail.sender or ""),
                recipients=len(transaction.recipients),
                size=message.body.size,
                client=str(client.peer.address),
                login=client.peer.login,
            )
        )
        return None


class Keeper:
    """Writes a body until something goes wrong, and remembers what to tell the client. Never raises."""

    def __init__(self, id: MessageId, writer: BodyWriter, front: Front) -> None:
        self.id = id
        self.name = str(id)
        self.writer = writer
        self.problem: Reply | None = None
        self._front = front
        self._dropped = False

    async def write(self, octets: bytes) -> None:
        """Write octets, unless the body was dropped."""
        if self._dropped or not octets:
            return
        try:
            await self.writer.write(octets)
        except Exception as error:  # noqa: BLE001  the rest of the message must still be read
            await self.fail(error)

    async def fail(self, error: Exception) -> None:
        """Note why the message cannot be stored, and throw away what was written."""
        if isinstance(error, StoreUnavailable):
            self._front.emit(StoreFailed(str(error)))
            self.problem = replies.STORE_FULL if error.full else replies.STORE_UNAVAILABLE
        else:
            self._front.emit(DefectFound("submission", repr(error)))
            self.problem = replies.INTERNAL_ERROR
        await self.drop()

    async def drop(self) -> None:
        """Throw away what was written."""
        if self._dropped:
            return
        self._dropped = True
        try:
            await self.writer.discard()
        except StoreUnavailable as error:
            self._front.emit(StoreFailed(str(error)))
        except Exception as error:  # noqa: BLE001  the client's answer does not depend on it
            self._front.emit(DefectFound("submission", repr(error)))
