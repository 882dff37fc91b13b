"""Idle sessions: which one is given out, and how each of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from smtp_peer import BODY, CLOSE, PATIENCE_SECONDS, RESET, STALL, Host, Peer, Step, host

from relay.delivery.opening import Target, open_session
from relay.delivery.pool import MAX_IDLE, MAX_MESSAGES, SessionKey, SessionPool
from relay.delivery.smtp import MailOptions, OpenSession
from relay.delivery.transaction import Timeouts
from relay.mail.outcome import TlsUsed
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule

KEY = SessionKey("mx.test", "127.0.0.1", 25, "ANY mx.test")
HELLO: tuple[Step, ...] = (b"220 mx.test\r\n", 1, b"250 mx.test\r\n")
BYE: tuple[Step, ...] = (1, b"221 bye\r\n", CLOSE)
HEARD_EHLO, HEARD_QUIT = b"EHLO relay.test\r\n", b"EHLO relay.test\r\nQUIT\r\n"


async def opened(mx: Host, quit_seconds: float = 10) -> OpenSession:
    target = Target("mx.test", "127.0.0.1", mx.port)
    session = await open_session(target, None, Source(hostname="relay.test"), Timeouts(quit_seconds=quit_seconds))
    assert isinstance(session, OpenSession), session
    return session


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not done():
            await asyncio.sleep(0)


async def heard(mx: Host) -> list[bytes]:
    """Everything that the host heard on each connection, when they are all over."""
    await mx.over()
    return [bytes(peer.heard) for peer in mx.peers]


@pytest.mark.asyncio
async def test_the_session_used_last_comes_first_and_each_once() -> None:
    """So that those that are not needed grow old and go."""
    async with host(*HELLO, *BYE) as mx:
        pool = SessionPool()
        sessions = [await opened(mx) for _ in range(3)]
        for session in sessions:
            pool.give(KEY, session)
        assert [pool.take(KEY) for _ in range(4)] == [sessions[2], sessions[1], sessions[0], None]
        pool.give(KEY, sessions[1])
        assert pool.take(KEY) is sessions[1]
        for session in sessions:
            await session.quit()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, host="mx2.test"),
        replace(KEY, address="127.0.0.2"),
        replace(KEY, port=26),
        replace(KEY, asked="AUTHENTICATED mx.test"),
    ],
)
async def test_another_key_gets_nothing(other: SessionKey) -> None:
    async with host(*HELLO, *BYE) as mx:
        pool = SessionPool()
        session = await opened(mx)
        pool.give(KEY, session)
        assert pool.take(other) is None
        assert pool.take(KEY) is session
        await session.quit()


@pytest.mark.asyncio
async def test_one_too_many_is_closed() -> None:
    async with host(*HELLO, *BYE) as mx:
        pool = SessionPool()
        sessions = [await opened(mx) for _ in range(MAX_IDLE + 1)]
        for session in sessions:
            pool.give(KEY, session)
        assert [session.reusable() for session in sessions] == [True] * MAX_IDLE + [False]
        pool.give(replace(KEY, port=26), extra := await opened(mx))  # the limit is for one key
        assert extra.reusable()
        await pool.close_all()
        assert await heard(mx) == [HEARD_QUIT] * (MAX_IDLE + 2)


@pytest.mark.asyncio
async def test_a_session_that_idles_too_long_is_closed() -> None:
    async with host(*HELLO, *BYE) as mx:
        pool = SessionPool(idle_seconds=0.05)
        session = await opened(mx)
        pool.give(KEY, session)
        assert await heard(mx) == [HEARD_QUIT]
        assert not session.reusable()
        assert pool.take(KEY) is None


@pytest.mark.asyncio
async def test_the_idle_time_counts_from_the_last_use() -> None:
    """A session that was taken in time is not closed under whoever uses it, nor by its earlier time."""
    mistakes: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(host(*HELLO, *BYE)) for _ in range(2)]
        pool = SessionPool(idle_seconds=0.05)
        used, idle = await opened(one), await opened(other)
        pool.give(KEY, used)
        assert pool.take(KEY) is used
        pool.give(KEY, idle)  # its time ends after that of the other would have ended
        assert await heard(other) == [HEARD_QUIT]
        assert used.reusable()
        assert mistakes == []  # such as a time that ends for a session that is no longer there
        await used.quit()


def when(event: asyncio.Event) -> Step:
    async def wait(_: Peer) -> None:
        await event.wait()

    return wait


SPOKEN: dict[str, tuple[Step, ...]] = {
    "close": (CLOSE,),
    "reset": (RESET,),
    "421 and close": (b"421 4.4.2 idle\r\n", CLOSE),
    "421": (b"421 4.4.2 idle\r\n",),
    "250": (b"250 2.0.0 for no reason\r\n",),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("then", SPOKEN.values(), ids=SPOKEN)
async def test_a_host_that_hung_up_or_spoke_meanwhile(then: tuple[Step, ...]) -> None:
    """Its session is not given out but closed; the one given in before it is good."""
    moved = asyncio.Event()
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(host(*HELLO, *BYE))
        gone = await stack.enter_async_context(host(*HELLO, when(moved), *then))
        pool = SessionPool()
        older, newer = await opened(good), await opened(gone)
        pool.give(KEY, older)
        pool.give(KEY, newer)
        moved.set()
        await until(lambda: not newer.reusable())
        assert pool.take(KEY) is older
        assert pool.take(KEY) is None
        assert await heard(gone) == [HEARD_EHLO]
        pool.give(KEY, newer)
        assert pool.take(KEY) is None
        await older.quit()


@pytest.mark.asyncio
async def test_a_session_has_an_end() -> None:
    """MAX_MESSAGES are sent over one session, and it is closed when it comes back from the last one."""
    message: tuple[Step, ...] = (1, b"250 ok\r\n", 1, b"250 ok\r\n", 1, b"354 go\r\n", BODY, b"250 kept\r\n")
    async with host(*HELLO, *message * 2, *BYE) as mx:
        pool = SessionPool()
        session = await opened(mx)
        session.messages = MAX_MESSAGES - 2  # as if so many had been sent
        for left in (1, 0):
            await _send(session)
            pool.give(KEY, session)
            assert (pool.take(KEY) is session) == bool(left)
        assert (await heard(mx))[0].endswith(b"\r\n.\r\nQUIT\r\n")


async def _send(session: OpenSession) -> None:
    async def octets() -> AsyncIterator[bytes]:
        yield b"x\r\n"

    await session.send(b"a@a.test", [b"b@b.test"], octets(), MailOptions(), Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC))


@pytest.mark.asyncio
async def test_close_all_says_goodbye_to_everybody() -> None:
    async with AsyncExitStack() as stack:
        hosts = [await stack.enter_async_context(host(*HELLO, *BYE)) for _ in range(3)]
        pool = SessionPool()
        for number, mx in enumerate(hosts):
            for _ in range(2):
                pool.give(replace(KEY, port=number), await opened(mx))
        await pool.close_all()
        for mx in hosts:
            assert await heard(mx) == [HEARD_QUIT] * 2
        assert [pool.take(replace(KEY, port=number)) for number in range(3)] == [None] * 3
        await pool.close_all()


@pytest.mark.asyncio
async def test_close_all_waits_for_the_answers_but_not_for_ever() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def note(_: Peer) -> None:
        asked.set()

    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(host(*HELLO, 1, note, when(answer), b"221 bye\r\n", CLOSE))
        silent = await stack.enter_async_context(host(*HELLO, STALL))
        pool = SessionPool()
        pool.give(KEY, await opened(slow))
        pool.give(KEY, await opened(silent, quit_seconds=0.05))
        closing = asyncio.create_task(pool.close_all())
        await asked.wait()
        await silent.over()
        assert not closing.done()
        answer.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await closing
        assert await heard(slow) == await heard(silent) == [HEARD_QUIT]
