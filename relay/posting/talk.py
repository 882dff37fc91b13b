"""One SMTP session as a client has it, blocking: lines out, replies in, and whoever wants to hears both.

Small on purpose: smtplib reads replies without end, mends addresses, and encodes passwords in ASCII only.
RFC 5321 sections 4.1.1 and 4.2, RFC 3207.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from relay.mail.status import Reply

CONNECT_SECONDS = 30.0
REPLY_SECONDS = 600.0  # RFC 5321 §4.5.3.2.6: the answer to the final dot may take that long
LEAVE_SECONDS = 2.0
_MAX_LINE = 4096  # octets; RFC 5321 §4.5.3.1.5 says 512
_MAX_LINES = 200
_REPLY = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\r?\n\Z", re.DOTALL)
_BREAKS_OUT = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[^ -~\u00a0-\U0010ffff]")

Hear = Callable[[str], None]


class TalkError(OSError):
    """The server has ended the session, or says what is no SMTP."""


class Talk:
    """A session with a server. All methods raise OSError when it is lost. `offers`: what the last EHLO gave."""

    def __init__(self, host: str, port: int, hear: Hear | None = None) -> None:
        self.offers: dict[str, str] = {}
        self._hear: Hear = hear if hear is not None else lambda _: None
        self._host = host
        self._sock: socket.socket = socket.create_connection((host, port), CONNECT_SECONDS)
        self._file = self._sock.makefile("rb")

    def greeting(self, context: ssl.SSLContext | None) -> Reply:
        """The first reply; with `context` after a handshake."""
        if context is not None:
            self.start_tls(context)
        reply = self.reply()
        self._sock.settimeout(REPLY_SECONDS)
        return reply

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands. What the server had said before counts no more."""
        self._file.close()
        self.offers = {}
        self._sock = context.wrap_socket(self._sock, server_hostname=self._host)
        self._file = self._sock.makefile("rb")
        cipher = self._sock.cipher()
        self._hear(f"*: {self._sock.version()} {cipher[0] if cipher else ''}")

    def hello(self, name: str) -> Reply:
        """EHLO."""
        reply = self.ask(f"EHLO {name}")
        self.offers = {}
        for line in reply.lines[1:]:
            keyword, _, value = line.partition(" ")
            self.offers[keyword.upper()] = value
        return reply

    def ask(self, command: str, shown: str | None = None) -> Reply:
        """One command and its reply. `shown`: what is heard of a command that has a secret in it."""
        if _BREAKS_OUT.search(command):
            raise ValueError("a control character in a command")
        self._hear(f"C: {_CONTROL.sub('?', command if shown is None else shown)}")
        self._sock.sendall(f"{command}\r\n".encode())
        return self.reply()

    def give(self, octets: bytes) -> Reply:
        """The message, after 354, and the reply to its final dot. `octets`: lines that end with CRLF."""
        self._hear(f"C: ({len(octets)} octets of the message)")
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        self._hear("C: .")
        self._sock.sendall(stuffed + b".\r\n")
        return self.reply()

    def reply(self) -> Reply:
        """The next reply, with all its lines."""
        lines: list[str] = []
        while len(lines) < _MAX_LINES:
            line = self._file.readline(_MAX_LINE)
            if not line:
                raise TalkError("the server has closed the connection")
            found = _REPLY.match(line)
            if found is None:
                raise TalkError("what came is no SMTP reply")
            lines.append(_CONTROL.sub("?", (found[3] or b"").decode("utf-8", "replace").rstrip("\r\n")))
            self._hear(f"S: {found[1].decode()}{(found[2] or b' ').decode()}{lines[-1]}")
            if found[2] != b"-":
                return Reply.of(int(found[1]), tuple(lines))
        raise TalkError("a reply has no end")

    def leave(self) -> None:
        """QUIT, if that can be said, and close."""
        with suppress(OSError):
            self._sock.settimeout(LEAVE_SECONDS)
            self.ask("QUIT")
        self.close()

    def close(self) -> None:
        """Close without a word."""
        self._file.close()
        self._sock.close()
