"""SMTP smuggling over real sockets: whatever looks like the end of a message, there is one in the queue, or none.

https://sec-consult.com/blog/detail/smtp-smuggling-spoofing-e-mails-worldwide/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from submission_peer import Client, Wanted, running

from relay.delivery.dots import DotStuffer
from relay.settings import ClientSettings

pytestmark = pytest.mark.asyncio

# What some server has taken for the end of a message.
NO_ENDS = [
    *(b"\n.\n", b"\n.\r\n", b"\n.\r", b"\r.\r", b"\r.\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n"),
    *(b"\r\r\n.\r\r\n", b"\n\r.\r\n", b"\n\n.\r\n", b"\n\n..\r\n", b"\n\r\n.\n\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n"),
    *(b"\0\r\n.\n", b"\r\0\n.\r\0\n", b"\r\n..\r\n", b"\r\n. \r\n", b"\r\n .\r\n", b"\xc2\x85.\xc2\x85", b"\x0b.\x0b"),
]
IN_BDAT_ONLY = [b"\r\n.\r\n", b"\r\n.\r\n.\r\n", b"\r\r\n.\r\n"]
EVIL = b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\nSubject: evil\r\n\r\nx\r\n"


async def send(client: Client, octets: bytes, size: int) -> None:
    """In segments that end where they hurt."""
    for start in range(0, len(octets), size):
        client.send(octets[start : start + size])
        await client.writer.drain()
        await asyncio.sleep(0)


def with_data(octets: bytes) -> bytes:
    return b"DATA\r\n" + octets + b"\r\n.\r\n"


def with_bdat(octets: bytes) -> bytes:
    middle = octets.index(b".")
    parts = octets[:middle], octets[middle : middle + 2], octets[middle + 2 :]
    wire = b"".join(b"BDAT %d\r\n%s" % (len(part), part) for part in parts)
    return wire + b"BDAT 0 LAST\r\n"


@pytest.mark.parametrize("line_ends", ["refuse", "normalise"])
@pytest.mark.parametrize("way", [with_data, with_bdat])
@pytest.mark.parametrize("size", [3, 1000])
async def test_one_message_or_none(line_ends: str, way: Callable[[bytes], bytes], size: int, tmp_path: Path) -> None:
    table = ClientSettings.model_validate({"name": "x", "networks": ["127.0.0.0/8"], "line_ends": line_ends})
    async with running(tmp_path, Wanted(tables={"client": (table,)})) as server, await server.connect() as client:
        expected = 0
        await client.hello()
        for sequence in [*NO_ENDS, *(IN_BDAT_ONLY if way is with_bdat else ())]:
            message = b"Subject: x\r\n\r\nfirst" + sequence + EVIL
            clean = set(sequence.replace(b"\r\n", b"")).isdisjoint(b"\r\n\0")
            wire = way(message)
            await send(client, b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n" + wire + b"NOOP\r\n", size)
            said = [await client.reply() for _ in range(5 if way is with_data else 7)]
            good = [answer for answer in said if answer.startswith("250 2.0.0 queued as ")]
            bad = [answer for answer in said if answer.startswith("554 5.6.0 ")]
            assert (len(good), len(bad)) in ((1, 0), (0, 1)), (sequence, said)
            assert said[-1] == "250 2.0.0 OK", (sequence, said)
            assert bool(good) == (clean or line_ends == "normalise"), (sequence, said)
            expected += len(good)
        messages = await server.stored()
        assert len(messages) == expected
        for stored in messages:
            assert str(stored.claim.sender) == "a@example.test"
            stuffer = DotStuffer()
            out = b"\r\n" + stuffer.stuff(stored.trace + stored.body) + stuffer.end()
            assert out.count(b"\r\n") == out.count(b"\r") == out.count(b"\n")
            assert b"\0" not in out
            assert out.index(b"\r\n.\r\n") == len(out) - 5
