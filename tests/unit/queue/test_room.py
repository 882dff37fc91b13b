"""How often the disk is asked whether there is room."""

from pathlib import Path

from relay.queue.room import ASK_EVERY_OCTETS, Room


def test_the_disk_is_asked_at_first_and_then_for_each_so_many_octets(tmp_path: Path) -> None:
    asked: list[int] = []
    room = Room(tmp_path)
    for number in range(10):
        room.check(ASK_EVERY_OCTETS // 4, lambda number=number: asked.append(number) or 0)  # type: ignore[misc]
    assert asked == [0, 4, 8]
    room.check(ASK_EVERY_OCTETS, lambda: asked.append(10) or 0)  # type: ignore[func-returns-value]
    assert asked[-1] == 10
