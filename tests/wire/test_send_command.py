"""`relay send`: a message by hand, at a real server."""

from __future__ import annotations

import asyncio
import email
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from submission_peer import Running, running

from relay.send_command import send

pytestmark = pytest.mark.asyncio


async def sent(there: Running, folder: Path, *words: str, text: str | None = None) -> Result:
    config = folder / "relay.toml"
    config.write_text(f'hostname = "box.example.test"\n[submission]\nlisten = ["{there.addresses[0]}"]\n')
    return await asyncio.to_thread(CliRunner().invoke, send, [*words, "--config", str(config)], text)


async def test_all_of_a_message_and_its_id(tmp_path: Path) -> None:
    file = tmp_path / "a b.txt"
    file.write_text("file\n")
    words = ["--to", "Al <a@example.org>", "--to", "root", "--from", "me@example.org", "--header", "X-A: b: c", "-v"]
    async with running(tmp_path) as there:
        result = await sent(there, tmp_path, *words, "--attach", str(file), text="hellö\n")
        (stored,) = await there.stored()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    id = stored.claim.id
    assert lines[-1] == f"queued as {id}; what becomes of it: relay trace {id}"
    assert any(line.startswith("C: MAIL FROM:<me@example.org> SIZE=") for line in lines)
    assert stored.recipients == ("a@example.org", "root@box.example.test")
    message = email.message_from_bytes(stored.body)
    assert (message["To"], message["X-A"]) == ("Al <a@example.org>,\r\n root@box.example.test", "b: c")
    _, text, attached = message.walk()
    assert text.get_payload(decode=True) == "hellö\r\n".encode()
    assert attached.get_filename() == "a b.txt"


async def test_a_message_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "x.eml"
    file.write_bytes(b"Subject: x\nBcc: b@example.org\n\n.\n")
    async with running(tmp_path) as there:
        result = await sent(there, tmp_path, "--to", "a@example.org", "--from", "<>", "--data", str(file))
        (stored,) = await there.stored()
    assert result.exit_code == 0, result.output
    assert stored.claim.sender is None
    assert stored.body == b"Subject: x\r\nBcc: b@example.org\r\n\r\n.\r\n"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--to", "a@b@c"], 65, "relay: the local part 'a@b' is neither a dot-string nor a quoted string"),
        (["--to", "a@example.org", "--subject", "x\ny"], 65, "relay: must not have control characters or line ends"),
        (["--to", "a@example.org", "--header", "x"], 2, "Error: --header: must be a name, a colon and a value"),
        (["--to", "a@example.org", "--server", "x"], 2, "Error: --server: must be host:port"),
        (["--to", "a@example.org", "--data", "/none"], 2, "/none: cannot be read: No such file or directory"),
        (["--to", "a@example.org", "--server", "127.0.0.1:1"], 75, "relay: 127.0.0.1:1: Connection refused"),
    ],
)
async def test_mistakes(words: list[str], code: int, line: str, tmp_path: Path) -> None:
    async with running(tmp_path) as there:
        result = await sent(there, tmp_path, *words, text="")
        assert await there.stored() == []
    assert result.exit_code == code, result.output
    assert result.output.splitlines()[-1] == line


async def test_a_password_that_cannot_be_asked_for() -> None:
    command = [sys.executable, "-m", "relay", "send", "--to", "a@example.org", "--body", "x", "--user", "alice"]
    settings = {**os.environ, "RELAY_CONFIG": ""}
    process = await asyncio.create_subprocess_exec(
        *command, env=settings, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    _, said = await process.communicate()
    line = "relay: there is no terminal to ask for the password at: name a file with --password-file"
    assert (process.returncode, said.decode().splitlines()) == (2, [line])
