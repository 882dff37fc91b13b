"""What each recipient comes to after each dialogue of tests/data/dialogues.txt, said and heard over a real socket.

A dialogue there is the host's part, from the answer to EHLO on:

    == its name
    offers: PIPELINING, LIMITS RCPTMAX=1     keywords of its EHLO answer
    body: 3                                  so many pieces of 256 KiB in place of a small message
    most: 2                                  recipients at once, as the caller asks
    attempts: 2                              this attempt is the second one
    from: connect                            the greeting and the answer to EHLO are in the script
    > 3                                      read so many lines; `> body`, `> chunk`: a message, a BDAT with its octets;
                                             `> RSET`: a line that is to be this one
    < 250 2.1.0 ok                           say a line; `<~`: octet by octet; `<times 99`: so often; `<raw`: with
                                             escapes, and no CRLF; `<endless 40000`: so many octets, and no CRLF
    ! close                                  or `reset`, or `stall`: say nothing until the client leaves
    = delivered 2.0.0                        what a recipient comes to, in order: state, status, cause; `next`: another
                                             host may be tried for it
    why: asks us to come again later         so the reason ends, of somebody who does not get it
    session: kept                            or `gone`, or `full`: another session takes the rest; `none`
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from smtp_peer import BODY, CHUNK, CLOSE, RESET, STALL, Peer, Step, host, octet_by_octet

from relay.delivery.opening import ConnectFailed, Target, open_session
from relay.delivery.results import connect_failed
from relay.delivery.sending import Means, send_message
from relay.delivery.smtp import OpenSession
from relay.delivery.transaction import Timeouts
from relay.mail.address import parse_address
from relay.mail.message import Body, Claim, FileBody, InlineBody, MessageId, Recipient
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, TlsUsed
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule

ALLOW = Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = b"Subject: x\r\n\r\n.dot\r\n"
PIECE = (b"x" * 62 + b"\r\n") * 4096  # 256 KiB
SHORT = 0.2
SOON = Timeouts(
    ehlo_seconds=SHORT, mail_seconds=SHORT, rcpt_seconds=SHORT, data_seconds=SHORT, block_seconds=SHORT,
    final_seconds=SHORT, quit_seconds=SHORT, greeting_seconds=SHORT,
)  # fmt: skip
STEPS: dict[str, Step] = {
    "> body": BODY, "> chunk": CHUNK, "! close": CLOSE, "! reset": RESET, "! stall": STALL,
}  # fmt: skip


def hears(expected: bytes) -> Step:
    """Read a line, which is to be this one."""

    async def hear(peer: Peer) -> None:
        line = await peer.line()
        assert line == expected, line

    return hear


@dataclass
class Dialogue:
    """One of them, as it is written down."""

    name: str
    fields: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    stalls: bool = False

    def add(self, line: str) -> None:
        if line in STEPS:
            self.steps.append(STEPS[line])
            self.stalls = self.stalls or line == "! stall"
        elif line.startswith("> ") and line[2:].isdigit():
            self.steps.append(int(line[2:]))
        elif line.startswith("> "):
            self.steps.append(hears(line[2:].encode() + b"\r\n"))
        elif line.startswith("< "):
            self.steps.append(line[2:].encode() + b"\r\n")
        elif line.startswith("<~ "):
            self.steps.append(octet_by_octet(line[3:].encode() + b"\r\n"))
        elif line.startswith("<times "):
            times, _, text = line[7:].partition(" ")
            self.steps.append((text.encode() + b"\r\n") * int(times))
        elif line.startswith("<endless "):
            self.steps.append(b"250 " + b"x" * int(line[9:]))
        elif line.startswith("<raw "):
            self.steps.append(eval(f'b"{line[5:]}"'))
        elif line.startswith("= "):
            self.results.append(line[2:])
        else:
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name in ("offers", "body", "most", "attempts", "from", "why", "session"), line
            self.fields[name] = value


def read_dialogues() -> list[Dialogue]:
    found: list[Dialogue] = []
    for line in (Path(__file__).parent.parent / "data" / "dialogues.txt").read_text().splitlines():
        if line.startswith("== "):
            found.append(Dialogue(line[3:]))
        elif line.strip() and not line.startswith("#"):
            found[-1].add(line.strip())
    return found


DIALOGUES = read_dialogues()


def in_words(outcome: Outcome, may_go_on: bool) -> str:
    state = "delivered" if isinstance(outcome, Delivered) else "failed" if isinstance(outcome, Failed) else "deferred"
    cause = f" {outcome.cause.value}" if isinstance(outcome, Deferred) and outcome.cause is not None else ""
    return f"{state} {outcome.status}{cause}{' next' if may_go_on else ''}"


def make_claim(dialogue: Dialogue) -> Claim:
    pieces = int(dialogue.fields.get("body", "0"))
    attempts = int(dialogue.fields.get("attempts", "1"))
    addresses = [parse_address(b"%d@b.test" % number) for number in range(len(dialogue.results))]
    return Claim(
        id=MessageId(1),
        sender=parse_address(b"a@a.test"),
        destination="b.test",
        recipients=tuple(Recipient(index, address, attempts) for index, address in enumerate(addresses)),
        body=FileBody(Path("large"), len(TEXT) + pieces * len(PIECE)) if pieces else InlineBody(TEXT),
        arrived=NOW,
        lease=1,
        lease_until=NOW,
    )


async def play(dialogue: Dialogue) -> tuple[list[str], str, list[str]]:
    fields = dialogue.fields
    pieces = int(fields.get("body", "0"))

    async def read(_: Body) -> AsyncGenerator[bytes, None]:
        yield TEXT
        for _number in range(pieces):
            yield PIECE

    steps = list(dialogue.steps)
    if "from" not in fields:
        offers = "".join(f"250-{keyword}\r\n" for keyword in fields.get("offers", "HELP").split(", "))
        steps[:0] = [b"220 mx.test\r\n", 1, f"250-mx.test\r\n{offers}250 HELP\r\n".encode()]
    async with host(*steps) as mx:
        target = Target("mx.test", "127.0.0.1", mx.port)
        session = await open_session(
            target, None, Source(hostname="relay.test"), SOON if dialogue.stalls else Timeouts(quit_seconds=2)
        )
        if not isinstance(session, OpenSession):
            assert isinstance(session, ConnectFailed)
            failed = connect_failed(session, target)
            return [in_words(failed, may_go_on=True)] * len(dialogue.results), "none", [failed.reason]
        claim = make_claim(dialogue)
        most = int(fields["most"]) if "most" in fields else None
        async with asyncio.timeout(20):
            sent = await send_message(claim, claim.recipients, session, ALLOW, Means(read, lambda: NOW, most))
        assert sorted(sent.told) == [recipient.index for recipient in claim.recipients]
        results = [in_words(told.outcome, told.may_go_on) for _, told in sorted(sent.told.items())]
        outcomes = [told.outcome for _, told in sorted(sent.told.items())]
        reasons = [one.reason for one in outcomes if isinstance(one, Deferred | Failed)]
        state = "full" if sent.full else "kept" if session.reusable() else "gone"
        session.close()
        return results, state, reasons


@pytest.mark.asyncio
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
async def test_dialogue(dialogue: Dialogue) -> None:
    results, state, reasons = await play(dialogue)
    assert results == dialogue.results
    assert "why" not in dialogue.fields or any(one.endswith(dialogue.fields["why"]) for one in reasons), reasons
    assert state == dialogue.fields["session"]


def test_there_are_enough_of_them() -> None:
    assert len(DIALOGUES) >= 60
    assert len({dialogue.name for dialogue in DIALOGUES}) == len(DIALOGUES)
