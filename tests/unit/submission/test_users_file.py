"""The users file: mistakes in it, and written without losing anything that was in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2
import pytest

from relay.submission.scram import make_verifier, parse_verifier
from relay.submission.users import Users
from relay.submission.users_file import User, add_user, change_password, read_users, remove_user

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # `check` follows what the hash says
SECRET = CHEAP.hash("secret")
OTHER = CHEAP.hash("other")
FEW = 4096  # rounds
FORM = "SCRAM-SHA-256$rounds:salt$key:key"
RFC_7677 = str(make_verifier("pencil", bytes.fromhex("5b6d99689d12358eec a04b141236fa81".replace(" ", "")), FEW))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines))
    return path


BAD_FILES: list[tuple[list[str | bytes], str]] = [
    (["alice"], "{path}, line 1: not of the form name:hash"),
    (["", "# x", "alice"], "{path}, line 3: not of the form name:hash"),
    ([f":{SECRET}"], "{path}, line 1: not of the form name:hash"),
    ([f"alice :{SECRET}"], "{path}, line 1: not of the form name:hash"),
    (["alice:secret"], "{path}, line 1: what follows the name is not an argon2 hash"),
    (["alice:"], "{path}, line 1: what follows the name is not an argon2 hash"),
    ([f"alice: {SECRET}x y"], "{path}, line 1: what follows the name is not an argon2 hash"),
    (["alice:$2b$12$" + "x" * 53], "{path}, line 1: what follows the name is not an argon2 hash"),
    ([f"alice:{SECRET}:"], "{path}, line 1: what follows the hash is not of the form " + FORM),
    ([f"alice:{SECRET}:{RFC_7677}:"], "{path}, line 1: what follows the hash is not of the form " + FORM),
    (
        [f"alice:{SECRET}:{RFC_7677[:-4]}"],
        "{path}, line 1: what follows the hash has a key that is not of SHA-256, or too long a salt",
    ),
    (
        [f"alice:{SECRET}:{RFC_7677.replace('4096', '4095')}"],
        "{path}, line 1: what follows the hash has 4095 rounds; 4096 to 10000000 can be used",
    ),
    ([f"alice:{SECRET}", b"b\xffb:x"], "{path}, line 2: not UTF-8"),
    ([f"alice:{SECRET}", f"bob:{OTHER}", f"alice:{OTHER}"], "{path}, line 3: the user 'alice' is there twice"),
    ([f"ä:{SECRET}", f"a\u0308:{OTHER}"], "{path}, line 2: the user 'ä' is there twice"),
]


@pytest.mark.parametrize(("lines", "problem"), BAD_FILES)
def test_mistakes(lines: list[str | bytes], problem: str, path: Path) -> None:
    write(path, *lines)
    before = path.read_bytes()
    expected = problem.format(path=path)
    uses: list[Callable[[], object]] = [
        lambda: Users.load(path),
        lambda: add_user(path, "carol", "x"),
        lambda: change_password(path, "alice", "x"),
        lambda: remove_user(path, "alice"),
    ]
    for use in uses:
        with pytest.raises(ValueError) as caught:
            use()
        assert str(caught.value) == expected
    assert path.read_bytes() == before


def test_a_mistake_does_not_show_the_hash(path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        Users.load(write(path, "alice:my secret in clear text"))
    assert "my secret" not in str(caught.value)


def test_add_user_makes_the_file(path: Path) -> None:
    add_user(path, "alice", "secret")
    name, hash, verifier = path.read_text().split(":", 2)
    assert name == "alice"
    parameters = argon2.extract_parameters(hash)
    assert parameters.type is argon2.Type.ID
    assert parameters.memory_cost >= 19 * 1024  # OWASP's floor for argon2id
    assert argon2.PasswordHasher().verify(hash, "secret")
    kept = parse_verifier(verifier.removesuffix("\n"))
    assert kept.rounds == 65_536  # the most that Cyrus SASL takes, with which Postfix logs in
    assert kept == make_verifier("secret", kept.salt, kept.rounds)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_each_user_has_a_salt(path: Path) -> None:
    for name in ("alice", "bob"):
        add_user(path, name, "secret", FEW)
    alice, bob = (user.verifier for user in read_users(path)[1].values())
    assert alice is not None and bob is not None
    assert alice.salt != bob.salt and alice.stored != bob.stored


NO_SCRAM = [("ﬁona", "secret"), ("alice", "se\x07cret"), ("alice", "\u0378")]


@pytest.mark.parametrize(("name", "password"), NO_SCRAM)
def test_who_cannot_use_scram_has_no_verifier(name: str, password: str, path: Path) -> None:
    """SASLprep makes another name of it, or forbids the password: clients could not log in."""
    add_user(path, name, password, FEW)
    (user,) = read_users(path)[1].values()
    assert user.verifier is None


@pytest.mark.asyncio
async def test_add_user_keeps_the_other_lines(path: Path) -> None:
    lines = ["# who may send", "", f"bob:{OTHER}", "  # the end", f"  alice:{SECRET}"]
    path.write_text("\n".join(lines))  # no line end at the end
    add_user(path, "carol", "new", FEW)
    after = path.read_text().splitlines()
    assert after[:-1] == lines
    assert after[-1].startswith("carol:$argon2id$")
    assert await Users.load(path).check("alice", "secret")


def test_users_that_are_added_at_once(path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda name: add_user(path, name, "secret", FEW), ("alice", "bob", "carol")))
    assert set(read_users(path)[1]) == {"alice", "bob", "carol"}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.asyncio
async def test_change_password(path: Path) -> None:
    lines = ["# älice: our first", f"a\u0308lice:{SECRET}", f"bob:{OTHER}"]
    write(path, *lines)
    change_password(path, "älice", "new", FEW)
    after = path.read_text().splitlines()
    assert [after[0], after[2]] == [lines[0], lines[2]]
    users = Users.load(path)
    assert await users.check("älice", "new")
    assert not await users.check("älice", "secret")
    assert users.verifier("älice") == make_verifier("new", users.verifier("älice").salt, FEW)


def test_remove_user(path: Path) -> None:
    lines = ["# älice: our first", f"  a\u0308lice:{SECRET}", f"bob:{OTHER}"]
    write(path, *lines)
    remove_user(path, "älice")
    assert path.read_text().splitlines() == [lines[0], lines[2]]
    remove_user(path, "bob")
    assert path.read_text() == f"{lines[0]}\n"


WRONG = [
    (
        lambda path: add_user(path, "a\u0308lice", "new"),
        "there is a user älice already: `relay user passwd` gives a new password",
    ),
    (lambda path: change_password(path, "bob", "new"), "there is no user bob: `relay user add` makes one"),
    (lambda path: remove_user(path, "bob"), "there is no user bob"),
    (lambda path: remove_user(path, "# älice"), "there is no user # älice"),
]


@pytest.mark.parametrize(("change", "problem"), WRONG)
def test_changes_that_cannot_be(change: Callable[[Path], None], problem: str, path: Path) -> None:
    write(path, "# älice: our first", f"älice:{SECRET}")
    before = path.read_bytes()
    with pytest.raises(ValueError) as caught:
        change(path)
    assert str(caught.value) == problem
    assert path.read_bytes() == before


def test_add_user_keeps_owner_and_mode(path: Path) -> None:
    write(path, f"alice:{SECRET}").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    add_user(path, "bob", "x", FEW)
    after = path.stat()
    assert after.st_ino != before.st_ino  # a reader never sees half a file
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_add_user_never_makes_hashes_readable_by_all(path: Path) -> None:
    write(path, f"alice:{SECRET}").chmod(0o666)
    add_user(path, "bob", "x", FEW)
    assert path.stat().st_mode & 0o777 == 0o660


def test_add_user_follows_a_link(path: Path, tmp_path: Path) -> None:
    real = write(tmp_path / "real", f"alice:{SECRET}")
    path.symlink_to(real)
    add_user(path, "bob", "x", FEW)
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


def test_what_proves_a_user_is_not_shown() -> None:
    """In the report of a defect, say."""
    verifier = make_verifier("secret", b"salt", FEW)
    shown = repr(User("alice", SECRET, verifier))
    assert "alice" in shown
    assert not [secret for secret in (SECRET, repr(verifier.stored), repr(verifier.server)) if secret in shown]
