"""Odd messages through a whole Relay that signs them, to hosts of two kinds: what arrives verifies in dkimpy.

One host takes 8-bit messages, and by BDAT, the other neither: for it a message is made 7-bit before it is signed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dkim_oracle import failures
from odd_messages import bare, largest, messages
from signing_relay import by_name, signing_relay, submit_all

from relay.events import AttemptFinished
from relay.lab.sink import Sink, SinkScript
from relay.mail.downgrade import Plan, plan
from relay.submission.lines import normalise

FULL, PLAIN = "full.test", "plain.test"
MESSAGES = messages() | bare() | {"largest": largest()}


def domains_for(name: str) -> tuple[str, ...]:
    """Who gets this message. The plain host: whatever can be made 7-bit, and bodies that DATA could damage."""
    octets = normalise(MESSAGES[name])
    ended = octets if octets.endswith(b"\r\n") else octets + b"\r\n"
    for_plain = not octets.isascii() or name.startswith(("bare-", "body-", "mime-", "name-"))
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
            await here.until(lambda: len(here.seen(AttemptFinished)) == sum(map(len, domains.values())))
            assert not here.finished("failed")
    finally:
        await asyncio.gather(full.stop(), plain.stop())
    assert not full.complaints
    assert not plain.complaints
    assert by_name(full).keys() == MESSAGES.keys()
    assert len(plain.received) > 80
    assert sum(not MESSAGES[name].isascii() for name in by_name(plain)) > 20  # were converted
    for sink in (full, plain):
        wrong = {name: failures(octets) for name, octets in by_name(sink).items()}
        assert {name: why for name, why in wrong.items() if why} == {}
