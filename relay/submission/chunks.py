"""A message that comes in chunks, the length of each told before its octets: BDAT. RFC 3030 section 2.

The octets of a chunk are always read, whatever becomes of the message: they must not be taken for commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.data import PlainReader
from relay.submission.receive import Incoming
from relay.submission.stream import Stream

_BDAT = re.compile(r"([0-9]{1,20})(?:[ \t]+(.*))?\Z")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What BDAT said. `last` None: something that is not LAST came after the size."""

    size: int
    last: bool | None


def parse_bdat(argument: str) -> Chunk | None:
    """Read what follows `BDAT `; None when it has no size that can be read."""
    found = _BDAT.match(argument)
    if found is None:
        return None
    last = None if found[2] else False
    if found[2] and found[2].upper() == "LAST":
        last = True
    return Chunk(int(found[1]), last)


async def skip(stream: Stream, size: int) -> None:
    """Throw away the octets of a chunk."""
    while size:
        size -= len(await stream.read_chunk(size))


class Chunks:
    """One message."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._reader = PlainReader()

    async def receive(self, chunk: Chunk, stream: Stream) -> Reply:
        """Read a chunk and return the answer to it. The message is over with the last chunk, and with a refusal.

        Raises stream.Gone when the client leaves before its end.
        """
        left = chunk.size
        try:
            while left:
                octets = await stream.read_chunk(left)
                left -= len(octets)
                await self._incoming.take(self._reader.feed(octets))
                del octets  # or a client that falls silent would keep its last piece twice
        except BaseException:
            self._incoming.cut_short()
            raise
        if chunk.last and self._incoming.problem is None:
            await self._incoming.take(self._reader.end())
            return await self._incoming.end()
        problem = self._incoming.problem
        if problem is None:
            return replies.received(chunk.size)
        self._incoming.drop()
        return self._incoming.refuse(problem)

    def drop(self) -> None:
        """Throw away what has come."""
        self._incoming.drop()
