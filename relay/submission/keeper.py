"""A message's octets on their way to disk. What goes wrong there is remembered as the answer to the client."""

from __future__ import annotations

from relay.events import DefectFound, StoreFailed
from relay.mail.message import MessageId
from relay.mail.status import Reply
from relay.queue.store import BodyWriter, StoreUnavailable
from relay.submission import replies
from relay.submission.front import Front


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
        """Add octets, unless what was written is thrown away."""
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
