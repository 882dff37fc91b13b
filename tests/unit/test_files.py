"""A secret that outlives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.files import secret_file


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
