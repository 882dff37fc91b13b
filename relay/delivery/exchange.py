"""What can come over a wire at each stage of a transaction, how long that may take, and what is no answer.

RFC 5321 sections 4.2.5 and 4.5.3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relay.delivery.wire import Broken, Wire
from relay.mail.status import Kind, Reply


class Stage(Enum):
    """Where in a session something happened; the value goes on from a fault: `closed the connection after EHLO`."""

    CONNECT = "while connecting"
    GREETING = "before its greeting"
    EHLO = "after EHLO"
    STARTTLS = "after STARTTLS"
    AUTH = "after AUTH"
    MAIL = "after MAIL FROM"
    RCPT = "after RCPT TO"
    OTHER_RCPT = "after RCPT TO for another recipient"
    DATA = "after DATA"
    CHUNK = "after BDAT"
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
    block_seconds: float = 180  # for the network to take the next piece of the message, and for an answer to BDAT
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


class Exchange:
    """A wire, and what may come over it at each stage."""

    def __init__(self, wire: Wire, timeouts: Timeouts) -> None:
        self.wire = wire
        self.auth_seconds = timeouts.auth_seconds
        self.quit_seconds = timeouts.quit_seconds
        self.block_seconds = timeouts.block_seconds
        self._seconds = {
            Stage.MAIL: timeouts.mail_seconds,
            Stage.RCPT: timeouts.rcpt_seconds,
            Stage.DATA: timeouts.data_seconds,
            Stage.CHUNK: timeouts.block_seconds,
            Stage.BODY: timeouts.block_seconds,
            Stage.FINAL: timeouts.final_seconds,
        }

    async def answer(self, stage: Stage, seconds: float | None = None) -> Reply | Lost:
        """The next reply, if it is one that can come at this stage; `seconds`: in place of the stage's own limit.

        After a reply 421, a fault or a reply that makes no sense here the connection is closed.
        """
        reply = await self.wire.reply(self._seconds[stage] if seconds is None else seconds)
        if isinstance(reply, Broken):
            if reply.reply is not None and reply.reply.code == 421:  # this one may come at any time
                return reply.reply
            return Lost(stage, reply.told(stage.value), after_final_dot=stage is Stage.FINAL)
        if reply.code < 400 and not _expected(reply, stage):
            self.wire.abort()
            return Lost(stage, f'answered "{reply.text}" {stage.value}', after_final_dot=stage is Stage.FINAL)
        if reply.code == 421:  # RFC 5321 §3.8: the host closes the connection
            self.wire.abort()
        return reply


def _expected(reply: Reply, stage: Stage) -> bool:
    """Whether a reply 2xx or 3xx makes sense."""
    if stage is Stage.BODY:
        return False
    return reply.code == 354 if stage is Stage.DATA else reply.code < 300


def is_refusal(answer: Reply | Lost) -> bool:
    """Whether it is anything but a yes."""
    return isinstance(answer, Lost) or answer.status.kind is not Kind.SUCCESS
