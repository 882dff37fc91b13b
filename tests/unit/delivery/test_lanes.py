"""The destinations that have mail under way: what each can be given, and which are forgotten."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.delivery.lanes import IDLE_KEPT, Lane, Lanes, Rooms
from relay.delivery.pace import Sign
from relay.mail.address import parse_address
from relay.mail.message import Claim, InlineBody, MessageId, Recipient
from relay.policy.limits import DestinationLimits, LimitEntry

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NOBODY = frozenset[str]()


def claim(destination: str) -> Claim:
    to = (Recipient(0, parse_address(b"b@a.test"), attempts=1),)
    return Claim(MessageId(1), None, destination, to, InlineBody(b""), NOON, 1, NOON + MINUTE)


@pytest.mark.parametrize(
    ("under_way", "limits", "expected"),
    [
        ({}, {}, 10),
        ({"running": 3, "waiting": 2, "promised": 1}, {}, 4),
        ({"running": 5, "waiting": 5}, {}, 0),
        ({"running": 50}, {}, 0),
        ({}, {"at_once": 1}, 2),
        ({}, {"per_minute": 1}, 1),
        ({}, {"per_minute": 180}, 3),
        ({"waiting": 1}, {"per_minute": 180}, 2),
        ({"promised": 3}, {"per_minute": 180}, 0),
        ({"promised": 4}, {"per_minute": 180}, 0),
        ({"running": 8}, {"per_minute": 180}, 2),
        ({"resting_until": NOON + MINUTE}, {}, 0),
        ({"resting_until": NOON}, {}, 10),
    ],
)
def test_how_many_more_claims(under_way: dict[str, Any], limits: dict[str, int], expected: int) -> None:
    lane = Lanes(DestinationLimits(20, [LimitEntry(("*",), **limits)])).of("a.test")
    for name, value in under_way.items():
        setattr(lane, name, deque([claim("a.test")] * value) if name == "waiting" else value)
    assert lane.room(NOON) == expected


def test_after_a_rest_there_is_room_for_one() -> None:
    lane = Lanes(DestinationLimits(20)).of("a.test")
    for _ in range(3):
        lane.pace.learn(Sign.TROUBLE, NOON, NOON, 0.5)
    lane.resting_until = NOON + MINUTE
    assert (lane.room(NOON), lane.room(NOON + MINUTE)) == (0, 1)
    lane.running = 1
    assert lane.room(NOON + MINUTE) == 0


def test_what_a_claim_may_take() -> None:
    lanes = Lanes(DestinationLimits(20, [LimitEntry(("slow.test",), at_once=1), LimitEntry(("*",), per_minute=240)]))
    lanes.of("slow.test")
    lanes.of("full.test").promised = 10
    lanes.rest(lanes.of("down.test"), NOON + MINUTE, NOON)
    rooms = lanes.rooms(NOON)
    assert rooms == Rooms({"slow.test": 2, "full.test": 0}, 4, frozenset({"down.test"}))
    assert rooms.full == ["full.test"]
    assert lanes.rooms(NOON + MINUTE).known["down.test"] == 4


@pytest.mark.parametrize(
    ("rooms", "taken", "left"),
    [
        (Rooms({"a.test": 3}, 5, NOBODY), 3, True),
        (Rooms({"a.test": 3}, 5, NOBODY), 2, False),
        (Rooms({"a.test": 0}, 5, NOBODY), 0, True),
        (Rooms({}, 5, NOBODY), 5, True),
        (Rooms({}, 5, NOBODY), 4, False),
        (Rooms({}, 5, frozenset({"a.test"})), 0, True),
    ],
)
def test_whether_something_is_left_on_disk(rooms: Rooms, taken: int, left: bool) -> None:
    lanes = Lanes(DestinationLimits(20))
    lanes.stored.add("a.test")
    lanes.emptied(rooms, [claim("a.test")] * taken)
    assert ("a.test" in lanes.stored) is left


def test_what_comes_in_goes_behind_what_is_stored() -> None:
    lanes = Lanes(DestinationLimits(20))
    assert lanes.take("a.test", NOON)
    assert list(lanes) == []  # asking makes none
    lanes.of("a.test").promised = 10
    assert not lanes.take("a.test", NOON)
    lanes.of("a.test").promised = 9
    assert lanes.take("a.test", NOON)
    lanes.stored.add("a.test")
    assert not lanes.take("a.test", NOON)
    lanes.of("a.test").promised = 5
    assert not lanes.take("a.test", NOON)
    lanes.of("a.test").promised = 4  # one of five deliverers has nothing to do
    assert lanes.take("a.test", NOON)
    lanes.stored.add("b.test")  # nothing is under way there: it is about to be claimed
    assert not lanes.take("b.test", NOON)


def test_claims_come_together_and_new_mail_does_not_keep_them_away() -> None:
    lanes = Lanes(DestinationLimits(20))
    lane = lanes.of("a.test")
    lane.waiting.extend([claim("a.test")] * 3)  # of five that may run at once: more than half of what may wait
    assert lane.claims_wanted(NOON) == 0
    lane.waiting.pop()
    assert lane.claims_wanted(NOON) == 8
    lane.promised = 4  # mail on its way in takes room, but the queue is asked all the same
    assert lane.claims_wanted(NOON) == 4


def busy(lane: Lane) -> None:
    lane.running = lane.deliverers = 1


def rests(lane: Lane) -> None:
    lane.resting_until = NOON + MINUTE


def has_failed(lane: Lane) -> None:
    lane.pace.learn(Sign.TROUBLE, NOON, NOON, 0.5)


def test_nothing_learned_is_nothing_kept() -> None:
    lanes = Lanes(DestinationLimits(20))
    lane = lanes.of("a.test")
    busy(lane)
    lanes.idle(lane)
    assert list(lanes) == [lane]
    lane.running = lane.deliverers = 0
    lanes.idle(lane)
    assert list(lanes) == []
    lanes.idle(lane)
    other = lanes.of("a.test")
    has_failed(other)
    lanes.idle(other)
    lanes.idle(lane)  # an old one of that name
    assert list(lanes) == [other]


def test_of_many_the_longest_idle_are_forgotten() -> None:
    """But none that has mail under way, that rests, or whose rate has been used."""
    lanes = Lanes(DestinationLimits(20, [LimitEntry(("rate.test",), per_minute=1)]))
    busy(lanes.of("busy.test"))
    rests(lanes.of("down.test"))
    lanes.of("rate.test").pace.begun()
    for number in range(2 * IDLE_KEPT):
        has_failed(lanes.of(f"{number}.test"))
    lanes.idle(lanes.of("0.test"))  # just now
    lanes.rooms(NOON)
    names = {lane.destination for lane in lanes}
    assert len(names) == IDLE_KEPT + 3
    assert {"busy.test", "down.test", "rate.test", "0.test", f"{2 * IDLE_KEPT - 1}.test"} <= names
    assert "1.test" not in names
    for number in range(IDLE_KEPT + 10):
        has_failed(lanes.of(f"again{number}.test"))
    lanes.rooms(NOON + 2 * MINUTE)
    assert "rate.test" not in {lane.destination for lane in lanes}


def test_when_a_rate_allows_the_next() -> None:
    lanes = Lanes(
        DestinationLimits(20, [LimitEntry(("one.test",), per_minute=1), LimitEntry(("two.test",), per_minute=2)])
    )
    assert lanes.next_begin(NOON) is None
    for name in ("one.test", "two.test", "other.test"):
        lanes.of(name)
    assert lanes.next_begin(NOON) is None
    lanes.of("one.test").pace.begun()
    assert lanes.next_begin(NOON) == NOON + MINUTE
    lanes.of("two.test").pace.begun()
    assert lanes.next_begin(NOON) == NOON + MINUTE / 2
