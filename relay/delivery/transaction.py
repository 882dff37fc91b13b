"""One message over one SMTP session: the dialogue from MAIL to the reply to the final dot, a result per recipient.

It pairs replies with commands and nothing else: whether a message may be sent, and what a refusal means for it, is
decided elsewhere. After a reply 421, a fault or a reply that makes no sense here the connection is closed.

RFC 5321 sections 3.3, 4.2.5 and 4.5.3.2, RFC 2920 section 3.1 (pipelining).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from enum import Enum

from relay.delivery.dots import DotStuffer
from relay.delivery.wire import Broken, Wire
from relay.mail.status import Kind, Reply

_BATCH = 500  # recipients in one write; the next ones follow when these have their replies


class Stage(Enum):
    """Where in a session something happened; the value goes on from a fault: `closed the connection after EHLO`."""

    CONNECT = "while connecting"
    GREETING = "before its greeting"
    EHLO = "after EHLO"
    STARTTLS = "after STARTTLS"
    AUTH = "after AUTH"
    MAIL = "after MAIL FROM"
    RCPT = "after RCPT TO"
    DATA = "after DATA"
    BODY = "in the middle of the message"
    FINAL = "after the end of the message"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the other side at each step. RFC 5321 section 4.5.3.2."""

    connect_seconds: float = 30
    greeting_seconds: float = 300
    ehlo_seconds: float = 300
    starttls_seconds: float = 120
    handshake_seconds: float = 60
    auth_seconds: float = 120  # each step; RFC 4954 names no limit
    mail_seconds: float = 300
    rcpt_seconds: float = 300
    data_seconds: float = 120
    block_seconds: float = 180  # for the network to take the next piece of the message
    final_seconds: float = 600
    quit_seconds: float = 10  # for RSET too: what comes after a message must not hold up its result


@dataclass(frozen=True, slots=True)
class Lost:
    """The host gave no usable answer. `reason` goes on from its name: `closed the connection after MAIL FROM`.

    `after_final_dot`: it may have taken the message all the same (RFC 5321 section 4.2.5: the outcome is unknown).
    """

    stage: Stage
    reason: str
    after_final_dot: bool = False


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one envelope, each a whole line with its CRLF."""

    mail: bytes
    rcpts: Sequence[bytes]


class Transaction:
    """One message under way. For one `run`; `begun` and `ended` then say whether the host needs a RSET."""

    def __init__(self, wire: Wire, timeouts: Timeouts) -> None:
        self._wire = wire
        self._seconds = {
            Stage.MAIL: timeouts.mail_seconds,
            Stage.RCPT: timeouts.rcpt_seconds,
            Stage.DATA: timeouts.data_seconds,
            Stage.BODY: timeouts.block_seconds,
            Stage.FINAL: timeouts.final_seconds,
        }
        self._answers: list[Reply] = []  # to RCPT, in order, as far as they came
        self.begun = False  # the host said yes to MAIL
        self.ended = False  # the host answered the final dot

    async def run(self, commands: Commands, body: AsyncIterable[bytes], pipelining: bool) -> tuple[Reply | Lost, ...]:
        """Send the message. Returns a result for each recipient, in order: never a reply 3xx, never more than one.

        What `body` raises comes through; the connection is then to be aborted.
        """
        others = await (self._pipelined(commands, body) if pipelining else self._lock_step(commands, body))
        own = [answer if _refused(answer) else others for answer in self._answers]
        return (*own, *(others for _ in range(len(commands.rcpts) - len(own))))

    # Each of the following returns what all recipients get that were not refused by an answer of their own.

    async def _pipelined(self, commands: Commands, body: AsyncIterable[bytes]) -> Reply | Lost:
        """RFC 2920 §3.1: MAIL, RCPT and DATA go out together, the message only after the answer to DATA."""
        rcpts = commands.rcpts
        first: bytes = commands.mail
        for start in range(0, len(rcpts), _BATCH):
            batch = rcpts[start : start + _BATCH]
            last = start + _BATCH >= len(rcpts)
            self._wire.say(first + b"".join(batch) + (b"DATA\r\n" if last else b""))
            if first:
                mail = await self._answer(Stage.MAIL)
                if _refused(mail):
                    await self._collect_refusals(len(batch), last)
                    return mail
                self.begun = True
                first = b""
            for _ in batch:
                answer = await self._answer(Stage.RCPT)
                if isinstance(answer, Lost) or answer.code == 421:
                    return answer
                self._answers.append(answer)
        return await self._after_data(body)

    async def _collect_refusals(self, recipients: int, data_sent: bool) -> None:
        """MAIL was refused: take the answers to what went out together with it, so that the session stays usable."""
        answers = [await self._answer(Stage.RCPT) for _ in range(recipients)]
        if data_sent and not _refused(await self._answer(Stage.DATA)):
            if all(map(_refused, answers)):
                await self._lone_dot()
            else:  # a host that contradicts itself; its recipients must not get an empty message
                self._wire.abort()

    async def _lock_step(self, commands: Commands, body: AsyncIterable[bytes]) -> Reply | Lost:
        """Without PIPELINING: each command waits for the answer to the one before."""
        self._wire.say(commands.mail)
        answer = await self._answer(Stage.MAIL)
        if _refused(answer):
            return answer
        self.begun = True
        for rcpt in commands.rcpts:
            self._wire.say(rcpt)
            answer = await self._answer(Stage.RCPT)
            if isinstance(answer, Lost) or answer.code == 421:
                return answer
            self._answers.append(answer)
        if all(map(_refused, self._answers)):
            return answer
        self._wire.say(b"DATA\r\n")
        return await self._after_data(body)

    async def _after_data(self, body: AsyncIterable[bytes]) -> Reply | Lost:
        answer = await self._answer(Stage.DATA)
        if _refused(answer):
            return answer
        if all(map(_refused, self._answers)):
            await self._lone_dot()
            return answer
        return await self._transmit(body)

    async def _lone_dot(self) -> None:
        """RFC 2920 §3.1: the host wants a message though it took no recipient; it gets none, and its answer is moot."""
        self._wire.say(b".\r\n")
        self.ended = isinstance(await self._answer(Stage.FINAL), Reply)

    async def _transmit(self, body: AsyncIterable[bytes]) -> Reply | Lost:
        """The message, dot-stuffed, a piece at a time; the last piece goes out together with the final dot."""
        wire, block_seconds = self._wire, self._seconds[Stage.BODY]
        stuffer = DotStuffer()
        held = b""
        async for piece in body:
            if not wire.usable:
                return await self._early_answer()
            if held:
                wire.say(held, body=True)
                await wire.drain(block_seconds)
                # A host that has had enough answers and closes. The next write would fail, and asyncio forget what it
                # has not read by then: let it read. It does so in the round after the one in which it looks.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            held = stuffer.stuff(piece)
        if not wire.usable:
            return await self._early_answer()
        wire.say(held + stuffer.end(), body=True)
        await wire.drain(block_seconds)  # the clock for the final reply starts when the octets are gone
        if wire.blocked:
            return await self._early_answer()
        answer = await self._answer(Stage.FINAL)
        self.ended = isinstance(answer, Reply)
        return answer

    async def _early_answer(self) -> Reply | Lost:
        """An answer before the final dot. There is no way on: the host would take the rest for commands, or wait."""
        answer = await self._answer(Stage.BODY)
        self._wire.abort()
        return answer

    async def _answer(self, stage: Stage) -> Reply | Lost:
        """The next reply, if it is one that can come at this stage."""
        reply = await self._wire.reply(self._seconds[stage])
        if isinstance(reply, Broken):
            if reply.reply is not None and reply.reply.code == 421:  # this one may come at any time
                return reply.reply
            return Lost(stage, reply.told(stage.value), after_final_dot=stage is Stage.FINAL)
        if reply.code < 400 and not _expected(reply, stage):
            self._wire.abort()
            return Lost(stage, f'answered "{reply.text}" {stage.value}', after_final_dot=stage is Stage.FINAL)
        if reply.code == 421:  # RFC 5321 §3.8: the host closes the connection
            self._wire.abort()
        return reply


def _expected(reply: Reply, stage: Stage) -> bool:
    """Whether a reply 2xx or 3xx makes sense."""
    if stage is Stage.BODY:
        return False
    return reply.code == 354 if stage is Stage.DATA else reply.code < 300


def _refused(answer: Reply | Lost) -> bool:
    return isinstance(answer, Lost) or answer.status.kind is not Kind.SUCCESS
