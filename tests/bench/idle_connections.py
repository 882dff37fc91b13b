"""What do clients cost that do nothing? A command: `python tests/bench/idle_connections.py`; see docs/bench.md.

It measures the real service, `relay run` in a process of its own: the memory that each connection takes, and how long a
message of somebody else takes meanwhile. Clients come from many addresses of 127.0.0.0/8, since one has only some
28,000 ports, and as strangers, but for those that are in the middle of a message.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from deferred_mail import memory
from service import Service, free_port, numbered, submit

from relay.lab.certs import LabCa

SUBMISSION = """listen_tls = ["127.0.0.1:{tls_port}"]
trusted_networks = ["127.0.0.1/32", "127.0.2.0/24"]
tls_certificate = "{chain}"
tls_key = "{key}"
max_connections = {most}
max_connections_per_address = ""
connections_per_minute = ""
"""
NO_DNS = '[dns]\nnameservers = ["127.0.0.1:9"]\n'
STRANGERS = tuple(f"127.0.1.{number}" for number in range(1, 21))
TRUSTED = tuple(f"127.0.2.{number}" for number in range(1, 21))
HALF_A_MESSAGE = b"Subject: half\r\n\r\n" + b"some text of a message that does not end\r\n" * 1460  # 60 KB
HALF_A_COMMAND = b"EHLO " + b"x" * 1000
PATIENCE_SECONDS = 60.0


class Idle:
    """One client that goes as far as its kind, and no further."""

    def __init__(self, port: int, source: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS, (source, 0))

    def shake_hands(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._sock = context.wrap_socket(self._sock)

    def say(self, octets: bytes) -> None:
        self._sock.sendall(octets)

    def hear(self, code: bytes) -> None:
        """One reply."""
        heard = b""
        while not (heard.endswith(b"\r\n") and heard.splitlines()[-1][3:4] == b" "):
            octets = self._sock.recv(4096)
            assert octets, f"closed after {heard!r}"
            heard += octets
        assert heard.startswith(code), heard

    def close(self) -> None:
        self._sock.close()


def clear(port: int, _: int, source: str) -> Idle:
    client = Idle(port, source)
    client.hear(b"220")
    return client


def starttls(port: int, _: int, source: str) -> Idle:
    client = clear(port, _, source)
    client.say(b"STARTTLS\r\n")
    client.hear(b"220")
    client.shake_hands()
    client.say(b"EHLO x\r\n")
    client.hear(b"250")
    return client


def implicit(_: int, tls_port: int, source: str) -> Idle:
    client = Idle(tls_port, source)
    client.shake_hands()
    client.hear(b"220")
    return client


def half_a_command(port: int, tls_port: int, source: str) -> Idle:
    client = implicit(port, tls_port, source)
    client.say(HALF_A_COMMAND)
    return client


def half_a_message(port: int, tls_port: int, source: str) -> Idle:
    client = implicit(port, tls_port, source)
    for line in (b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<r@t.test>"):
        client.say(line + b"\r\n")
        client.hear(b"250")
    client.say(b"DATA\r\n")
    client.hear(b"354")
    client.say(HALF_A_MESSAGE)
    return client


Kind = Callable[[int, int, str], Idle]
KINDS: dict[str, Kind] = {
    "clear text": clear,
    "STARTTLS": starttls,
    "implicit TLS": implicit,
    "half a command, TLS": half_a_command,
    "half a message of 60 KB, TLS": half_a_message,
}


@dataclass(frozen=True)
class Figures:
    """KiB for each connection; seconds that a message of somebody else takes, the median and the longest."""

    loop: str
    kind: str
    connections: int
    each: float
    middle: float
    longest: float

    def row(self) -> str:
        times = f"{self.middle * 1000:.0f} ms | {self.longest * 1000:.0f} ms"
        return f"| {self.loop} | {self.kind} | {self.connections:,} | {self.each:.1f} KiB | {times} |"


HEAD = "| loop | connections | how many | memory for each | a message | the slowest |\n|---|---|---|---|---|---|"


def allow_files(connections: int) -> None:
    """As many open files as we may have. Exits when they are too few for the connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < connections + 500:
        raise SystemExit(f"only {most} files may be open (ulimit -Hn): choose fewer --connections")


@contextmanager
def python_path(folder: Path, loop: str) -> Iterator[None]:
    """The service takes uvloop where that is installed; for asyncio one that can't be imported is put before it."""
    before = os.environ.get("PYTHONPATH", "")
    if loop == "asyncio":
        (folder / "uvloop.py").write_text("raise ImportError\n")
        os.environ["PYTHONPATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = before


async def measure(loop: str, name: str, connections: int, messages: int) -> Figures:
    """One service, so many connections of one kind, and some messages while they are there."""
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        chain, key = LabCa.make(datetime.now(UTC)).issue(["relay.test"]).write(folder)
        tls_port = free_port()
        submission = SUBMISSION.format(tls_port=tls_port, chain=chain, key=key, most=2 * connections + 100)
        service = Service(folder, NO_DNS, submission=submission)
        with python_path(folder, loop):
            await service.start()
        try:
            await one_message(service.port)
            before, _ = memory(service.pid)
            sources = islice(cycle(TRUSTED if kind is half_a_message else STRANGERS), connections)
            for source in sources:
                client = await asyncio.to_thread(kind, service.port, tls_port, source)
                stack.callback(client.close)
            times = [await one_message(service.port) for _ in range(messages)]
            after, _ = memory(service.pid)
        finally:
            await service.kill()
        return Figures(loop, name, connections, (after - before) * 1024 / connections, median(times), max(times))


async def one_message(port: int) -> float:
    """Seconds for a session with one message."""
    began = time.perf_counter()
    answer = await submit(port, numbered(1, 150), sender=b"s@t.test")
    assert answer.startswith(b"250"), answer
    return time.perf_counter() - began


async def measure_all(loops: Sequence[str], kinds: Sequence[str], connections: int, messages: int) -> list[Figures]:
    figures = []
    for loop in loops:
        for kind in kinds:
            figures.append(await measure(loop, kind, connections, messages))
            print(figures[-1].row(), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="measure what connections cost that do nothing")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=50, help="sent by somebody else meanwhile")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), action="append")
    parser.add_argument("--kind", choices=tuple(KINDS), action="append")
    given = parser.parse_args()
    allow_files(given.connections)
    print(HEAD)
    loops, kinds = given.loop or ["uvloop", "asyncio"], given.kind or list(KINDS)
    asyncio.run(measure_all(loops, kinds, given.connections, given.messages))


if __name__ == "__main__":
    main()
