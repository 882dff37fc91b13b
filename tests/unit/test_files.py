"""A secret that outlives a restart, and files of secrets that are made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.files import new_secret_file, readable_by_others, secret_file


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    made = secret_file(path)
    assert len(made) == 32
    assert secret_file(path) == made != secret_file(tmp_path / "other")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"zz" * 32, b"\xff" * 64])
def test_what_is_no_secret_is_made_anew(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert secret_file(path) == secret_file(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        secret_file(tmp_path / "none" / "secret")


def test_a_new_file_is_whole_private_and_alone(tmp_path: Path) -> None:
    new_secret_file(tmp_path / "key", b"octets")
    assert (tmp_path / "key").read_bytes() == b"octets"
    assert (tmp_path / "key").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "key").stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


def test_a_new_file_goes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        new_secret_file(tmp_path / "key", b"new")
    assert (tmp_path / "key").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 4711, 4712)
    new_secret_file(tmp_path / "key", b"octets")
    found = (tmp_path / "key").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (4711, 4712, 0o600)


def test_who_can_read_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert not readable_by_others(path)
    path.write_bytes(b"octets")
    for mode in (0o600, 0o640, 0o644, 0o604):
        path.chmod(mode)
        assert readable_by_others(path) is bool(mode & 0o004)
