"""What a client asks of time and rank comes into the queue, if it may ask. RFC 4865, RFC 2852, RFC 6710, RFC 9422."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from submission_peer import NOW, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import MessageAccepted
from relay.mail.message import DeliverBy
from relay.submission.users import Users
from relay.submission.users_file import add_user

pytestmark = pytest.mark.asyncio

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def send(client: Client, parameters: str) -> str:
    assert (await client.ask(f"MAIL FROM:<a@example.test> {parameters}")).startswith("250 2.1.0 ")
    assert (await client.ask("RCPT TO:<b@example.test>")).startswith("250 2.1.5 ")
    assert (await client.ask("DATA")).startswith("354 ")
    return await client.ask("x\r\n.")


async def due(server: Running) -> object:
    return await server.queue.next_due((), NOW)


async def test_it_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        assert (await send(client, "HOLDFOR=3600 BY=86400;RT MT-PRIORITY=-7")).startswith("250 2.0.0 queued as ")
        assert await due(server) == NOW + HOUR
        (message,) = await server.stored()
        assert (message.claim.release, message.claim.release_asked) == (NOW + HOUR, "for;3600")
        assert message.claim.deliver_by == DeliverBy(NOW + DAY, returns=True, trace=True)
        assert message.claim.priority == -7
        assert b" priority -7;" in message.trace
        accepted = await server.event(MessageAccepted)
        assert isinstance(accepted, MessageAccepted)
        assert (accepted.release, accepted.priority) == (NOW + HOUR, -7)


async def test_the_next_message_asks_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        assert (await client.ask("MAIL FROM:<a@example.test> HOLDFOR=3600 MT-PRIORITY=9 BY=3600;N")).startswith("250 ")
        await client.ask("RSET")
        await send(client, "")
        (message,) = await server.stored()
        claim = message.claim
        assert (claim.release, claim.release_request, claim.priority, claim.deliver_by) == (None, None, 0, None)


async def test_a_refusal_ends_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_hold": HOUR})) as server, await server.connect() as client:
        assert "FUTURERELEASE 3600 2026-03-04T06:06:00Z" in await client.hello()
        for parameter, answer in (
            ("HOLDFOR=3601", "501 5.5.4 Mail is not held beyond 2026-03-04T06:06:07Z"),
            ("HOLDUNTIL=2026-03-04T06:06:08Z", "501 5.5.4 Mail is not held beyond 2026-03-04T06:06:07Z"),
            ("HOLDFOR=60 BY=59;N", "501 5.5.4 HOLDFOR or HOLDUNTIL goes beyond BY"),
            ("MT-PRIORITY=10", "501 5.5.4 MT-PRIORITY takes a number from -9 to 9"),
        ):
            assert (await client.ask(f"MAIL FROM:<a@example.test> {parameter}")).strip() == answer
        assert (await send(client, "HOLDUNTIL=2026-03-04T06:06:07Z")).startswith("250 2.0.0 ")
        assert await due(server) == NOW + HOUR


async def test_without_a_longest_time_nothing_is_held(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_hold": None})) as server, await server.connect() as client:
        assert "FUTURERELEASE" not in await client.hello()
        assert (await client.ask("MAIL FROM:<a@example.test> HOLDFOR=1")).startswith("555 5.5.4 ")
        assert (await send(client, "BY=60;N")).startswith("250 2.0.0 ")


async def test_nothing_of_it_after_helo(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.ask("HELO client.example.test")
        for parameter in ("HOLDFOR=60", "HOLDUNTIL=2027-01-01T00:00:00Z", "BY=60;N", "MT-PRIORITY=1"):
            assert (await client.ask(f"MAIL FROM:<a@example.test> {parameter}")).startswith("555 5.5.4 "), parameter


async def test_strangers_are_offered_no_storage(tmp_path: Path) -> None:
    """RFC 4865 section 6: to those who may send, and to those who can still log in."""
    add_user(tmp_path / "users", "alice", "secret", rounds=4096)
    wanted = Wanted(tls=lab_tls(), users=Users.load(tmp_path / "users"), loopback_trusted=False)
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        assert "FUTURERELEASE" not in await client.hello()
        assert (await client.ask("MAIL FROM:<a@example.test> HOLDFOR=60")).startswith("555 5.5.4 ")
        await client.start_tls(client_tls())
        assert "FUTURERELEASE" in await client.hello()
        assert (await client.ask("MAIL FROM:<a@example.test> HOLDFOR=60")).startswith("250 2.1.0 ")
        assert (await client.ask("RCPT TO:<b@example.test>")).startswith("530 5.7.0 ")
        await client.ask("RSET")
        assert (await client.ask("AUTH PLAIN AGFsaWNlAHNlY3JldA==")).startswith("235 ")
        assert (await send(client, "HOLDFOR=60")).startswith("250 2.0.0 ")
        assert await due(server) == NOW + timedelta(seconds=60)


async def test_the_limit_of_recipients_is_told(tmp_path: Path) -> None:
    """RFC 9422 section 4.2, in six digits."""
    for most, told in ((100, 100), (999_999, 999_999), (1_000_000, 999_999)):
        wanted = Wanted({"max_recipients": most})
        async with running(tmp_path / str(most), wanted) as server, await server.connect() as client:
            assert f"LIMITS RCPTMAX={told}" in await client.hello()
