"""Takes one message from the wire to disk: our Received line and its header made ready, limits, commit, and the answer.

Nothing is answered with 250 before the commit is on disk, and no commit runs in a task that a client can cancel by
hanging up: once the last octet is in, the message is stored whole or not at all, whatever becomes of the connection.
RFC 5321 sections 4.4 and 6.1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from relay.events import DefectFound, MessageAccepted
from relay.mail.address import Address
from relay.mail.header import Header
from relay.mail.message import (
    NOTHING_ASKED,
    Envelope,
    MessageId,
    NewMessage,
    Once,
    Origin,
    RecipientDsn,
    SmtpUtf8,
    TlsDemand,
)
from relay.mail.status import Reply
from relay.policy.clients import LineEnds
from relay.settings import LongLines, SubmissionSettings
from relay.submission import replies
from relay.submission.alignment import Submitted
from relay.submission.content import Content, Rules
from relay.submission.data import DataReader
from relay.submission.front import Front, refused
from relay.submission.keeper import Keeper
from relay.submission.prepare import Treatment
from relay.submission.quota import Spending
from relay.submission.received import Client, received_line
from relay.submission.stream import Stream
from relay.submission.timing import NO_TIMING, Timing
from relay.submission.verbs import Mail, Rcpt

T = TypeVar("T")


@dataclass(slots=True)
class Transaction:
    """What MAIL and RCPT have said so far. Recipients are kept once each, by Address.key."""

    mail: Mail
    timing: Timing = NO_TIMING
    spending: Spending | None = None
    once: Once | None = None
    full: bool = False  # a recipient was one too many
    committing: bool = False  # whether it is stored is being settled, whatever becomes of the client
    recipients: dict[tuple[str, str], Address] = field(default_factory=dict)
    _asked: dict[tuple[str, str], RecipientDsn] = field(default_factory=dict, init=False)  # where something was asked

    def give_up(self) -> None:
        """It will not come to a message, unless that is being settled."""
        if self.spending is not None and not self.committing:
            self.spending.release()

    def add(self, rcpt: Rcpt) -> None:
        """One more recipient, or more to ask for one that is there."""
        key = rcpt.recipient.key
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


def _smtputf8(transaction: Transaction, header: Header) -> SmtpUtf8:
    if not transaction.mail.smtputf8:
        return SmtpUtf8.UNASKED
    addresses = [*transaction.recipients.values()]
    if transaction.mail.sender is not None:
        addresses.append(transaction.mail.sender)
    needed = header.eight_bit or any(address.needs_smtputf8 for address in addresses)
    return SmtpUtf8.NEEDED if needed else SmtpUtf8.ASKED


def _demand(transaction: Transaction, header: Header) -> TlsDemand:
    """RFC 8689 section 4.1: the parameter counts more than the header field."""
    if transaction.mail.requiretls:
        return TlsDemand.REQUIRED
    return TlsDemand.WAIVED if header.waives_tls else TlsDemand.DEFAULT


class Receiver:
    """Receives messages for one server. `drain` waits for the commits under way."""

    def __init__(self, hostname: str, settings: SubmissionSettings, front: Front) -> None:
        self.front = front
        self._hostname = hostname
        self._settings = settings
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
            incoming.cut_short()
            raise
        stream.put_back(reader.rest)
        return await incoming.end()

    async def begin(self, client: Client, transaction: Transaction) -> Incoming:
        """A message that is about to come."""
        front = self.front
        id = front.new_id()
        keeper = Keeper(id, front.new_body(id), front)
        now = front.clock()
        grant = client.grant
        may_name = partial(grant.allows_author, login=client.peer.login) if grant.header_from else None
        headers = grant.headers or client.listener.headers
        message_id = f"{keeper.name}@{self._hostname}"
        rules = Rules(
            max_size=grant.size_limit(self._settings.max_message_size),
            line_ends=grant.line_ends or LineEnds.REFUSE,
            refuse_long_lines=self._settings.long_lines is LongLines.REFUSE,
            header=Treatment(headers, transaction.mail.sender, message_id, now, may_name),
        )
        smtputf8, priority = transaction.mail.smtputf8, transaction.timing.priority
        await keeper.write(received_line(client, self._hostname, smtputf8, keeper.name, now, priority))
        return Incoming(self, keeper, Content(rules), client, transaction)

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
    """One message on its way in: its octets through `take`, then `end`; or `drop`."""

    def __init__(
        self, receiver: Receiver, keeper: Keeper, content: Content, client: Client, transaction: Transaction
    ) -> None:
        self._receiver = receiver
        self._keeper = keeper
        self._content = content
        self._client = client
        self._transaction = transaction
        self._ended = False

    @property
    def id(self) -> MessageId:
        """Under which it will be stored."""
        return self._keeper.id

    @property
    def problem(self) -> Reply | None:
        """Why it is refused, as far as is known. What still comes is thrown away."""
        return self._content.problem or self._keeper.problem

    async def take(self, octets: bytes) -> None:
        """Take the next octets, as the readers in `data` give them. Never raises."""
        await self._store(self._content.feed(octets))

    async def end(self) -> Reply:
        """The message has ended: store it, and return the answer. It goes on when the caller is cancelled."""
        self._ended = self._transaction.committing = True
        return await asyncio.shield(self._receiver.spawn(self._finish()))

    async def _finish(self) -> Reply:
        stored = await self._put()
        if isinstance(stored, Reply):
            self._transaction.committing = False
            self._transaction.give_up()
            return self.refuse(stored)
        try:
            if self._transaction.spending is not None:
                await self._transaction.spending.accept()
            self._tell(stored)
            watch = self._receiver.front.alignment
            if watch is not None and not watch.refuse:
                watch.note(self._submitted)
        except Exception as error:  # noqa: BLE001  it is ours: a client that hears otherwise sends it once more
            self._receiver.front.emit(DefectFound("submission", repr(error)))
        return replies.queued(self._keeper.name)

    def refuse(self, problem: Reply) -> Reply:
        """Report a refusal, and return it."""
        about = f"message from <{self._transaction.mail.sender or ''}>"
        self._receiver.front.emit(refused(self._client.peer, problem.text, about))
        return problem

    def cut_short(self) -> None:
        """Report that its end has not come, and throw away what has: the client left, fell silent, or we stop."""
        about = f"message from <{self._transaction.mail.sender or ''}>, without its end"
        why = "connection closed" if self.problem is None else self.problem.text
        self._receiver.front.emit(refused(self._client.peer, why, about))
        self.drop()

    def drop(self) -> None:
        """Throw away what has come, unless it has come whole: then it is stored, whatever becomes of the client."""
        if not self._ended:
            self._receiver.spawn(self._keeper.drop())

    async def _store(self, octets: bytes) -> None:
        if self._content.problem is None:
            await self._keeper.write(octets)
        else:
            await self._keeper.drop()

    async def _put(self) -> NewMessage | Reply:
        """Put the message into the queue: it is on disk on return. Else the refusal, and nothing is left of it."""
        keeper = self._keeper
        try:
            await self._store(self._content.end())
            refusal = self.problem or await self._refusal()
            if refusal is None:
                message = await self._message()
                await self._receiver.front.accept(message)
                return message
            await keeper.drop()
            return refusal
        except Exception as error:  # noqa: BLE001  whatever it was, the client hears that it is not stored
            await keeper.fail(error)
        await keeper.drop()
        return self.problem or replies.INTERNAL_ERROR

    async def _refusal(self) -> Reply | None:
        """Why it is refused for what would become of it at the receivers, when that is to be looked at first."""
        watch = self._receiver.front.alignment
        return await watch.refusal(self._submitted) if watch is not None and watch.refuse else None

    @property
    def _submitted(self) -> Submitted:
        transaction = self._transaction
        recipients = tuple(transaction.recipients.values())
        return Submitted(self._content.header, transaction.mail.sender, recipients, self._client.peer.login)

    async def _message(self) -> NewMessage:
        """What is put into the queue. Raises StoreUnavailable."""
        transaction, header = self._transaction, self._content.header
        message_id = header.message_id
        return NewMessage(
            id=self._keeper.id,
            envelope=transaction.envelope,
            body=await self._keeper.writer.finish(),
            arrived=self._receiver.front.clock(),
            message_id=None if message_id is None else replies.printable(message_id),
            eight_bit=self._content.eight_bit,
            smtputf8=_smtputf8(transaction, header),
            demand=_demand(transaction, header),
            dsn=transaction.mail.dsn,
            login=self._client.peer.login,
            once=transaction.once,
            release=transaction.timing.release,
            release_asked=transaction.timing.release_asked,
            priority=transaction.timing.priority,
            deliver_by=transaction.timing.deliver_by,
            origin=self._origin,
        )

    @property
    def _origin(self) -> Origin:
        peer = self._client.peer
        return Origin(str(peer.address), peer.listener, self._client.grant.name)

    def _tell(self, message: NewMessage) -> None:
        self._receiver.front.emit(
            MessageAccepted(
                id=self._keeper.name,
                message_id=message.message_id,
                sender=str(message.envelope.sender or ""),
                recipients=len(message.envelope.recipients),
                size=message.body.size,
                client=str(self._client.peer.address),
                login=message.login,
                listener=self._client.peer.listener,
                allowed_by=self._client.grant.name,
                release=message.release,
                priority=message.priority,
            )
        )
