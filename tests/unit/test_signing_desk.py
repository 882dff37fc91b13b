"""The keys of the settings, read when the service starts and when their files change."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.events import Event, FileRefused
from relay.settings import Settings
from relay.signing.keygen import KeyType, new_key
from relay.signing_desk import SigningDesk

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def settings(*files: Path) -> Settings:
    tables = [{"domain": "d.test", "selector": f"s{number}", "key_file": path} for number, path in enumerate(files)]
    return Settings.model_validate({"dkim_key": tables, "dkim": {"canonicalization": "simple/simple"}})


def test_changed_files_are_read_again_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    one.write_bytes(new_key(KeyType.ED25519, 0))
    two.write_bytes(new_key(KeyType.ED25519, 0))
    events: list[Event] = []
    given = settings(one, two)
    desk = SigningDesk(given, lambda: NOW, events.append)
    first = desk.signer.keys
    assert desk.signer.canonicalization is given.dkim.canonicalization
    assert [key.selector for key in first.all] == ["s0", "s1"]
    assert desk.renew() is first
    two.write_bytes(new_key(KeyType.ED25519, 0))
    second = desk.renew()
    assert desk.signer.keys is second is not first
    assert second.all[0] == first.all[0]
    assert second.all[1] != first.all[1]
    assert events == []
    one.write_text("no key")
    assert desk.renew() is second
    assert desk.renew() is second
    assert [type(event) for event in events] == [FileRefused]  # once
    one.unlink()
    assert desk.renew() is second
    assert "cannot be read: No such file" in str(events[1])
    one.write_bytes(new_key(KeyType.ED25519, 0))
    assert desk.renew() is not second


def test_without_its_keys_the_service_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.pem cannot be read: No such file or directory"):
        SigningDesk(settings(tmp_path / "none.pem"), lambda: NOW, lambda _: None)


def test_without_any_there_is_nobody_who_signs() -> None:
    assert not SigningDesk(Settings(), lambda: NOW, lambda _: None).signer.keys
