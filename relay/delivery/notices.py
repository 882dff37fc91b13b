"""Writes the notices that an attempt calls for: reads what goes back of the message, and has each one composed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from relay.events import BounceUndeliverable, Emit, StoreFailed
from relay.mail.address import Address
from relay.mail.message import Body, Claim, MessageId, NewMessage
from relay.mail.outcome import Failed
from relay.ndr.due import Kind, Stamp, due, returns_whole
from relay.ndr.notice import compose
from relay.ndr.returned import HEADER_LIMIT
from relay.policy.retry import Settlement
from relay.queue.store import StoreUnavailable


@dataclass(frozen=True, slots=True)
class NoticeWriter:
    """What notices need besides the mail. `read` gives the octets of a body in chunks (`QueueStore.read`)."""

    hostname: str
    postmaster: Address | None
    new_id: Callable[[], MessageId]
    read: Callable[[Body], AsyncGenerator[bytes, None]]
    emit: Emit

    async def write(
        self, claim: Claim, settlement: Settlement, now: datetime, *, tried: bool = True
    ) -> list[tuple[Kind, NewMessage]]:
        """All notices that `settlement` calls for, each with a new queue id. `tried`: it comes of an attempt."""
        notices = []
        for one in due(claim, settlement, self.postmaster):
            original = await self._original(claim, whole=returns_whole(one.kind, claim))
            stamp = Stamp(self.new_id(), now, self.hostname, tried)
            notices.append((one.kind, compose(one, claim, original, stamp)))
        return notices

    async def _original(self, claim: Claim, *, whole: bool) -> bytes:
        """The message as it was accepted, as far as a notice may give it back."""
        found = b""
        chunks = self.read(claim.body)
        try:
            async for chunk in chunks:
                found += chunk
                if not whole and (b"\r\n\r\n" in found or len(found) > HEADER_LIMIT):
                    break
        except StoreUnavailable as error:  # what became of the mail matters more than its header in a notice
            self.emit(StoreFailed(str(error)))
        finally:
            await chunks.aclose()
        return found


def lost_bounces(claim: Claim, settlement: Settlement) -> Iterator[BounceUndeliverable]:
    """What is to be reported of a message that has failed and has no sender to be told."""
    if claim.sender is not None or claim.report:
        return
    for settled in settlement.failed:
        outcome = settled.outcome
        if isinstance(outcome, Failed):
            yield BounceUndeliverable(
                str(claim.id), str(settled.recipient.address), str(outcome.status), outcome.reason
            )
