"""The log: one line on standard error for each event."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TextIO

import structlog

from relay.events import Emit, Event, fields


def log_lines(stream: TextIO = sys.stderr) -> Emit:
    """An `Emit` that writes one `key=value` line an event to `stream`, time first.

    A line that cannot be written (a closed pipe, a full disk) is lost: the log must not stop the mail.
    """
    # structlog's processors without its logger, which would cost more than they do: two events for each message.
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    render = structlog.processors.LogfmtRenderer(bool_as_flag=False)

    def emit(event: Event) -> None:
        line = {"timestamp": "", "level": event.level, "event": event.name, **fields(event)}
        text = render(None, event.level, stamp(None, event.level, line))
        if not text.isprintable():  # strangers' words must not move the cursor of who reads the log
            text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
        with suppress(OSError, ValueError):
            stream.write(f"{text}\n")
            stream.flush()

    return emit
