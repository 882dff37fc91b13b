"""The files of the keys that sign: noticed when they change, and a bad new one leaves the old key in force."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.files import Stamp, file_stamp
from relay.signing.keys import KeyTable, SigningKey, load_key, load_keys
from relay.signing_settings import DkimKeySettings


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of files that had changed: keys that are new, and what is wrong with others."""

    renewed: list[SigningKey] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class KeyFiles:
    """The keys of all tables [[dkim_key]]. `table` is replaced when one of them has changed."""

    def __init__(self, given: Iterable[DkimKeySettings]) -> None:
        """Read them. Raises ValueError, naming the key, its file and what is wrong with it."""
        self._given = tuple(given)
        self._stamps: list[Stamp | None] = [file_stamp(one.key_file) for one in self._given]
        self.table, unusable = load_keys(self._given)
        if unusable:
            raise ValueError(str(unusable[0]))
        self._keys = list(self.table.all)

    def refresh(self) -> Changes:
        """Read those again that have changed. What is wrong with a new one is told once for each change."""
        changes = Changes()
        for number, one in enumerate(self._given):
            stamp = file_stamp(one.key_file)
            if stamp == self._stamps[number]:
                continue
            self._stamps[number] = stamp
            key = load_key(one)
            if not isinstance(key, SigningKey):
                changes.problems.append(str(key))
            elif key != self._keys[number]:
                self._keys[number] = key
                changes.renewed.append(key)
        if changes.renewed:
            self.table = KeyTable(self._keys)
        return changes
