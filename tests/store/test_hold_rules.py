"""Rules for mail to come: whether one fits, and that they are kept as they were made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.mail.address import parse_address
from relay.mail.message import NewMessage
from relay.mail.outcome import State
from relay.queue import visitor
from relay.queue.hold_rules import HoldRule
from relay.queue.pattern import parse_domain_pattern, parse_pattern
from relay.queue.sqlite import SqliteStore
from relay.queue.visitor import open_reader

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def rule(sender: str = "", recipient: str = "", domain: str = "", login: str = "") -> HoldRule:
    return HoldRule(
        parse_pattern(sender) if sender else None,
        parse_pattern(recipient) if recipient else None,
        parse_domain_pattern(domain) if domain else None,
        login or None,
        "under attack",
        NOW,
    )


@pytest.mark.parametrize(
    ("made", "sender", "login", "recipient", "holds"),
    [
        (rule(sender="@bad.example"), "x@bad.example", None, "a@example.org", True),
        (rule(sender="@bad.example"), "x@good.example", None, "a@example.org", False),
        (rule(sender="@bad.example"), None, None, "a@example.org", False),
        (rule(sender="<>"), None, None, "a@example.org", True),
        (rule(recipient="A@example.org"), "x@bad.example", None, "a@EXAMPLE.org", True),
        (rule(recipient="a@example.org"), "x@bad.example", None, "b@example.org", False),
        (rule(domain="*.example.org"), "x@bad.example", None, "a@sub.example.org", True),
        (rule(domain="example.org"), "x@bad.example", None, "a@sub.example.org", False),
        (rule(login="jo"), "x@bad.example", "jo", "a@example.org", True),
        (rule(login="jo"), "x@bad.example", None, "a@example.org", False),
        (rule(sender="@bad.example", domain="example.org"), "x@bad.example", None, "a@example.org", True),
        (rule(sender="@bad.example", domain="example.org"), "x@bad.example", None, "a@example.net", False),
        (rule(sender="@bad.example", login="jo"), "x@bad.example", "ann", "a@example.net", False),
    ],
)
def test_all_that_is_given_must_fit(
    made: HoldRule, sender: str | None, login: str | None, recipient: str, holds: bool
) -> None:
    from_ = None if sender is None else parse_address(sender.encode())
    assert made.holds(from_, login, parse_address(recipient.encode())) is holds


def test_a_rule_for_everything_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs a sender"):
        rule()


RULES = [
    rule("<>", "*@*.example.org", "*", "jo"),
    rule("jo*@bücher.example"),
    rule(recipient="postmaster"),
    rule(domain="example.org"),
]


@pytest.mark.asyncio
async def test_rules_are_kept_until_they_are_removed(store: SqliteStore) -> None:
    numbers = [await store.controls.add_hold_rule(made) for made in RULES]
    found = await store.controls.hold_rules()
    assert found == tuple(replace(made, id=number) for made, number in zip(RULES, numbers, strict=True))
    assert await store.controls.remove_hold_rule(numbers[1]) is True
    assert await store.controls.remove_hold_rule(numbers[1]) is False
    assert [one.id for one in await store.controls.hold_rules()] == [numbers[0], *numbers[2:]]
    assert found[0].hold == f"hold rule {numbers[0]}: under attack"


@pytest.mark.asyncio
async def test_another_process_makes_rules_too(store: SqliteStore, folder: Path) -> None:
    number = visitor.add_hold_rule(folder, RULES[3])
    assert await store.controls.hold_rules() == (replace(RULES[3], id=number),)
    reader = open_reader(folder)
    assert len(reader.hold_rules()) == 1
    reader.close()
    assert visitor.remove_hold_rule(folder, number) is True
    assert await store.controls.hold_rules() == ()


@pytest.mark.asyncio
@pytest.mark.parametrize("claimed", [False, True])
async def test_new_mail_is_held_recipient_by_recipient(
    store: SqliteStore, message: Callable[..., NewMessage], claimed: bool
) -> None:
    await store.controls.add_hold_rule(rule(domain="example.org"))
    put = message(1, "a@example.org", "b@example.net")
    if claimed:
        destinations = ("example.org", "example.net")
        assert await store.put_claimed(put, NOW + timedelta(minutes=30), destinations) == ()
        async with asyncio.timeout(5):
            await store.wait(None, NOW)  # the worker is told that there is mail
    else:
        await store.put((put,))
    held, free = await store.find(None, history=False)
    assert (held.state, held.hold, held.next_attempt) == (State.HELD, "hold rule 1: under attack", None)
    assert (free.state, free.hold) == (State.QUEUED, None)
    (claim,) = await store.claim(10, timedelta(minutes=30), NOW, {}, 100)
    assert claim.destination == "example.net"


@pytest.mark.asyncio
async def test_what_no_rule_holds_is_claimed_at_once(store: SqliteStore, message: Callable[..., NewMessage]) -> None:
    await store.controls.add_hold_rule(rule(domain="example.net"))
    claims = await store.put_claimed(message(1, "a@example.org"), NOW + timedelta(minutes=30), ("example.org",))
    assert [claim.destination for claim in claims] == ["example.org"]


@pytest.mark.asyncio
async def test_a_rule_of_another_process_holds_the_next_message(
    store: SqliteStore, folder: Path, message: Callable[..., NewMessage]
) -> None:
    async def claimed(number: int) -> int:
        put = message(number, "a@example.org")
        return len(await store.put_claimed(put, NOW + timedelta(minutes=30), ("example.org",)))

    assert await claimed(1) == 1
    made = visitor.add_hold_rule(folder, rule(domain="example.org"))
    assert await claimed(2) == 0
    visitor.remove_hold_rule(folder, made)
    assert await claimed(3) == 1


@pytest.mark.asyncio
async def test_a_rule_from_before_the_start_holds_the_first_message(
    store: SqliteStore,
    reopen: Callable[[SqliteStore, datetime], Awaitable[SqliteStore]],
    message: Callable[..., NewMessage],
) -> None:
    await store.controls.add_hold_rule(rule(domain="example.org"))
    again = await reopen(store, NOW)
    assert await again.put_claimed(message(1, "a@example.org"), NOW + timedelta(minutes=30), ("example.org",)) == ()
