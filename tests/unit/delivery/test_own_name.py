"""Whether an MX record with our name leads to us."""

from __future__ import annotations

from typing import Any

import pytest

from relay.delivery.route import own_mx_name
from relay.settings import ListenerSettings, Settings

CASES: dict[str, tuple[list[str], dict[str, Any], set[int], bool]] = {
    "submission.listen": (["192.0.2.1:25"], {}, set(), True),
    "another port": (["192.0.2.1:2525"], {}, set(), False),
    "a listener": ([], {"listen": ["192.0.2.1:2525", "[::1]:25"]}, set(), True),
    "TLS first": ([], {"listen": ["192.0.2.1:25"], "tls": "implicit"}, set(), False),
    "TLS required": ([], {"listen": ["192.0.2.1:25"], "tls": "required"}, set(), True),
    "a socket of systemd": ([], {"listen": ["systemd:mail"]}, {25}, True),
    "one elsewhere": ([], {"listen": ["systemd:mail"]}, {587}, False),
}


@pytest.mark.parametrize(("listen", "listener", "inherited", "ours"), CASES.values(), ids=CASES)
def test_own_name(listen: list[str], listener: dict[str, Any], inherited: set[int], ours: bool) -> None:
    tables = (ListenerSettings.model_validate({"name": "x", **listener}),) if listener else ()
    settings = Settings.model_validate({"submission": {"listen": listen}, "listener": tables})
    assert own_mx_name(settings, "relay.example", inherited) == ("relay.example" if ours else None)
