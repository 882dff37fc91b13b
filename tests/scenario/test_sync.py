"""What is on disk before what is said, as the kernel sees it: the order of system calls, by strace."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from service import Service, numbered, submit

from relay.lab.sink import Sink

CALLS = "write,pwrite64,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,sendto,writev,sendmsg"
SETTINGS = """[delivery]
next_hop = "127.0.0.1:{port}"
allow_private_addresses = true
[dns]
trust_ad = "no"
"""
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\()(?P<rest>.*)")


@dataclass(frozen=True)
class Call:
    """A system call: where in the order it began and ended, and what it was about."""

    name: str
    text: str
    began: int
    ended: int


def calls_of(log: Path) -> Iterator[Call]:
    """In the order in which they ended."""
    under_way: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(log.read_text(errors="replace").splitlines()):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, rest = found[1], found["rest"]
        if found["resumed"]:
            text, began = under_way.pop(thread, ("", number))
            yield Call(found["resumed"], text + rest, began, number)
        elif rest.endswith("<unfinished ...>"):
            under_way[thread] = rest, number
        else:
            yield Call(found["name"], rest, number, number)


class Record:
    def __init__(self, log: Path) -> None:
        self.calls = list(calls_of(log))

    def one(self, name: str, *words: str) -> Call:
        """The only call whose name begins so and whose text has all of these words."""
        (found,) = self.all(name, *words)
        return found

    def all(self, name: str, *words: str) -> list[Call]:
        return [one for one in self.calls if re.match(name, one.name) and all(word in one.text for word in words)]

    def synced_between(self, first: int, last: int) -> bool:
        """Whether the log was written and then flushed, all of it between these two."""
        written = [one for one in self.all("pwrite64", "queue.db-wal") if first < one.began and one.ended < last]
        flushed = [one for one in self.all("fdatasync|fsync", "queue.db-wal") if first < one.began and one.ended < last]
        return (
            bool(written) and any(one.began > written[0].ended for one in flushed) and self._none_after(written, last)
        )

    def _none_after(self, written: list[Call], last: int) -> bool:
        """What was written last was flushed too."""
        flushes = [one.began for one in self.all("fdatasync|fsync", "queue.db-wal") if one.ended < last]
        return max(one.ended for one in written) < max(flushes)


async def record(folder: Path, lines: int) -> Record:
    """One message comes and goes under strace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs Debian's strace")
    log = folder / "calls"
    under = (strace, "-f", "-y", "-s", "80", "-o", str(log), "-e", f"trace={CALLS}")
    sink = Sink()
    service = Service(folder, SETTINGS.format(port=(await sink.start()).port), under)
    await service.start()
    assert (await submit(service.port, numbered(1, lines))).startswith(b"250")
    await sink.wait_for(1, 30)
    assert await service.stop() == 0
    await sink.stop()
    return Record(log)


@pytest.mark.strace
@pytest.mark.asyncio
@pytest.mark.parametrize("lines", [1, 20_000], ids=["small", "large"])
async def test_the_log_is_flushed_before_the_250(lines: int, tmp_path: Path) -> None:
    seen = await record(tmp_path, lines)
    asked, said = seen.one("send|write", "354 End data"), seen.one("send|write", "250 2.0.0 queued as")
    assert seen.synced_between(asked.ended, said.began)
    if lines == 1:
        return
    # The file is whole and has its name, for ever, before the message is in the database.
    (renamed,) = seen.all("rename", "incoming/", "bodies/")
    (file,) = seen.all("fdatasync", "incoming/")
    folders = [one for one in seen.all("fsync", "/bodies>") if one.began > renamed.ended]
    assert file.ended < renamed.began
    assert seen.synced_between(folders[0].ended, said.began)
    # It goes only after it was written down, for ever, that the message has left.
    gone = seen.one("unlink", "state/bodies/")
    last = max(one.ended for one in seen.all("send|write", "\\r\\n.\\r\\n") or [said] if one.ended < gone.began)
    assert seen.synced_between(last, gone.began)
