"""The DNS record of a DKIM key: its grammar, and how it is written. RFC 6376 section 3.6.1, RFC 8463 section 4.

Octets in, values out. Whether a record is that of a key is said in `relay.policy.dkim_match`; DNS is asked in
`relay.lookup.dkim`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

TTL_SECONDS = 3600  # of records that are written: short enough to mend a mistake the same day
EVERY_SERVICE = "*"
EMAIL, TLS_REPORTS = "email", "tlsrpt"  # RFC 6376 section 3.6.1, RFC 8460 section 3
TESTING = "y"
_STRING_OCTETS = 255  # of one string of a TXT record. RFC 1035 section 3.3
# RFC 6376 §3.2: tag-list. A value has printable ASCII but no semicolon; white space inside it may be folded.
_FOLDED = re.compile(rb"\r\n(?=[ \t])")
_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,63}\Z")  # the RFC has no limit, and no tag of more than two letters
_NO_TAG_VALUE = re.compile(rb"[^\x21-\x7e \t]")
_SPACE = b" \t"
_SPACES = re.compile(r"[ \t]+")
_BACKSLASHED = re.compile(r'(["\\])')


class RecordSyntaxError(ValueError):
    """Octets that are no key record; the text says why, as the end of a sentence about the record."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key record. `public`: the octets of `p=`, none when the key is revoked; `hashes` None: all are good."""

    key_type: str
    public: bytes
    hashes: tuple[str, ...] | None = None
    services: tuple[str, ...] = (EVERY_SERVICE,)
    flags: tuple[str, ...] = ()

    def is_for(self, service: str) -> bool:
        """Whether the owner lets the key be used for this (`s=`)."""
        return EVERY_SERVICE in self.services or service in self.services


def parse_key_record(text: bytes) -> KeyRecord:
    """The record in one TXT record, its strings joined. Tags that are not known are passed over.

    Raises RecordSyntaxError.
    """
    tags = _tag_list(text)
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != "DKIM1"):
        raise RecordSyntaxError("its v= is not DKIM1, or does not come first")
    if "p" not in tags:
        raise RecordSyntaxError("it has no p=")
    try:
        public = base64.b64decode(_SPACES.sub("", tags["p"]), validate=True)
    except binascii.Error:
        raise RecordSyntaxError("its p= is not base64: some of it may be cut off") from None
    return KeyRecord(
        key_type=tags.get("k", "rsa"),
        public=public,
        hashes=_listed(tags["h"]) if "h" in tags else None,
        services=_listed(tags.get("s", EVERY_SERVICE)),
        flags=_listed(tags.get("t", "")),
    )


def key_record_text(key_type: str, public: bytes) -> str:
    """The record of a key, in one piece. `key_type` as for `k=`, `public` the octets for `p=`."""
    return f"v=DKIM1; k={key_type}; p={base64.b64encode(public).decode()}"


def zone_form(name: str, text: str) -> str:
    """A TXT record as a zone file has it: an absolute name, and strings of no more than 255 octets in quotes.

    `text` is ASCII. RFC 1035 section 5.1.
    """
    parts = [text[start : start + _STRING_OCTETS] for start in range(0, len(text), _STRING_OCTETS)] or [""]
    head, strings = f"{name}. {TTL_SECONDS} IN TXT", [_quoted(part) for part in parts]
    if len(strings) == 1:
        return f"{head} {strings[0]}"
    return "\n".join([f"{head} (", *(f"    {string}" for string in strings), ")"])


def _quoted(text: str) -> str:
    escaped = _BACKSLASHED.sub(r"\\\1", text)
    return f'"{escaped}"'


def _tag_list(text: bytes) -> dict[str, str]:
    """RFC 6376 section 3.2. Names and values are case-sensitive; a name that is there twice spoils the whole list."""
    tags: dict[str, str] = {}
    specs = _FOLDED.sub(b"", text).split(b";")
    if len(specs) > 1 and not specs[-1].strip(_SPACE):
        specs.pop()  # a semicolon may end the list
    for spec in specs:
        tag, equals, value = (part.strip(_SPACE) for part in spec.partition(b"="))
        if not equals or _TAG_NAME.match(tag) is None:
            raise RecordSyntaxError("it is not a list of tag=value with semicolons between them")
        name = tag.decode()
        if _NO_TAG_VALUE.search(value) is not None:
            raise RecordSyntaxError(f"its {name}= has characters that no tag may have")
        if name in tags:
            raise RecordSyntaxError(f"it has {name}= twice")
        tags[name] = value.decode()
    return tags


def _listed(value: str) -> tuple[str, ...]:
    """The parts between colons."""
    return tuple(part for part in (part.strip(" \t") for part in value.split(":")) if part)
