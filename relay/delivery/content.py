"""The message itself on its way out, after a host has taken recipients: with DATA, or in parts with BDAT.

RFC 5321 sections 4.1.1.4 and 4.5.2 (DATA), RFC 3030 (BDAT).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

from relay.delivery.dots import DotStuffer
from relay.delivery.exchange import Exchange, Lost, Stage, is_refusal
from relay.mail.status import Reply

PART_OCTETS = 256 * 1024  # of one BDAT: long enough that its answer costs nothing, short enough to hear of a no early
WINDOW = 4  # parts under way without an answer, where the host has PIPELINING
_NO_BDAT = (500, 502, 503)


async def with_data(exchange: Exchange, body: AsyncIterable[bytes]) -> tuple[Reply | Lost, bool]:
    """After 354: the message, dot-stuffed, a piece at a time; the last piece goes out together with the final dot.

    Returns the answer, and whether it ends the transaction.
    """
    wire = exchange.wire
    stuffer = DotStuffer()
    held = b""
    async for piece in body:
        if not wire.usable:
            return await _early_answer(exchange), False
        if held:
            wire.say(b"", body=held)
            await wire.drain(exchange.block_seconds)
            await _let_it_read()
        held = stuffer.stuff(piece)
    if not wire.usable:
        return await _early_answer(exchange), False
    wire.say(b"", body=held + stuffer.end())
    await wire.drain(exchange.block_seconds)  # the clock for the final reply starts when the octets are gone
    if wire.blocked:
        return await _early_answer(exchange), False
    answer = await exchange.answer(Stage.FINAL)
    return answer, isinstance(answer, Reply)


class Chunks:
    """One message in parts, the length of each told before: octet for octet as it is. RFC 3030 section 2.

    `unknown` then says that the host does not know BDAT, whatever it offers.
    """

    def __init__(self, exchange: Exchange, pipelining: bool) -> None:
        self.unknown = False
        self._exchange = exchange
        self._wire = exchange.wire
        self._window = WINDOW if pipelining else 1
        self._given = 0
        self._pending = 0  # of those given: without an answer so far
        self._stage = Stage.CHUNK
        self._answer: Reply | Lost | None = None  # the last one; nothing is sent after a refusal

    async def send(self, body: AsyncIterable[bytes]) -> tuple[Reply | Lost, bool]:
        """Returns the answer, and whether it ends the transaction.

        RFC 3030 section 2: after a refusal, that of the last part too, the host must hear RSET.
        """
        async with aclosing(_parts(body)) as parts:
            async for octets, last in parts:
                await self._take_answers(self._window - 1)
                if self._refused:
                    break
                await self._give(octets, last)
        await self._take_answers(0)
        answer = self._answer
        if answer is None:
            raise AssertionError("there is always a last part, and an answer to it")
        if self._refused:
            return await self._after_refusal(answer), False
        return answer, True

    @property
    def _refused(self) -> bool:
        return self._answer is not None and is_refusal(self._answer)

    async def _give(self, octets: bytes, last: bool) -> None:
        wire = self._wire
        if not wire.usable:  # it has said something that nobody asked for
            self._answer = await _early_answer(self._exchange)
            return
        wire.say(b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b""), body=octets)
        self._given += 1
        self._pending += 1
        while wire.blocked and not self._refused:
            await wire.drain(self._exchange.block_seconds)
            await self._take_answers(self._window)
        if last:
            # From here on the host may have all of it, unless it has said no; the clock for its answer starts.
            self._stage = Stage.FINAL
        else:
            await _let_it_read()

    async def _take_answers(self, limit: int) -> None:
        """Take the answers that have come, and wait for more while there are over `limit` parts without one."""
        while self._pending and not self._refused and (self._pending > limit or not self._wire.usable):
            self._answer = await self._exchange.answer(self._stage)
            self._pending -= 1

    async def _after_refusal(self, refusal: Reply | Lost) -> Reply | Lost:
        """A part was refused: take the answers to what went out behind it, so that the session stays usable."""
        if isinstance(refusal, Lost) or refusal.code == 421:
            return refusal
        first = self._given - self._pending == 1
        while self._pending:
            answer = await self._exchange.answer(Stage.CHUNK, self._exchange.quit_seconds)
            self._pending -= 1
            if isinstance(answer, Lost):
                break
            if not self._pending and self._stage is Stage.FINAL and not is_refusal(answer):
                # RFC 3030 §2 forbids it. It took a message without its middle, or with it: nobody knows.
                self._wire.abort()
                return Lost(Stage.FINAL, f'refused a part ("{refusal.text}") and took the rest', after_final_dot=True)
        if first and refusal.code in _NO_BDAT:
            self.unknown = True
            return Lost(Stage.CHUNK, f'offers CHUNKING and does not take BDAT: "{refusal.text}"')
        return refusal


async def _parts(body: AsyncIterable[bytes]) -> AsyncGenerator[tuple[bytes, bool], None]:
    """The message in parts of about PART_OCTETS, and whether it is the last one."""
    held: list[bytes] = []
    size = 0
    async for piece in body:
        if size >= PART_OCTETS:
            yield b"".join(held), False
            held, size = [], 0
        held.append(piece)
        size += len(piece)
    yield b"".join(held), True


async def _early_answer(exchange: Exchange) -> Reply | Lost:
    """An answer that nobody asked for yet. There is no way on: the host would take the rest for commands, or wait."""
    answer = await exchange.answer(Stage.BODY)
    exchange.wire.abort()
    return answer


async def _let_it_read() -> None:
    """Let asyncio read what has come.

    A host that has had enough answers and closes. The next write would fail, and asyncio forget what it has not read
    by then. It reads in the round after the one in which it looks.
    """
    await asyncio.sleep(0)
    await asyncio.sleep(0)
