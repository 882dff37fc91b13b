"""The page of `relay policy list`: the overrides of the settings, in force or ended. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from relay.policy.override import Override
from relay.policy.words import in_words, of_override


def as_json(overrides: Sequence[Override], now: datetime) -> str:
    """A list of objects, in the order of the settings."""
    return json.dumps([_object(one, now) for one in overrides], indent=2, ensure_ascii=False)


def _object(one: Override, now: datetime) -> dict[str, object]:
    return {
        "domains": list(one.domains),
        "hosts": list(one.hosts),
        "level": one.level.value,
        "mode": one.mode.value,
        "minimum_tls": str(one.minimum).removeprefix("TLS ") if one.minimum is not None else None,
        "names": list(one.names),
        "fingerprints": [fingerprint.hex() for fingerprint in one.fingerprints],
        "reason": one.reason,
        "owner": one.owner,
        "until": one.until.isoformat().replace("+00:00", "Z"),
        "in_force": now < one.until,
    }


def page(overrides: Sequence[Override], now: datetime) -> str:
    """Some lines for each override."""
    if not overrides:
        return "There are no overrides: what recipients publish is what holds."
    lines: list[str] = []
    for one in overrides:
        state = f"in force for {in_words(one.until - now)}" if now < one.until else "ENDED, no longer in force"
        lines += [", ".join(one.keys), f"    {state}", f"    {of_override(one)}"]
        lines += [f"    names: {', '.join(one.names)}"] * bool(one.names)
        lines += [f"    fingerprint: {fingerprint.hex()}" for fingerprint in one.fingerprints]
    ended = sum(now >= one.until for one in overrides)
    lines += ["", f"{len(overrides)} in the settings, {len(overrides) - ended} in force, {ended} ended"]
    return "\n".join(lines)
