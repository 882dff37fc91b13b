"""Logins of routes: on a proven session only, no mail lost for want of one, and told of once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from attempt_world import DOWN, World, connections, in_words, make_claim, world

from relay.delivery.attempt import Attempt
from relay.delivery.credentials import Login
from relay.events import LoginRefused, LoginWorks
from relay.lab.certs import Leaf
from relay.lab.sink import Break, SinkScript, Stage
from relay.mail.outcome import Cause, Deferred
from relay.policy.override import OverrideLevel
from relay.policy.routing import Entry, Hop, Place, Routes

USER, PASSWORD = "relay@a.test", "correct horse"
HOST, OTHER = "mx1.smart.test", "mx2.smart.test"
ASKS = SinkScript(users={USER: PASSWORD}, tls_extensions=("AUTH PLAIN LOGIN",))


def by(*hosts: str, tls: OverrideLevel = OverrideLevel.VERIFY, user: str | None = USER) -> Callable[[int], Routes]:
    def made(port: int) -> Routes:
        places = tuple(Place(host, port) for host in hosts)
        return Routes((Entry("smart", Hop("smart", places, tls=tls, user=user), ("*",)),))

    return made


def login(folder: Path, password: str = PASSWORD) -> dict[str, Login]:
    (folder / "password").write_text(f"{password}\n")
    return {"smart": Login(USER, "[[route]] smart", folder / "password")}


def told(there: World) -> list[str]:
    return [event.name for event in there.events if isinstance(event, LoginRefused | LoginWorks)]


@pytest.mark.asyncio
async def test_it_logs_in_once_for_a_session(tmp_path: Path) -> None:
    async with world(routes=by(HOST), logins=login(tmp_path)) as there:
        (sink,) = await there.domain("smart.test", ASKS, leaf=Leaf.GOOD)
        for _ in range(2):
            assert await there.send("b@a.test") == [f"delivered 2.0.0 {HOST} verified"]
        assert [mail.user for mail in sink.received] == [USER, USER]
        assert (sink.sessions.connections, told(there)) == (1, [])


@pytest.mark.asyncio
@pytest.mark.parametrize("leaf", [None, Leaf.SELF_SIGNED, Leaf.EXPIRED])
async def test_the_password_is_not_shown_to_a_host_that_proves_nothing(leaf: Leaf | None, tmp_path: Path) -> None:
    script = replace(ASKS, extensions=("PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN"))
    async with world(routes=by(HOST), logins=login(tmp_path)) as there:
        (sink,) = await there.domain("smart.test", script, leaf=leaf)
        claim = replace(make_claim("b@a.test"), destination="route:smart")
        attempted = await Attempt(claim, there.tools).run()
        assert in_words(attempted.outcomes[0]).startswith("deferred 4.7.")
        said = [line for host in attempted.record.tried for line in host.dialogue]
        assert any("> EHLO" in line for line in said) and not any("> AUTH" in line for line in said)
        assert (sink.received, told(there)) == ([], [])


@pytest.mark.asyncio
async def test_the_same_password_is_not_tried_elsewhere(tmp_path: Path) -> None:
    """Mail waits; the log has it once, and again when something else is wrong or it works."""
    async with world(routes=by(HOST, OTHER), logins=login(tmp_path, "wrong")) as there:
        made = await there.domain("smart.test", ASKS, ASKS, leaf=Leaf.GOOD)
        for _ in range(2):
            (outcome,) = await there.attempt(make_claim("b@a.test"))
            assert isinstance(outcome, Deferred)
            assert (str(outcome.status), outcome.cause, outcome.host) == ("4.7.8", Cause.LOGIN, HOST)
            assert outcome.reply is not None and outcome.reply.code == 535
        assert (connections(made), told(there)) == ([2, 0], ["login-failed"])
        (event,) = (event for event in there.events if isinstance(event, LoginRefused))
        assert (event.route, event.host, event.user) == ("smart", HOST, USER)
        assert "wrong" not in f"{event.reason} {event.reply}".replace("wrong name or password", "")
        (tmp_path / "password").unlink()
        await there.attempt(make_claim("b@a.test"))
        assert told(there) == ["login-failed"] * 2
        login(tmp_path)
        for _ in range(2):
            assert await there.send("b@a.test") == [f"delivered 2.0.0 {HOST} verified"]
        assert told(there) == ["login-failed", "login-failed", "login-works"]


@pytest.mark.asyncio
async def test_a_file_that_is_not_there_keeps_the_mail(tmp_path: Path) -> None:
    logins = {"smart": Login(USER, "[[route]] smart", tmp_path / "nothing")}
    async with world(routes=by(HOST, OTHER), logins=logins) as there:
        made = await there.domain("smart.test", ASKS, ASKS, leaf=Leaf.GOOD)
        (outcome,) = await there.attempt(make_claim("b@a.test"))
        assert isinstance(outcome, Deferred)
        assert (str(outcome.status), outcome.cause) == ("4.7.8", Cause.LOGIN)
        assert outcome.reason.startswith("password_file of [[route]] smart: ")
        assert connections(made) == [1, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "first",
    [DOWN, replace(ASKS, breaks=(Break(Stage.AUTH),)), replace(ASKS, auth=("454 4.7.0 later",))],
    ids=["down", "lost in AUTH", "454"],
)
async def test_the_next_host_is_asked_when_the_first_is_gone_or_puts_us_off(
    first: SinkScript | None, tmp_path: Path
) -> None:
    async with world(routes=by(HOST, OTHER), logins=login(tmp_path)) as there:
        made = await there.domain("smart.test", first, ASKS, leaf=Leaf.GOOD)
        assert await there.send("b@a.test") == [f"delivered 2.0.0 {OTHER} verified"]
        assert [mail.user for mail in made[1].received] == [USER]
        assert told(there) == (["login-failed"] if first is not None and first.auth else [])


@pytest.mark.asyncio
async def test_a_host_that_wants_a_login_from_a_route_without_one_costs_no_mail() -> None:
    async with world(routes=by(HOST, tls=OverrideLevel.ENCRYPT, user=None)) as there:
        (sink,) = await there.domain("smart.test", ASKS, leaf=Leaf.GOOD)
        (outcome,) = await there.attempt(make_claim("b@a.test"))
        assert isinstance(outcome, Deferred)
        assert (str(outcome.status), outcome.cause) == ("4.7.0", Cause.LOGIN)
        assert outcome.reason == f"{HOST} wants a login, or another one, from the route smart"
        assert sink.received == []


@pytest.mark.asyncio
async def test_a_session_that_is_logged_in_serves_its_route_alone(tmp_path: Path) -> None:
    """Not mail that goes to the same host in another way, and not another route with another name."""

    def made(port: int) -> Routes:
        place = (Place(HOST, port),)
        entries = [Entry("open", Hop("open", place, tls=OverrideLevel.VERIFY), ("open.test",))]
        for name in ("smart", "second"):
            hop = Hop(name, place, tls=OverrideLevel.VERIFY, user=f"{name}@a.test")
            entries.append(Entry(name, hop, (f"{name}.test",)))
        return Routes(tuple(entries))

    (tmp_path / "password").write_text(PASSWORD)
    logins = {name: Login(f"{name}@a.test", name, tmp_path / "password") for name in ("smart", "second")}
    script = replace(ASKS, users={f"{name}@a.test": PASSWORD for name in logins})
    async with world(routes=made, logins=logins) as there:
        (sink,) = await there.domain("smart.test", script, leaf=Leaf.GOOD)
        for domain in ("smart.test", "second.test", "smart.test", "open.test"):
            await there.send(f"b@{domain}")
        assert [mail.user for mail in sink.received] == ["smart@a.test", "second@a.test", "smart@a.test"]
        assert sink.sessions.connections == 3


@pytest.mark.asyncio
async def test_a_token_is_read_at_each_login(tmp_path: Path) -> None:
    token = tmp_path / "token"
    script = SinkScript(users={USER: "second"}, tls_extensions=("AUTH XOAUTH2",))
    logins = {"smart": Login(USER, "[[route]] smart", token_file=token)}
    async with world(routes=by(HOST), logins=logins) as there:
        await there.domain("smart.test", script, leaf=Leaf.GOOD)
        for text, state in (
            ("first", f"deferred 4.7.8 {HOST} verified"),
            ("second", f"delivered 2.0.0 {HOST} verified"),
        ):
            token.write_text(text)
            assert await there.send("b@a.test") == [state]
