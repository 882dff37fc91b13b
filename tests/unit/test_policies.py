"""`relay policy list`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner

from relay import policies
from relay.cli import relay
from relay.policy.observed import TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ENDED = Override(("a.test",), (), OverrideLevel.NONE, OverrideMode.REPLACE, "ticket 1", "ops", NOW)
CURRENT = Override(
    ("b.test", ".b.test"),
    ("mx.c.test",),
    OverrideLevel.VERIFY,
    OverrideMode.RAISE,
    "contract 17",
    "post@example.org",
    NOW + timedelta(days=9),
    TlsVersion.TLS_1_3,
    ("gateway.b.test",),
)


def test_the_page() -> None:
    assert policies.page([ENDED, CURRENT], NOW).splitlines() == [
        "a.test",
        "    ENDED, no longer in force",
        "    none, in place of what is published, until 2026-11-25 12:00 UTC, by ops: ticket 1",
        "b.test, .b.test, mx.c.test",
        "    in force for 9 days",
        "    verify, TLS 1.3 or newer, beside what is published, until 2026-12-04 12:00 UTC, by post@example.org: "
        "contract 17",
        "    names: gateway.b.test",
        "",
        "2 in the settings, 1 in force, 1 ended",
    ]


def test_none() -> None:
    assert policies.page([], NOW) == "There are no overrides: what recipients publish is what holds."


def test_json() -> None:
    first, second = json.loads(policies.as_json([ENDED, CURRENT], NOW))
    assert (first["in_force"], second["in_force"]) == (False, True)
    assert (second["minimum_tls"], second["until"]) == ("1.3", "2026-12-04T12:00:00Z")


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(
        '[[override]]\nhosts = ["mx.a.test"]\nlevel = "fingerprint"\nfingerprints = ["' + "ab" * 32 + '"]\n'
        'reason = "r"\nowner = "o"\nuntil = 2020-01-01\n'
    )
    found = CliRunner().invoke(relay, ["policy", "list", "--config", str(file)])
    assert (found.exit_code, "ENDED" in found.output, f"fingerprint: {'ab' * 32}" in found.output) == (0, True, True)
    found = CliRunner().invoke(relay, ["policy", "list", "--json", "--config", str(file)])
    assert json.loads(found.output)[0]["fingerprints"] == ["ab" * 32]
