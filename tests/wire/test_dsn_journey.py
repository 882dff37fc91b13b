"""DSN from the client to the next host and back: the real service between a client and scripted hosts. RFC 3461."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dsn_parser import Dsn, parse_dsn
from submission_peer import Client

from relay.app import App, utc_now
from relay.config import load
from relay.events import Event
from relay.lab.sink import Sink, SinkScript
from relay.lab.zones import Security, Zone, Zones
from relay.settings import HostPort

pytestmark = pytest.mark.asyncio

WITHOUT_DSN = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES")
SETTINGS = """hostname = "relay.home.test"
[submission]
listen = ["127.0.0.1:0"]
[queue]
path = "{folder}/state"
[dns]
nameservers = ["{resolver}"]
trust_ad = "no"
[delivery]
port = {port}
allow_private_addresses = true
[notices]
postmaster = "postmaster@home.test"
"""


@dataclass
class Journey:
    """The sender's mailbox, a host with DSN and one without, and where Relay takes mail."""

    home: Sink
    reports: Sink
    silent: Sink
    submission: HostPort

    async def send(self, mail: str, *rcpts: str) -> None:
        async with await Client.connect(self.submission.host, self.submission.port) as client:
            assert "250-DSN" in await client.hello()
            for line in (mail, *rcpts):
                assert (await client.ask(line)).startswith("250 "), line
            assert (await client.ask("DATA")).startswith("354 ")
            assert (await client.ask("Subject: a journey\r\n\r\nHello.\r\n.")).startswith("250 2.0.0 ")

    async def notices(self, count: int) -> list[Dsn]:
        received = await self.home.wait_for(count)
        assert all(one.sender == "" for one in received)
        return [parse_dsn(one.octets.partition(b"\r\n.\r\n")[0]) for one in received]


@asynccontextmanager
async def journey(folder: Path) -> AsyncIterator[Journey]:
    home, reports, silent = Sink(), Sink(), Sink(SinkScript(extensions=WITHOUT_DSN))
    zones = Zones({})
    resolver = await zones.start()
    port = (await home.start("127.3.0.1")).port
    await reports.start("127.3.0.2", port)
    await silent.start("127.3.0.3", port)
    for name, address in (("home", "127.3.0.1"), ("reports", "127.3.0.2"), ("silent", "127.3.0.3")):
        zones.set(f"{name}.test", Zone(f"@ MX 10 mx\nmx A {address}", Security.UNSIGNED))
    settings = folder / "relay.toml"
    settings.write_text(SETTINGS.format(folder=folder, resolver=resolver, port=port))
    events: list[Event] = []
    app = App(load(settings, {}), folder / "state", "relay.home.test", utc_now, events.append)
    try:
        submission = (await app.start())[0]
        yield Journey(home, reports, silent, submission)
    finally:
        await app.stop()
        for stop in (home.stop, reports.stop, silent.stop, zones.stop):
            await stop()
    assert [event for event in events if event.level == "error"] == []


async def test_success_is_told_where_the_next_host_does_not_report(tmp_path: Path) -> None:
    async with journey(tmp_path) as at:
        await at.send(
            "MAIL FROM:<s@home.test> RET=FULL ENVID=QQ+2B1",
            "RCPT TO:<bob@silent.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bobby+2Bx@silent.test",
        )
        (arrived,) = await at.silent.wait_for(1)
        assert not any(word.startswith(("RET", "ENVID")) for word in arrived.mail_parameters)
        assert arrived.rcpt_parameters == ((),)
        (notice,) = await at.notices(1)
        assert notice.message["Original-Envelope-Id"] == "QQ+1"
        (bob,) = notice.recipients
        assert (bob["Action"], bob["Status"]) == ("relayed", "2.0.0")
        assert bob["Original-Recipient"] == "rfc822; bobby+x@silent.test"
        assert bob["Remote-MTA"] == "dns; mx.silent.test"
        assert b"Subject: a journey" in notice.returned
        assert b"Hello." not in notice.returned


async def test_what_was_asked_goes_on_to_a_host_that_reports(tmp_path: Path) -> None:
    """And a failure there is told by us, whole as it was asked for."""
    async with journey(tmp_path) as at:
        at.reports.play(SinkScript(rcpt={"no@reports.test": ("550 5.1.1 who?",)}))
        await at.send(
            "MAIL FROM:<s@home.test> ret=full ENVID=QQ+2B1",
            "RCPT TO:<yes@reports.test> notify=success,delay ORCPT=rfc822;old+2Bone@reports.test",
            "RCPT TO:<never@reports.test> NOTIFY=NEVER",
            "RCPT TO:<no@reports.test>",
        )
        (arrived,) = await at.reports.wait_for(1)
        assert {"RET=FULL", "ENVID=QQ+2B1"} <= set(arrived.mail_parameters)
        assert arrived.recipients == ("yes@reports.test", "never@reports.test")
        yes, never = arrived.rcpt_parameters
        assert {word.upper() if word.startswith("NOTIFY") else word for word in yes} == {
            "NOTIFY=SUCCESS,DELAY",
            "ORCPT=rfc822;old+2Bone@reports.test",
        }
        assert "NOTIFY=NEVER" in never
        (notice,) = await at.notices(1)
        assert [one["Final-Recipient"] for one in notice.recipients] == ["rfc822; no@reports.test"]
        assert notice.returned_type == "message/rfc822"
        assert notice.returned.endswith(b"\r\nSubject: a journey\r\n\r\nHello.\r\n")
        assert "NOTIFY=NEVER" in at.home.received[0].rcpt_parameters[0]


async def test_a_time_that_the_next_host_does_not_know_is_told_of(tmp_path: Path) -> None:
    """RFC 2852 sections 4.1.4.1 and 4.1.4.2: it goes there when its sender only wants to hear, else it comes back."""
    async with journey(tmp_path) as at:
        await at.send("MAIL FROM:<s@home.test> BY=600;N", "RCPT TO:<bob@reports.test>")
        (arrived,) = await at.reports.wait_for(1)
        assert "NOTIFY=FAILURE,DELAY" in arrived.rcpt_parameters[0]
        (relayed,) = await at.notices(1)
        assert (relayed.recipients[0]["Action"], "Deliver-By-Date" in relayed.message) == ("relayed", True)
        await at.send("MAIL FROM:<s@home.test> BY=600;R", "RCPT TO:<bob@reports.test>")
        _, failed = await at.notices(2)
        assert (failed.recipients[0]["Action"], failed.recipients[0]["Status"]) == ("failed", "5.3.3")
        assert "you, by sending it without a time by which it must come back (DELIVERBY)" in failed.words
        assert len(at.reports.received) == 1


async def test_a_bounce_that_nobody_takes_ends_with_the_postmaster(tmp_path: Path) -> None:
    async with journey(tmp_path) as at:
        at.reports.play(SinkScript(rcpt={"*": ("550 5.1.1 nobody of that name",)}))
        await at.send("MAIL FROM:<ghost@reports.test>", "RCPT TO:<no@reports.test>")
        (notice,) = await at.notices(1)
        assert at.home.received[0].recipients == ("postmaster@home.test",)
        assert notice.recipients[0]["Final-Recipient"] == "rfc822; ghost@reports.test"
        assert b"Subject: Undeliverable: your message to no@reports.test" in notice.returned
