"""An SMTP session as octets, from the server's side: lines, content and replies, and what is wrong with the client's.

It repairs nothing, and knows nothing of transactions. It keeps a buffer of its own, so that what the client sends
before it may is seen. RFC 5321 sections 2.3.8, 4.1.2 (paths), 4.2 (replies), 4.5.2 (dot-stuffing), 4.5.3.1 (limits).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable

from relay.lab.listener import reset
from relay.lab.tls_stream import TlsStream

Answer = str | bytes
"""A reply, such as `451 4.7.1 later`. A line of the text becomes a line of the reply; octets are sent as they are."""

_PATH = re.compile(r'(FROM|TO):<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: (.*))?\Z', re.IGNORECASE)
_PARAMETERS = {  # what an extension allows after MAIL FROM and after RCPT TO
    ("FROM", "SIZE"): ("SIZE",),
    ("FROM", "8BITMIME"): ("BODY",),
    ("FROM", "SMTPUTF8"): ("SMTPUTF8",),
    ("FROM", "REQUIRETLS"): ("REQUIRETLS",),
    ("FROM", "DSN"): ("RET", "ENVID"),
    ("FROM", "DELIVERBY"): ("BY",),
    ("FROM", "MT-PRIORITY"): ("MT-PRIORITY",),
    ("TO", "DSN"): ("NOTIFY", "ORCPT"),
}
_LONG_LINE = re.compile(rb"[^\n]{1000}")  # RFC 5321 section 4.5.3.1.6: 1000 octets with CRLF
_BARE_ENDING = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_UNSTUFFED = re.compile(rb"\r\n\.[^.]")
_MAX_COMMAND = 1 << 16
_CHUNK = 1 << 18


class Client:
    """The client of a session. `complain` is called with each thing it did wrong."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, complain: Callable[[str], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._complain = complain
        self._buffer = bytearray()
        self._tls: TlsStream | None = None

    @property
    def ahead(self) -> bool:
        """Whether the client has sent more than was read, as far as it has arrived."""
        return bool(self._buffer)

    async def some(self) -> None:
        """Wait until something is `ahead`. Raises EOFError when the client has left."""
        if not self._buffer:
            await self._more()

    async def until_end(self) -> None:
        """Read and forget everything until the client leaves."""
        while await self._read():
            pass

    async def line(self) -> str:
        """A command line without its end; octets that are not UTF-8 become surrogates. Raises EOFError as `some`."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_COMMAND:
                self._complain("a command line without an end")
                raise EOFError
            await self._more()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if _BARE_ENDING.search(line):
            self._complain(f"bare CR or LF in the command {line[:80]!r}")
        return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")

    async def content(self) -> bytes:
        """What is sent after 354 up to the final dot, with dot-stuffing undone. Raises EOFError as `some` does."""
        self._buffer[:0] = b"\r\n"  # so that a dot on the very first line ends it as well
        start = 0
        while (end := self._buffer.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(self._buffer) - 4)
            await self._more()
        stuffed = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        for pattern, wrong in (
            (_UNSTUFFED, "a line of the content begins with a dot that is not doubled"),
            (_LONG_LINE, "a line of the content is longer than 998 octets"),
            (_BARE_ENDING, "bare CR or LF in the content"),
        ):
            if pattern.search(stuffed):
                self._complain(wrong)
        return stuffed.replace(b"\r\n.", b"\r\n")[2:]

    async def exactly(self, octets: int) -> bytes:
        """So many octets. Raises EOFError as `some` does."""
        while len(self._buffer) < octets:
            await self._more()
        found = bytes(self._buffer[:octets])
        del self._buffer[:octets]
        return found

    async def say(self, answer: Answer) -> None:
        """Send a reply."""
        octets = _reply(answer) if isinstance(answer, str) else answer
        if self._tls is not None:
            await self._tls.write(octets)
            return
        self._writer.write(octets)
        await self._writer.drain()

    async def start_tls(self, context: ssl.SSLContext) -> ssl.SSLObject:
        """Do the handshake. What is `ahead` is forgotten (RFC 3207 section 4.2). Raises OSError when it fails."""
        self._buffer.clear()
        tls = TlsStream(self._reader, self._writer, context)
        await tls.handshake()
        self._tls = tls
        return tls.session

    def reset(self) -> None:
        """End the connection with RST."""
        reset(self._writer)

    async def _more(self) -> None:
        chunk = await self._read()
        if not chunk:
            raise EOFError
        self._buffer += chunk

    async def _read(self) -> bytes:
        return await (self._tls.read() if self._tls is not None else self._reader.read(_CHUNK))


def reply_code(answer: Answer) -> int:
    """The code that a reply begins with; 0: none."""
    digits = answer[:3]
    return int(digits) if digits.isdigit() else 0


def parse_path(keyword: str, text: str) -> tuple[str, tuple[str, ...]] | None:
    """The address and the parameters in `FROM:<a@b> SIZE=1` or `TO:<a@b>`; None: it is no such thing."""
    found = _PATH.match(text)
    if found is None or found[1].upper() != keyword:
        return None
    return found[2], tuple((found[3] or "").split())


def path_fault(
    keyword: str, path: tuple[str, tuple[str, ...]], of_mail: tuple[str, ...], offers: Callable[[str], bool]
) -> tuple[str, str] | None:
    """The reply and the complaint, where a path or its parameters need an extension that was not offered or asked for.

    `of_mail`: the parameters of MAIL, for a path of RCPT.
    """
    address, parameters = path
    allowed = [
        name
        for (where, extension), names in _PARAMETERS.items()
        if where == keyword and offers(extension)
        for name in names
    ]
    for parameter in parameters:
        if parameter.partition("=")[0].upper() not in allowed:
            return "555 5.5.4 no such parameter", f"{parameter!r} goes with no extension offered"
    declared = parameters if keyword == "FROM" else of_mail
    if not address.isascii() and "SMTPUTF8" not in map(str.upper, declared):
        return "553 5.6.7 not ASCII", f"{address!r} without SMTPUTF8"
    return None


def _reply(text: str) -> bytes:
    """`250 a` and further lines, as a reply in one or many lines. RFC 5321 section 4.2.1."""
    code, lines = text[:3], text[4:].split("\n")
    marks = ["-"] * (len(lines) - 1) + [" "]
    return "".join(f"{code}{mark}{line}\r\n" for mark, line in zip(marks, lines, strict=True)).encode()
