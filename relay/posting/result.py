"""What became of mail that was handed to a server, and the exit code that says so: those of <sysexits.h>. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from relay.mail.address import Address
from relay.mail.status import Reply

_LOGIN_WANTED = frozenset({530, 534, 535, 538})  # RFC 4954 §6


class Exit(IntEnum):
    """What programs that call `sendmail` know."""

    OK = 0
    USAGE = 64
    DATA = 65  # the message: no recipients, an address that is none, or the server did not want it
    NO_USER = 67  # recipients were refused for good
    UNAVAILABLE = 69  # the server refused, for good
    TEMPORARY = 75  # not now; the same may be tried again
    NO_PERMISSION = 77  # the login was refused, or there must be one
    CONFIG = 78


@dataclass(frozen=True, slots=True)
class Refused:
    """A recipient that the server did not take."""

    recipient: Address
    reply: Reply


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the message, or the rest of it, is not with the server. `reason`: one line."""

    exit: Exit
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one message. `replies`: to each copy of it that the server took; many recipients make several.

    `failed`: None where every recipient got an answer of its own.
    """

    replies: tuple[Reply, ...] = ()
    refused: tuple[Refused, ...] = ()
    failed: Failed | None = None
    unsent: tuple[Address, ...] = ()  # who else has not got it, where it failed after some did

    @property
    def exit(self) -> Exit:
        """The one code for all of it: a failure before a refusal, what may be tried again last."""
        if self.failed is not None:
            return self.failed.exit
        if not self.refused:
            return Exit.OK
        codes = {one.reply.code for one in self.refused}
        if codes <= _LOGIN_WANTED and not self.replies:
            return Exit.NO_PERMISSION
        return Exit.TEMPORARY if min(codes) < 500 else Exit.NO_USER

    @property
    def lines(self) -> tuple[str, ...]:
        """What is to be told where not all went well: a line for each recipient, then for the rest."""
        told = [f"<{one.recipient}>: {one.reply.text}" for one in self.refused]
        told += [f"<{one}>: not sent" for one in self.unsent]
        if self.failed is not None:
            told.append(self.failed.reason)
        if told and self.replies:
            told.append(f"the other recipients have it: {', '.join(reply.text for reply in self.replies)}")
        return tuple(told)


def refusal(stage: str, reply: Reply, permanent: Exit) -> Failed:
    """A reply that ends everything. `permanent`: the code for a 5xx, unless it asks for a login."""
    exit = Exit.TEMPORARY if reply.code < 500 else permanent
    if reply.code in _LOGIN_WANTED:
        exit = Exit.NO_PERMISSION
    return Failed(exit, f"{stage}: {reply.text}")
