"""`relay trace` as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.mail.message import MessageId, NewMessage
from relay.queue.sqlite import SqliteStore

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def relay_trace(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = folder.parent / "relay.toml"
    settings.write_text(f'hostname = "relay.test"\n[queue]\npath = "{folder}"\n')
    return subprocess.run(
        [sys.executable, "-m", "relay", "trace", "--config", str(settings), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.asyncio
async def test_a_message_is_shown_while_the_service_has_the_queue(
    store: SqliteStore, message: Callable[[int], NewMessage], folder: Path
) -> None:
    await store.put((message(1), replace(message(2), message_id="1@sender.example")))
    page = relay_trace(folder, str(MessageId(1)))
    assert (page.returncode, page.stderr) == (0, "")
    assert page.stdout.startswith("0000000000001  from@sender.example -> to@example.org\n")
    both = relay_trace(folder, "<1@sender.example>", "--json")
    assert [one["id"] for one in json.loads(both.stdout)] == ["0000000000001", "0000000000002"]


@pytest.mark.asyncio
async def test_what_is_not_kept_is_told_in_one_line(store: SqliteStore, folder: Path) -> None:
    await store.close()
    found = relay_trace(folder, "nobody@sender.example")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == "relay: no message with the queue id or Message-ID nobody@sender.example is kept\n"


def test_without_a_queue_it_cannot_be_asked(folder: Path) -> None:
    found = relay_trace(folder, "x")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == f"relay: there is no queue in {folder}\n"
