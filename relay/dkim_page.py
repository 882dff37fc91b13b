"""The pages of `relay dkim`: keys and their DNS records. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from relay.policy.dkim_record import key_record_text, zone_form
from relay.signing.keys import Algorithm, SigningKey


class Form(Enum):
    """How a DNS record is written."""

    ZONE = "zone"
    PLAIN = "plain"


def record(key: SigningKey) -> str:
    """The text of the key's TXT record, in one piece."""
    return key_record_text(key.algorithm.key_type, key.public)


def new_key(key: SigningKey, file: Path) -> str:
    """What is said of a key just made: the table for the settings, and the record in both forms."""
    table = {"domain": key.domain, "selector": key.selector, "key_file": str(file)}
    settings = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in table.items()]
    return "\n".join(
        [
            f"The key is in {file}. Publish its record first:",
            "",
            zone_form(key.record_name, record(key)),
            "",
            "or, where a form asks for it:",
            "",
            *_plain(key),
            "",
            "then put this into relay.toml, see that `relay dkim check` finds the record, and restart the service:",
            "",
            "[[dkim_key]]",
            *settings,
        ]
    )


def page(keys: Sequence[SigningKey], form: Form) -> str:
    """The records of keys. In the form of a zone file the page is a piece of one: what else is said are comments."""
    if form is Form.ZONE:
        blocks = [[f"; {_of_key(key)}", zone_form(key.record_name, record(key))] for key in keys]
    else:
        blocks = [[_of_key(key), *_plain(key)] for key in keys]
    return "\n\n".join("\n".join(block) for block in blocks)


def as_json(keys: Sequence[SigningKey]) -> str:
    """A list of objects, in the order of the settings. `record` is the text in one piece, `zone` a zone file's line."""
    listed = [
        {
            "domain": key.domain,
            "selector": key.selector,
            "type": key.algorithm.key_type,
            "bits": key.bits,
            "subdomains": key.subdomains,
            "name": key.record_name,
            "record": record(key),
            "zone": zone_form(key.record_name, record(key)),
        }
        for key in keys
    ]
    return json.dumps(listed, indent=2)


def _of_key(key: SigningKey) -> str:
    kind = f"RSA, {key.bits} bits" if key.algorithm is Algorithm.RSA_SHA256 else "Ed25519"
    domains = "and the domains below it" if key.subdomains else "alone"
    return f"{kind}, signs for {key.domain} {domains}"


def _plain(key: SigningKey) -> list[str]:
    return [f"Name:  {key.record_name}", "Type:  TXT", f"Value: {record(key)}"]
