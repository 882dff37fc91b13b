"""`relay sendmail` as a program: what PHP and cron do with it, its exit codes, and what it says."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from submission_peer import Running, running

from relay.posting.result import Exit
from relay.sendmail_command import DEFAULT_FILE, main, settings_file

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
# As PHP writes it: its own header lines end with CRLF, those of the script with LF.
PHP = b"To: a@example.org\r\nSubject: hi\r\nX-PHP-Originating-Script: 0:x.php\r\nBcc: b@example.org\r\n\r\n"
PHP += b"body\n.\nmore\n"
NOBODY = 'hostname = "box.example.test"\n[sendmail]\nserver = "127.0.0.1:1"\n'


def settings_for(there: Running, folder: Path) -> Path:
    path = folder / "relay.toml"
    path.write_text(f'hostname = "box.example.test"\n[submission]\nlisten = ["{there.addresses[0]}"]\n')
    return path


async def program(*words: str, config: Path, text: bytes) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "RELAY_CONFIG": str(config), "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate(text)
    return process.returncode or 0, out.decode(), error.decode()


@pytest.mark.asyncio
async def test_what_php_runs_and_a_link_of_the_old_name(tmp_path: Path) -> None:
    link = tmp_path / "sendmail"
    link.write_text(f"#!{sys.executable}\nfrom relay.cli import main\nmain()\n")
    link.chmod(0o755)
    async with running(tmp_path) as there:
        config = settings_for(there, tmp_path)
        php = [sys.executable, "-m", "relay", "sendmail", "-t", "-i", "-fwww@example.org"]
        assert await program(*php, config=config, text=PHP) == (0, "", "")
        assert await program(str(link), "-FCronDaemon", "-i", "root", config=config, text=b"out\n") == (0, "", "")
        by_php, by_cron = await there.stored()
    assert str(by_php.claim.sender) == "www@example.org"
    assert by_php.recipients == ("a@example.org", "b@example.org")
    assert b"Bcc" not in by_php.body
    assert by_php.body.startswith(b"To: a@example.org\r\nSubject: hi\r\n")
    assert by_php.body.endswith(b"\r\n\r\nbody\r\n.\r\nmore\r\n")
    assert by_cron.recipients == ("root@box.example.test",)
    assert b"\r\n\r\nout\r\n" in by_cron.body
    assert b"From: CronDaemon <" in by_cron.body


@pytest.mark.asyncio
async def test_the_code_is_that_of_the_process(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text(NOBODY)
    code, out, error = await program(sys.executable, "-m", "relay", "sendmail", "-q", config=config, text=b"")
    assert (code, out, error) == (64, "", "sendmail: -q: to try waiting mail now: relay queue retry --all\n")


@pytest.mark.parametrize(
    ("words", "settings", "text", "exit", "line"),
    [
        ("-Z", NOBODY, "", Exit.USAGE, "-Z: there is no such option"),
        ("-bp", NOBODY, "", Exit.USAGE, "-bp: to list the queue: relay queue list"),
        ("", NOBODY, "hello", Exit.DATA, "no recipients: give them as arguments, or in the header with -t"),
        (
            "a@b@c",
            NOBODY,
            "hello",
            Exit.DATA,
            "'a@b@c': the local part 'a@b' is neither a dot-string nor a quoted string",
        ),
        ("a@example.org", NOBODY, "hello", Exit.TEMPORARY, "127.0.0.1:1: Connection refused"),
        (
            "a@example.org",
            '[sendmail]\nserver = "127.0.0.1:1"\nuser = "me"\npassword_file = "none"\n',
            "hello",
            Exit.CONFIG,
            "password_file of [sendmail]: none cannot be read: No such file or directory",
        ),
        (
            "a@example.org",
            '[submission]\nlisten = ["127.0.0.1:0"]\n',
            "hello",
            Exit.CONFIG,
            "sendmail.server: must be set: no listener of this relay can be reached from here",
        ),
    ],
)
def test_each_mistake_has_its_code_and_one_line(
    words: str,
    settings: str,
    text: str,
    exit: Exit,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "relay.toml"
    config.write_text(settings)
    monkeypatch.setenv("RELAY_CONFIG", str(config))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(words.split(), NOW) is exit
    assert capsys.readouterr() == ("", f"sendmail: {line}\n")


def test_settings_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of a service are for who may not read them: a folder can be read by nobody, not even by root."""
    monkeypatch.setenv("RELAY_CONFIG", str(tmp_path))
    assert main(["a@example.org"], NOW) is Exit.CONFIG
    assert capsys.readouterr().err == f"sendmail: {tmp_path}: cannot be read: Is a directory\n"


def test_a_default_file_that_cannot_be_looked_for_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = Path("/", "x" * 300)
    monkeypatch.setattr("relay.sendmail_command.DEFAULT_FILE", hidden)
    assert settings_file({}) == hidden


def test_which_settings_file_counts() -> None:
    assert settings_file({"RELAY_CONFIG": "/x"}) == Path("/x")
    assert settings_file({}) == (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
