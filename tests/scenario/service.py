"""`relay run` on a queue of its own, to be killed and started again, and a client that submits to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """A process with the real service. `settings`: what comes after [submission] and [queue], as TOML.

    `under`: a command that runs the service, with its arguments; none by default. `submission`: more of [submission].
    """

    def __init__(self, folder: Path, settings: str, under: Sequence[str] = (), submission: str = "") -> None:
        self._under = under
        self.port = free_port()
        self.queue = folder / "state"
        self.log = folder / "log"
        self._settings = folder / "relay.toml"
        self._settings.write_text(f"""hostname = "relay.test"
[submission]
listen = ["127.0.0.1:{self.port}"]
{submission}
[alignment]
check = "off"
[queue]
path = "{self.queue}"
{settings}""")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self, seconds: float = 30) -> None:
        """Returns when it greets its clients."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._under, sys.executable, "-m", "relay", "run", "--config", str(self._settings), stderr=log
            )
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    greeting = await reader.readline()
                    writer.close()
                    if greeting.startswith(b"220"):
                        return
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        os.kill(int((self.queue / "lock").read_text()), signal.SIGTERM)
        return await self._process.wait()


class Submitter:
    """One SMTP session of a client. Raises ConnectionError when the service leaves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Submitter:
        made = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            await made.reply()
            await made.command(b"EHLO t")
        except BaseException:
            made.close()
            raise
        return made

    async def command(self, line: bytes) -> bytes:
        self._writer.write(line + b"\r\n")
        return await self.reply()

    async def send(self, body: bytes, recipient: bytes = b"r@t.test", sender: bytes = b"") -> bytes:
        """One message. Returns the answer to the final dot, or the first that was no success."""
        self._writer.write(b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender, recipient))
        for expected in (b"250", b"250", b"354"):
            answer = await self.reply()
            if not answer.startswith(expected):
                return answer
        self._writer.write(body + b".\r\n")
        return await self.reply()

    async def reply(self) -> bytes:
        """The last line of the next reply."""
        while True:
            line = await self._reader.readline()
            if not line:
                raise ConnectionError("closed")
            if line[3:4] != b"-":
                return line

    def close(self) -> None:
        self._writer.close()


async def submit(port: int, body: bytes, recipient: bytes = b"r@t.test", sender: bytes = b"") -> bytes:
    """One message in a session of its own. Returns the answer to the final dot. Raises ConnectionError."""
    client = await Submitter.connect(port)
    try:
        return await client.send(body, recipient, sender)
    finally:
        client.close()


def numbered(number: int, lines: int = 1) -> bytes:
    """A message that `number_of` finds again."""
    return f"X-Number: {number}\r\n\r\n".encode() + b"some text\r\n" * lines


def number_of(octets: bytes) -> int:
    return int(octets.split(b"X-Number: ")[1].split(b"\r\n")[0])
