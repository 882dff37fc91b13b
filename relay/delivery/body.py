"""The message as one host gets it: as it is, or made 7-bit for a host without 8BITMIME. RFC 6152 section 3."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from relay.delivery.capabilities import Capabilities
from relay.mail.downgrade import Converter, Plan, Planner, Unconvertible
from relay.mail.message import Body, Claim
from relay.mail.outcome import Failed
from relay.mail.status import Kind, Status

EIGHT_BIT_5_6_3 = Status(Kind.PERMANENT, 6, 3)

ReadBody = Callable[[Body], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The octets for one host, to be read as often as it takes. `size`: None when it is not known before."""

    read: Callable[[], AsyncGenerator[bytes, None]]
    size: int | None
    eight_bit: bool

    def behind(self, fields: bytes) -> Outgoing:
        """The same with these header fields, whole and in ASCII, in front of it."""
        size = None if self.size is None else self.size + len(fields)
        return Outgoing(lambda: _behind(fields, self.read), size, self.eight_bit)


Sign = Callable[[Claim, Outgoing, datetime], Awaitable[Outgoing]]  # the same message with its signatures, made then


async def body_for(claim: Claim, can: Capabilities, host: str, read: ReadBody) -> Outgoing | Failed:
    """What to send to this host; or why it cannot have the message, while another one may.

    `read` gives the octets of a body; what it raises comes through.
    """
    if not claim.eight_bit or can.eight_bit_mime:
        return Outgoing(lambda: read(claim.body), claim.body.size, claim.eight_bit)
    planner = Planner()
    async with aclosing(read(claim.body)) as pieces:
        async for octets in pieces:
            planner.feed(octets)
    plan = planner.end()
    if isinstance(plan, Unconvertible):
        why = f"{host} does not offer 8BITMIME, and the message cannot be made 7-bit: {plan.reason}"
        return Failed(EIGHT_BIT_5_6_3, why, host)
    # RFC 1870 §3: a client that does not know the size of what it will send leaves SIZE out.
    return Outgoing(lambda: _converted(claim.body, plan, read), None, eight_bit=False)


async def _converted(body: Body, plan: Plan, read: ReadBody) -> AsyncGenerator[bytes, None]:
    converter = Converter(plan)
    async with aclosing(read(body)) as pieces:
        async for octets in pieces:
            yield converter.feed(octets)
    yield converter.end()


async def _behind(fields: bytes, read: Callable[[], AsyncGenerator[bytes, None]]) -> AsyncGenerator[bytes, None]:
    """In one piece with the first one of the message: a small message still goes out in one write."""
    async with aclosing(read()) as pieces:
        async for octets in pieces:
            yield fields + octets if fields else octets
            fields = b""
    if fields:
        yield fields
