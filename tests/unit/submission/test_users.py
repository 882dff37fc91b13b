"""The users: their passwords, a file that changes under our feet, and what is told of users that there are not."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import argon2
import pytest

from relay.submission.scram import make_verifier
from relay.submission.users import Users

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # `check` follows what the hash says
SECRET = CHEAP.hash("secret")
OTHER = CHEAP.hash("other")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


def rewrite(path: Path, *lines: str | bytes) -> None:
    """Replace the file as `relay user add` does: with another inode, so that the clock's grain does not matter."""
    write(path.with_suffix(".new"), *lines).replace(path)


GOOD_FILES = [
    [f"alice:{SECRET}"],
    [f"  alice:{SECRET}  "],
    [f"alice:{SECRET}\r"],
    ["# who may send", "", "  # more", f"alice:{SECRET}", ""],
    [f"bob:{OTHER}", f"alice:{SECRET}"],
]


@pytest.mark.asyncio
@pytest.mark.parametrize("lines", GOOD_FILES)
async def test_load_and_check(lines: list[str], path: Path) -> None:
    users = Users.load(write(path, *lines))
    assert await users.check("alice", "secret")
    for name, password in [
        ("alice", "Secret"),
        ("alice", ""),
        ("Alice", "secret"),
        ("", "secret"),
        ("carol", "secret"),
    ]:
        assert not await users.check(name, password)
    assert not await users.check("#", "secret")


@pytest.mark.asyncio
async def test_an_unknown_name_does_not_get_in_with_somebodys_password(path: Path) -> None:
    """Somebody's hash is checked for it, for the time that takes."""
    users = Users.load(write(path, f"alice:{SECRET}", f"bob:{OTHER}"))
    assert not await users.check("mallory", "secret")
    assert not await users.check("mallory", "other")
    assert not await users.check("bob", "secret")
    assert not users.remembers("mallory", "secret")


@pytest.mark.asyncio
async def test_no_users(path: Path) -> None:
    assert not await Users.load(write(path)).check("alice", "secret")


@pytest.mark.asyncio
async def test_one_form_of_each_letter(path: Path) -> None:
    """RFC 8265 section 4: keyboards differ in how they write an umlaut, and both mean the same."""
    apart = unicodedata.normalize("NFD", "jürgen")
    users = Users.load(write(path, f"{apart}:{CHEAP.hash('schön')}"))
    assert apart != "jürgen"
    assert await users.check("jürgen", unicodedata.normalize("NFD", "schön"))
    assert await users.check(apart, "schön")
    assert users.remembers("jürgen", "schön")


@pytest.mark.asyncio
async def test_names_and_passwords_have_a_limit(path: Path) -> None:
    longest = "é" * 127 + "x"  # 255 octets
    users = Users.load(write(path, f"{longest}:{CHEAP.hash(longest)}", f"a:{CHEAP.hash(longest + 'y')}"))
    assert await users.check(longest, longest)
    assert not await users.check("a", longest + "y")


VERIFIER = make_verifier("secret", b"0123456789abcdef", 4096)


def test_scram_is_for_all_or_for_none(path: Path) -> None:
    assert not Users.load(write(path)).all_have_scram
    assert not Users.load(write(path, f"alice:{SECRET}")).all_have_scram
    assert not Users.load(write(path, f"alice:{SECRET}:{VERIFIER}", f"bob:{OTHER}")).all_have_scram
    # More rounds than Cyrus SASL takes: a Postfix would choose SCRAM, fail, and try nothing else.
    many = replace(VERIFIER, rounds=65_537)
    assert not Users.load(write(path, f"alice:{SECRET}:{VERIFIER}", f"bob:{OTHER}:{many}")).all_have_scram
    users = Users.load(write(path, f"alice:{SECRET}:{VERIFIER}"))
    assert users.all_have_scram
    assert users.verifier("alice") == VERIFIER


def test_an_unknown_name_looks_like_the_others_and_stays_so(path: Path) -> None:
    """Nobody learns from salts who exists: not by asking twice, nor after a restart, nor when the file changes."""
    odd = make_verifier("other", b"01234567", 5000)
    users = Users.load(write(path, f"a:{SECRET}:{odd}", f"b:{SECRET}:{VERIFIER}", f"c:{SECRET}:{VERIFIER}"))
    users.secret = b"s" * 32
    mallory = users.verifier("mallory")
    assert (mallory.rounds, len(mallory.salt)) == (4096, 16)  # as most have it
    assert users.verifier("mallory") == mallory != users.verifier("mallorz")
    assert len({mallory.salt, mallory.stored, mallory.server, users.verifier("mallorz").salt}) == 4
    again = Users.load(write(path, f"b:{SECRET}:{VERIFIER}"))
    assert again.verifier("mallory") != mallory  # another secret
    again.secret = users.secret
    assert again.verifier("mallory") == mallory
    assert again.verifier(unicodedata.normalize("NFD", "é")) == again.verifier("é")


def test_no_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Users.load(path)


@pytest.mark.asyncio
async def test_refresh(path: Path) -> None:
    users = Users.load(write(path, f"alice:{SECRET}"))
    assert await users.refresh() is None
    rewrite(path, f"alice:{OTHER}", f"bob:{SECRET}")
    assert not await users.check("bob", "secret")  # nobody has looked yet
    assert await users.refresh() is None
    assert await users.check("bob", "secret")
    assert await users.check("alice", "other")
    assert not await users.check("alice", "secret")


@pytest.mark.asyncio
async def test_refresh_keeps_the_old_file_in_force_and_says_why_once(path: Path) -> None:
    users = Users.load(write(path, f"alice:{SECRET}"))
    rewrite(path, f"alice:{SECRET}", "bob")
    assert await users.refresh() == f"{path}, line 2: not of the form name:hash"
    assert await users.refresh() is None
    assert await users.check("alice", "secret")
    path.unlink()
    problem = await users.refresh()
    assert problem is not None
    assert str(path) in problem
    assert await users.refresh() is None
    assert await users.check("alice", "secret")
    write(path, f"bob:{OTHER}")
    assert await users.refresh() is None
    assert await users.check("bob", "other")
    assert not await users.check("alice", "secret")


@pytest.mark.asyncio
async def test_nobody_waits_while_a_new_file_is_read(path: Path) -> None:
    """A pipe in place of the file: who reads it on the event loop stands still until somebody writes."""
    users = Users.load(write(path, f"alice:{SECRET}"))
    path.unlink()
    os.mkfifo(path)
    reading = asyncio.create_task(users.refresh())
    assert await users.check("alice", "secret")  # what was said before is in force meanwhile
    assert await users.refresh() is None  # and one is enough to read it
    await asyncio.to_thread(path.write_text, f"bob:{OTHER}\n")
    assert await reading is None
    assert (users.knows("alice"), users.knows("bob")) == (False, True)


@pytest.mark.asyncio
async def test_remembers_only_what_was_right(path: Path) -> None:
    users = Users.load(write(path, f"alice:{SECRET}"))
    assert not users.remembers("alice", "secret")
    await users.check("alice", "wrong")
    assert not users.remembers("alice", "wrong")
    await users.check("alice", "secret")
    assert users.remembers("alice", "secret")
    for name, password in [("alice", "wrong"), ("bob", "secret"), ("alic", "esecret"), ("", "alice\0secret")]:
        assert not users.remembers(name, password)
    rewrite(path, f"alice:{OTHER}")
    await users.refresh()
    assert not users.remembers("alice", "secret")  # a password taken away works no more
