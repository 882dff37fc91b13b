"""MTA-STS: the grammar of the TXT record and of the policy file, and which hosts a policy lists. RFC 8461 section 3.

Octets in, values out. Fetching is done in `relay.lookup.sts`; whether a session satisfies a policy is decided in
`relay.policy.verdict`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

MAX_POLICY_OCTETS = 65536  # RFC 8461 section 3.3 suggests a limit of 64 kilobytes
MAX_AGE_LIMIT = timedelta(seconds=31557600)  # RFC 8461 section 3.2

# RFC 8461 §3.1: sts-text-record. Names and values are case-sensitive; white space stands only round semicolons.
_RECORD_START = re.compile(rb"v=STSv1[ \t]*;")
_RECORD_FIELD = rb"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}=[\x21-\x3a\x3c\x3e-\x7e]+"
_RECORD = re.compile(rb"v=STSv1(?:[ \t]*;[ \t]*" + _RECORD_FIELD + rb")+(?:[ \t]*;[ \t]*)?\Z")
_RECORD_ID = re.compile(rb";[ \t]*id=([^; \t]*)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")

# RFC 8461 §3.2: sts-policy-field. A term is LF or CRLF; no other control character has a place in a policy.
_TERM = re.compile(r"\r?\n")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_AGE = re.compile(r"[0-9]{1,10}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
_MX_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")


class StsSyntaxError(ValueError):
    """A policy file that RFC 8461 section 3.2 does not allow; the text says what is wrong with it."""


class StsMode(Enum):
    """RFC 8461 section 5."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy file. `mx` are the patterns in lower case; `raw` is the file as fetched."""

    mode: StsMode
    mx: tuple[str, ...]
    max_age: timedelta
    raw: str


class StsProblem(Enum):
    """Why a policy that is announced cannot be had. RFC 8460 section 4.3.2.2 tells these apart."""

    FETCH = "fetch"  # its host does not answer, or with something else than a policy
    CERTIFICATE = "certificate"  # of its host
    INVALID = "invalid"  # what it sent is no policy


@dataclass(frozen=True, slots=True)
class NoSts:
    """The domain publishes no policy and none is in force from before."""


@dataclass(frozen=True, slots=True)
class StsFound:
    """A policy is in force. `stale_reason` says why it is an older one than the domain now announces, if it is.

    `stale_problem`: the one that is announced could not be had.
    """

    policy: StsPolicy
    id: str
    fetched_at: datetime
    stale_reason: str | None = None
    stale_problem: StsProblem | None = None


@dataclass(frozen=True, slots=True)
class StsFetchFailed:
    """A record is there but no policy could be had and none is cached: as if there were none.

    RFC 8461 section 5.1: delivery goes on as though the domain had not implemented MTA-STS. `problem` is None when
    it is not known whether there is a record: DNS did not answer.
    """

    reason: str
    problem: StsProblem | None = None


@dataclass(frozen=True, slots=True)
class StsUnknown:
    """It can't be decided, so it waits: the answer about the record was forged or could not be validated (`bogus`), or
    the policies that were fetched before are lost.
    """

    reason: str
    bogus: bool = False


StsResult = NoSts | StsFound | StsFetchFailed | StsUnknown


def parse_record(texts: tuple[bytes, ...]) -> str | None:
    """The policy id in the TXT records of `_mta-sts.DOMAIN`, or None when the domain has no (one) valid record.

    `texts`: the strings of each TXT record, joined. RFC 8461 section 3.1: records that do not begin with `v=STSv1`
    are ignored; if the number left is not one, or it does not parse, there is no policy.
    """
    candidates = [text for text in texts if _RECORD_START.match(text)]
    if len(candidates) != 1:
        return None
    [record] = candidates
    if not _RECORD.match(record):
        return None
    first = _RECORD_ID.search(record)  # of repeated fields the first counts
    if first is None:
        return None
    policy_id = first[1].decode("ascii")  # _RECORD has let only ASCII through
    return policy_id if _ID.match(policy_id) else None


def parse_policy(octets: bytes) -> StsPolicy:
    """Parse a policy file. RFC 8461 section 3.2; raises StsSyntaxError saying what is wrong.

    Octets that are not UTF-8 are an error in what we need, and are replaced in fields that we do not know.
    """
    raw = octets.decode("utf-8", errors="replace")
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for number, line in enumerate(_TERM.split(raw), start=1):
        if not line.strip(" \t"):
            continue  # not in the grammar, but common at the end of files, and to refuse it would only protect less
        key, value = _split_field(line, number)
        if key == "mx":
            patterns.append(_mx_pattern(value, number))
        else:
            fields.setdefault(key, value)  # RFC 8461 §3.2: only mx may be repeated; of others the first counts
    return _build(fields, tuple(patterns), raw)


def lists(policy: StsPolicy, host: str) -> bool:
    """Whether `host` (lower case, no final dot) matches one of the policy's mx patterns. RFC 8461 section 4.1."""
    label, _, parent = host.partition(".")
    # RFC 8461 §4.1: a wildcard stands for exactly one label, the leftmost
    return host in policy.mx or (label != "" and parent != "" and f"*.{parent}" in policy.mx)


def _split_field(line: str, number: int) -> tuple[str, str]:
    key, colon, rest = line.partition(":")
    value = rest.strip(" \t")
    if not colon or not _KEY.match(key):
        raise StsSyntaxError(f"line {number} is not a key, a colon and a value")
    if not value:
        raise StsSyntaxError(f"line {number}: {key} has no value")
    if _CONTROL.search(value):
        raise StsSyntaxError(f"line {number}: there is a control character in the value of {key}")
    return key, value


def _mx_pattern(value: str, number: int) -> str:
    # RFC 8461 §3.2: sts-policy-mx-value = ["*."] Domain, with the Domain of RFC 5321 (so A-labels only)
    if not _MX_PATTERN.match(value):
        raise StsSyntaxError(f"line {number}: {value[:80]!r} is neither a host name nor *. and a domain name")
    return value.lower()


def _build(fields: dict[str, str], patterns: tuple[str, ...], raw: str) -> StsPolicy:
    for key in ("version", "mode", "max_age"):
        if key not in fields:
            raise StsSyntaxError(f"there is no {key}")
    if fields["version"] != "STSv1":
        raise StsSyntaxError(f"the version is {fields['version'][:80]!r}, not STSv1")
    try:
        mode = StsMode(fields["mode"])
    except ValueError:
        raise StsSyntaxError(f"the mode {fields['mode'][:80]!r} is none of enforce, testing and none") from None
    if not _MAX_AGE.match(fields["max_age"]):
        raise StsSyntaxError(f"the max_age {fields['max_age'][:80]!r} is not a number of seconds of up to 10 digits")
    if not patterns and mode is not StsMode.NONE:  # RFC 8461 §3.2: mx is required unless the mode is none
        raise StsSyntaxError("there is no mx")
    return StsPolicy(mode, patterns, min(timedelta(seconds=int(fields["max_age"])), MAX_AGE_LIMIT), raw)
