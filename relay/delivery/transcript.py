"""What was said in one SMTP session, for the evidence of an attempt: bounded, and without the message itself.

Recording must cost next to nothing, as every session does it: text is made only when somebody asks for `lines`.
"""

from __future__ import annotations

from collections.abc import Callable

from relay.mail.status import Reply

MAX_OPENING = 40  # entries until the first message
MAX_ENTRIES = 60  # entries of the message at hand; the middle is left out
_KEPT_OCTETS = 2000  # of what is sent at once: hundreds of recipients go together
_SHOWN_CHARACTERS = 300

_Entry = tuple[float, bytes | Reply | str]


class Transcript:
    """The dialogue of a session. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._opening: list[_Entry] = []
        self._message: list[_Entry] | None = None
        self._left_out = 0
        self._body_octets = 0

    def sent(self, octets: bytes) -> None:
        """Commands that we sent."""
        self._add(octets[:_KEPT_OCTETS])

    def sent_body(self, octets: int) -> None:
        """So many octets of the message, which are nobody's business."""
        self._body_octets += octets

    def received(self, reply: Reply) -> None:
        """A reply."""
        self._add(reply)

    def happened(self, what: str) -> None:
        """Anything else: a handshake, the end of the connection."""
        self._add(what)

    def begin_message(self) -> None:
        """From here on it is about another message: what was said of the one before is forgotten."""
        self._message = []
        self._left_out = 0
        self._body_octets = 0

    def lines(self) -> tuple[str, ...]:
        """The dialogue, a line each: seconds since the connection, `>` for us, `<` for the host, `*` for the rest."""
        lines = [line for entry in self._opening for line in self._shown(entry)]
        half = MAX_ENTRIES // 2
        for number, entry in enumerate(self._message or ()):
            if number == half and self._left_out:
                lines.append(f"  ({self._left_out} more)")
            lines += self._shown(entry)
        return tuple(lines)

    def _add(self, what: bytes | Reply | str) -> None:
        entry = (self._clock() - self._began, what)
        if self._message is None:
            if len(self._opening) < MAX_OPENING:
                self._opening.append(entry)
            return
        if self._body_octets and not isinstance(what, bytes):
            body, self._body_octets = self._body_octets, 0
            self._add(f"(the message, {body} octets)")
        self._message.append(entry)
        if len(self._message) > MAX_ENTRIES:
            del self._message[MAX_ENTRIES // 2]
            self._left_out += 1

    def _shown(self, entry: _Entry) -> list[str]:
        seconds, what = entry
        if isinstance(what, bytes):
            texts = [f"> {line}" for line in what.decode("utf-8", "replace").splitlines()]
        elif isinstance(what, Reply):
            last = len(what.lines) - 1
            texts = [f"< {what.code}{' ' if at == last else '-'}{line}" for at, line in enumerate(what.lines)]
        else:
            texts = [f"* {what}"]
        return [f"{seconds:7.3f} {_cleaned(text)}" for text in texts]


def _cleaned(text: str) -> str:
    cut = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return "".join(character if character.isprintable() else "?" for character in cut)
