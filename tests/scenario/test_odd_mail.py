"""Odd messages through a whole Relay that signs them, to hosts of two kinds: what arrives verifies in dkimpy.

One host takes 8-bit messages, and by BDAT, the other neither: for it a message is made 7-bit before it is signed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dkim_oracle import failures
from odd_messages import largest, mended, messages
from signing_relay import by_name, signing_relay, submit_all

from relay.lab.sink import Sink, SinkScript
from relay.mail.downgrade import Plan, plan
from relay.submission.lines import normalise

PATIENCE_SECONDS = 60.0
FULL, PLAIN = "full.test", "plain.test"
MESSAGES = messages() | mended() | {"largest": largest()}


def domains_for(name: str) -> tuple[str, ...]:
    """Who gets this message. The plain host: whatever can be made 7-bit, and bodies that DATA could damage."""
    octets = normalise(MESSAGES[name])
    ended = octets if octets.endswith(b"\r\n") else octets + b"\r\n"
    for_plain = not octets.isascii() or name.startswith(("bare-", "body-", "mime-", "no-", "stray-"))
    return (FULL, PLAIN) if for_plain and isinstance(plan([ended]), Plan) else (FULL,)


@pytest.mark.asyncio
async def test_every_message_verifies_where_it_arrives(tmp_path: Path) -> None:
    full = Sink(SinkScript(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "SIZE 52428800")))
    plain = Sink(SinkScript(extensions=("PIPELINING", "SIZE 52428800")))
    domains = {name: domains_for(name) for name in MESSAGES}
    hosts = {FULL: (await full.start()).port, PLAIN: (await plain.start()).port}
    try:
        async with signing_relay(tmp_path, hosts, "relaxed/relaxed") as here:
            await submit_all(here.port, MESSAGES, domains)
            for sink, domain in ((full, FULL), (plain, PLAIN)):
                await sink.wait_for(sum(domain in those for those in domains.values()), PATIENCE_SECONDS)
    finally:
        await asyncio.gather(full.stop(), plain.stop())
    assert {*full.complaints, *plain.complaints} == {"a line of the content is longer than 998 octets"}  # as submitted
    assert by_name(full).keys() == MESSAGES.keys()
    assert len(plain.received) > 80
    assert sum(not MESSAGES[name].isascii() for name in by_name(plain)) > 20  # were converted
    for sink in (full, plain):
        wrong = {name: failures(octets) for name, octets in by_name(sink).items()}
        assert {name: why for name, why in wrong.items() if why} == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("extensions", [("8BITMIME", "SMTPUTF8", "CHUNKING"), ()], ids=["8BITMIME", "7 bits"])
async def test_notices_to_senders_verify(tmp_path: Path, extensions: tuple[str, ...]) -> None:
    """Of messages that a host refuses: an ordinary one, one with 8 bits in its header, and a large one."""
    refusing = Sink(SinkScript(rcpt={"*": ("550 5.1.1 nobody",)}))
    home = Sink(SinkScript(extensions=extensions))
    names = ("from-bare", "subject-utf8", "eight-bit", "mime-forwarded", "body-of-262144")
    hosts = {FULL: (await refusing.start()).port, "sender.test": (await home.start()).port}
    try:
        async with signing_relay(tmp_path, hosts, "relaxed/relaxed") as here:
            await submit_all(here.port, {name: MESSAGES[name] for name in names}, dict.fromkeys(names, (FULL,)))
            notices = await home.wait_for(len(names), PATIENCE_SECONDS)
    finally:
        await asyncio.gather(refusing.stop(), home.stop())
    assert not home.complaints
    for notice in notices:
        assert notice.sender == ""
        assert b"\r\nContent-Type: multipart/report" in notice.octets
        assert failures(notice.octets) == []
