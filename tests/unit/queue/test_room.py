"""How often the disk is asked whether there is room."""

from collections.abc import Callable
from pathlib import Path

from relay.queue.room import ASK_EVERY_OCTETS, Room


def test_the_disk_is_asked_at_first_and_then_for_each_so_many_octets(tmp_path: Path) -> None:
    asked: list[int] = []

    def spare(number: int) -> Callable[[], int]:
        def note() -> int:
            asked.append(number)
            return 0

        return note

    room = Room(tmp_path)
    for number in range(10):
        room.check(ASK_EVERY_OCTETS // 4, spare(number))
    assert asked == [0, 4, 8]
    room.check(ASK_EVERY_OCTETS, spare(10))
    assert asked == [0, 4, 8, 10]
