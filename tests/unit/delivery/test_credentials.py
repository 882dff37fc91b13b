"""Secrets from files: what is taken, what is said of the rest, and that nothing shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.delivery.credentials import Credentials, Login, Unreadable

SETTING = '[[route]] "provider"'


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"pencil", "pencil"),
        (b"pencil\n", "pencil"),
        (b"pencil\r\n", "pencil"),
        (b" pencil \n", " pencil "),
        ("pässword\n".encode(), "pässword"),
    ],
)
def test_the_final_line_end_is_not_part_of_it(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    login = Login("me", SETTING, password_file=tmp_path / "secret")
    assert login.read() == Credentials("me", secret)
    token = Login("me", SETTING, token_file=tmp_path / "secret")
    assert token.read() == Credentials("me", token=secret)


def test_it_is_read_again_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    login = Login("me", SETTING, token_file=path)
    for token in ("first", "second"):
        path.write_text(token)
        assert login.read() == Credentials("me", token=token)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"one\ntwo\n", "has more than one line, or a control character"),
        (b"pencil\n\n", "has more than one line, or a control character"),
        (b"pen\0cil", "has more than one line, or a control character"),
        (b"\xff", "is not UTF-8 text"),
        (b"x" * 65537, "is too large for a secret"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_a_secret(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    assert Login("me", SETTING, password_file=path).read() == Unreadable(f"password_file of {SETTING}: {path} {reason}")
    assert Login("me", SETTING, token_file=path).read() == Unreadable(f"token_file of {SETTING}: {path} {reason}")


def test_files_that_all_can_read(tmp_path: Path) -> None:
    password, token = tmp_path / "password", tmp_path / "token"
    login = Login("me", SETTING, password, token)
    assert login.readable_by_others() == ()
    for path, mode in ((password, 0o640), (token, 0o644)):
        path.write_text("x")
        path.chmod(mode)
    assert login.readable_by_others() == (token,)


def test_nothing_shows_the_secrets() -> None:
    shown = f"{Credentials('me', 'pencil', 'ya29', SETTING)!r} {Credentials('me', 'pencil', 'ya29', SETTING)}"
    assert "pencil" not in shown and "ya29" not in shown and "me" in shown


@pytest.mark.parametrize(
    ("user", "password", "token"),
    [("me", None, None), ("me", "", ""), ("me\0", "x", None), ("me", "x\r\ny", None), ("me", None, "x\x01")],
)
def test_impossible_credentials(user: str, password: str | None, token: str | None) -> None:
    with pytest.raises(ValueError, match=r"neither|control"):
        Credentials(user, password, token)
