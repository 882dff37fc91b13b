"""The users file: read, changed under our feet, wrong, and written without losing anything that was in it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import argon2
import pytest

from relay.submission.users import Users, add_user

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


BAD_FILES: list[tuple[list[str | bytes], str]] = [
    (["alice"], "{path}, line 1: not of the form name:hash"),
    (["", "# x", "alice"], "{path}, line 3: not of the form name:hash"),
    ([f":{SECRET}"], "{path}, line 1: not of the form name:hash"),
    ([f"alice :{SECRET}"], "{path}, line 1: not of the form name:hash"),
    (["alice:secret"], "{path}, line 1: what follows the name is not an argon2 hash"),
    (["alice:"], "{path}, line 1: what follows the name is not an argon2 hash"),
    ([f"alice: {SECRET}x y"], "{path}, line 1: what follows the name is not an argon2 hash"),
    (["alice:$2b$12$" + "x" * 53], "{path}, line 1: what follows the name is not an argon2 hash"),
    ([f"alice:{SECRET}", b"b\xffb:x"], "{path}, line 2: not UTF-8"),
    ([f"alice:{SECRET}", f"bob:{OTHER}", f"alice:{OTHER}"], "{path}, line 3: the user 'alice' is there twice"),
    ([f"ä:{SECRET}", f"a\u0308:{OTHER}"], "{path}, line 2: the user 'ä' is there twice"),
]


@pytest.mark.parametrize(("lines", "problem"), BAD_FILES)
def test_mistakes(lines: list[str | bytes], problem: str, path: Path) -> None:
    write(path, *lines)
    before = path.read_bytes()
    expected = problem.format(path=path)
    with pytest.raises(ValueError) as caught:
        Users.load(path)
    assert str(caught.value) == expected
    with pytest.raises(ValueError) as caught:
        add_user(path, "carol", "x")
    assert str(caught.value) == expected
    assert path.read_bytes() == before


def test_a_mistake_does_not_show_the_hash(path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        Users.load(write(path, "alice:my secret in clear text"))
    assert "my secret" not in str(caught.value)


def test_no_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Users.load(path)


@pytest.mark.asyncio
async def test_refresh(path: Path) -> None:
    users = Users.load(write(path, f"alice:{SECRET}"))
    assert users.refresh() is None
    rewrite(path, f"alice:{OTHER}", f"bob:{SECRET}")
    assert not await users.check("bob", "secret")  # nobody has looked yet
    assert users.refresh() is None
    assert await users.check("bob", "secret")
    assert await users.check("alice", "other")
    assert not await users.check("alice", "secret")


@pytest.mark.asyncio
async def test_refresh_keeps_the_old_file_in_force_and_says_why_once(path: Path) -> None:
    users = Users.load(write(path, f"alice:{SECRET}"))
    rewrite(path, f"alice:{SECRET}", "bob")
    assert users.refresh() == f"{path}, line 2: not of the form name:hash"
    assert users.refresh() is None
    assert await users.check("alice", "secret")
    path.unlink()
    problem = users.refresh()
    assert problem is not None
    assert str(path) in problem
    assert users.refresh() is None
    assert await users.check("alice", "secret")
    write(path, f"bob:{OTHER}")
    assert users.refresh() is None
    assert await users.check("bob", "other")
    assert not await users.check("alice", "secret")


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
    users.refresh()
    assert not users.remembers("alice", "secret")  # a password taken away works no more


def test_add_user_makes_the_file(path: Path) -> None:
    add_user(path, "alice", "secret")
    name, _, hash = path.read_text().partition(":")
    assert name == "alice"
    assert hash.endswith("\n")
    parameters = argon2.extract_parameters(hash.strip())
    assert parameters.type is argon2.Type.ID
    assert parameters.memory_cost >= 19 * 1024  # OWASP's floor for argon2id
    assert argon2.PasswordHasher().verify(hash.strip(), "secret")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.asyncio
async def test_add_user_keeps_the_other_lines(path: Path) -> None:
    lines = ["# who may send", "", f"bob:{OTHER}", "  # the end", f"  alice:{SECRET}"]
    path.write_text("\n".join(lines))  # no line end at the end
    add_user(path, "carol", "new")
    after = path.read_text().splitlines()
    assert after[:-1] == lines
    assert after[-1].startswith("carol:$argon2id$")
    assert await Users.load(path).check("alice", "secret")


@pytest.mark.asyncio
async def test_add_user_gives_a_new_password(path: Path) -> None:
    write(path, "# alice: our first", f"a\u0308lice:{SECRET}", f"bob:{OTHER}")
    add_user(path, "älice", "new")
    after = path.read_text().splitlines()
    assert after[:-1] == ["# alice: our first", f"bob:{OTHER}"]
    users = Users.load(path)
    assert await users.check("älice", "new")
    assert not await users.check("älice", "secret")


def test_add_user_keeps_owner_and_mode(path: Path) -> None:
    write(path, f"alice:{SECRET}").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    add_user(path, "bob", "x")
    after = path.stat()
    assert after.st_ino != before.st_ino  # a reader never sees half a file
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_add_user_never_makes_hashes_readable_by_all(path: Path) -> None:
    write(path, f"alice:{SECRET}").chmod(0o666)
    add_user(path, "bob", "x")
    assert path.stat().st_mode & 0o777 == 0o660


def test_add_user_follows_a_link(path: Path, tmp_path: Path) -> None:
    real = write(tmp_path / "real", f"alice:{SECRET}")
    path.symlink_to(real)
    add_user(path, "bob", "x")
    assert path.is_symlink()
    assert [line.partition(":")[0] for line in real.read_text().splitlines()] == ["alice", "bob"]


BAD_USERS = [
    ("", "x"),
    (" alice", "x"),
    ("alice ", "x"),
    ("#alice", "x"),
    ("a:b", "x"),
    ("a\nb", "x"),
    ("a\0b", "x"),
    ("a\u2028b", "x"),
    ("alice", ""),
    ("alice", "a\0b"),
    ("é" * 128, "x"),
    ("alice", "é" * 128),
]


@pytest.mark.parametrize(("name", "password"), BAD_USERS)
def test_users_that_cannot_be(name: str, password: str, path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        add_user(path, name, password)
    assert not password or password == "x" or password not in str(caught.value)
    assert not path.exists()
