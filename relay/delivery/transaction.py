"""One message over one SMTP session: the dialogue from MAIL to the last reply, a result per recipient.

It pairs replies with commands and nothing else: whether a message may be sent, and what a refusal means for it, is
decided elsewhere. After a reply 421, a fault or a reply that makes no sense here the connection is closed.

RFC 5321 sections 3.3, 4.2.5 and 4.5.3.2, RFC 2920 section 3.1 (pipelining), RFC 3030 (chunking).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from relay.delivery.content import Chunks, with_data
from relay.delivery.exchange import Exchange, Lost, Stage, Timeouts, is_refusal
from relay.mail.status import Reply

__all__ = ["Commands", "Lost", "Stage", "Timeouts", "Transaction"]

_BATCH = 500  # recipients in one write; the next ones follow when these have their replies


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one envelope, each a whole line with its CRLF."""

    mail: bytes
    rcpts: Sequence[bytes]


class Transaction:
    """One message under way. For one `run`; `begun` and `ended` then say whether the host needs a RSET.

    `pipelining`: commands go out together. `chunking`: the message goes with BDAT, not DATA.
    """

    def __init__(self, exchange: Exchange, pipelining: bool, chunking: bool = False) -> None:
        self._wire = exchange.wire
        self._exchange = exchange
        self._answer = exchange.answer
        self._pipelining = pipelining
        self._chunking = chunking
        self._answers: list[Reply] = []  # to RCPT, in order, as far as they came
        self.begun = False  # the host said yes to MAIL
        self.ended = False  # its answer to the message was the end of the transaction
        self.bdat_unknown = False  # it offers CHUNKING, and does not know it
        self.stages: tuple[Stage, ...] = ()  # at which each recipient got its answer, in order
        self._stage = Stage.MAIL  # of the answer that all get who have none of their own

    async def run(self, commands: Commands, body: AsyncIterable[bytes]) -> tuple[Reply | Lost, ...]:
        """Send the message. Returns a result for each recipient, in order: never a reply 3xx, never more than one.

        What `body` raises comes through; the connection is then to be aborted.
        """
        others = await (self._at_once(commands, body) if self._pipelining else self._lock_step(commands, body))
        own = [answer if is_refusal(answer) else others for answer in self._answers]
        rest = len(commands.rcpts) - len(own)
        common = Stage.OTHER_RCPT if self._stage is Stage.RCPT else self._stage
        stages = [Stage.RCPT if is_refusal(answer) else common for answer in self._answers] + [common] * rest
        if rest and common is Stage.OTHER_RCPT:
            stages[len(own)] = Stage.RCPT  # it was this one that the session ended with
        self.stages = tuple(stages)
        return (*own, *(others for _ in range(rest)))

    # Each of the following returns what all recipients get that were not refused by an answer of their own.

    async def _at_once(self, commands: Commands, body: AsyncIterable[bytes]) -> Reply | Lost:
        """RFC 2920 §3.1: MAIL, RCPT and DATA go out together, the message only after the answer to DATA."""
        rcpts = commands.rcpts
        first: bytes = commands.mail
        for start in range(0, len(rcpts), _BATCH):
            batch = rcpts[start : start + _BATCH]
            last = start + _BATCH >= len(rcpts)
            data = last and not self._chunking
            self._wire.say(first + b"".join(batch) + (b"DATA\r\n" if data else b""))
            if first:
                mail = await self._answer(Stage.MAIL)
                if is_refusal(mail):
                    await self._collect_refusals(len(batch), data)
                    return mail
                self._begin()
                first = b""
            for _ in batch:
                answer = await self._answer(Stage.RCPT)
                if isinstance(answer, Lost) or answer.code == 421:
                    return answer
                self._answers.append(answer)
        if self._chunking:
            return answer if all(map(is_refusal, self._answers)) else await self._in_chunks(body)
        return await self._after_data(body)

    async def _collect_refusals(self, recipients: int, data_sent: bool) -> None:
        """MAIL was refused: take the answers to what went out together with it, so that the session stays usable."""
        answers = [await self._answer(Stage.RCPT) for _ in range(recipients)]
        if data_sent and not is_refusal(await self._answer(Stage.DATA)):
            if all(map(is_refusal, answers)):
                await self._lone_dot()
            else:  # a host that contradicts itself; its recipients must not get an empty message
                self._wire.abort()

    async def _lock_step(self, commands: Commands, body: AsyncIterable[bytes]) -> Reply | Lost:
        """Without PIPELINING: each command waits for the answer to the one before."""
        self._wire.say(commands.mail)
        answer = await self._answer(Stage.MAIL)
        if is_refusal(answer):
            return answer
        self._begin()
        for rcpt in commands.rcpts:
            self._wire.say(rcpt)
            answer = await self._answer(Stage.RCPT)
            if isinstance(answer, Lost) or answer.code == 421:
                return answer
            self._answers.append(answer)
        if all(map(is_refusal, self._answers)):
            return answer
        if self._chunking:
            return await self._in_chunks(body)
        self._wire.say(b"DATA\r\n")
        return await self._after_data(body)

    def _begin(self) -> None:
        self.begun = True
        self._stage = Stage.RCPT

    async def _in_chunks(self, body: AsyncIterable[bytes]) -> Reply | Lost:
        """RFC 3030 §2: nothing of the message goes out before a recipient was taken; DATA is not asked."""
        self._stage = Stage.CHUNK
        chunks = Chunks(self._exchange, self._pipelining)
        answer, self.ended = await chunks.send(body)
        self.bdat_unknown = chunks.unknown
        return answer

    async def _after_data(self, body: AsyncIterable[bytes]) -> Reply | Lost:
        self._stage = Stage.DATA
        answer = await self._answer(Stage.DATA)
        if is_refusal(answer):
            return answer
        if all(map(is_refusal, self._answers)):
            await self._lone_dot()
            return answer
        answer, self.ended = await with_data(self._exchange, body)
        self._stage = Stage.FINAL if self.ended else Stage.BODY
        return answer

    async def _lone_dot(self) -> None:
        """RFC 2920 §3.1: the host wants a message though it took no recipient; it gets none, and its answer is moot."""
        self._wire.say(b".\r\n")
        self.ended = isinstance(await self._answer(Stage.FINAL), Reply)
