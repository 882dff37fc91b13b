"""Whether DNS has a DKIM key, what else it has, and the words for a person who is to mend it. RFC 6376 section 3.6.

Pure: `relay.lookup.dkim` asks DNS. The grammar of a record is in `relay.policy.dkim_record`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.policy.dkim_record import (
    EMAIL,
    TESTING,
    TLS_REPORTS,
    KeyRecord,
    RecordSyntaxError,
    parse_key_record,
)

_HASH = "sha256"  # RFC 8301 section 3.1: the one that is signed with
_SPKI_HEAD = 24  # octets at most in front of the RSAPublicKey in a SubjectPublicKeyInfo. RFC 5280 section 4.1
_SHOWN_LENGTH = 40


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key that signs. `key_type` as in `k=`; `octets`: those that are in `p=`, not in base64."""

    key_type: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Matches:
    """DNS has this key."""


@dataclass(frozen=True, slots=True)
class Trial:
    """DNS has this key, and says that the domain only tries DKIM (`t=y`)."""


@dataclass(frozen=True, slots=True)
class NotForReports:
    """DNS has this key, for mail but not for the TLS reports that are signed with it (RFC 8460 section 3)."""


@dataclass(frozen=True, slots=True)
class Several:
    """There are more TXT records than the one. RFC 6376 section 3.6.2.2: what follows is undefined."""

    records: int
    matching: int


@dataclass(frozen=True, slots=True)
class Missing:
    """DNS says that there is no TXT record. `alias`: the name that the record's own leads to, if it is an alias."""

    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """The record says that the key is not to be believed any more (`p=` is empty)."""


@dataclass(frozen=True, slots=True)
class OtherKey:
    """The record has another key of the same type. `cut`: it has the first octets of ours, and no more."""

    cut: bool = False


@dataclass(frozen=True, slots=True)
class WrongType:
    """The record has a key of another type."""

    found: str
    wanted: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The record cannot be used. `why`: the end of a sentence about it."""

    why: str


@dataclass(frozen=True, slots=True)
class NotForMail:
    """The record has this key, and forbids what we do with it. `why`: the end of a sentence about it."""

    why: str


Comparison = (
    Matches | Trial | NotForReports | Several | Missing | Revoked | OtherKey | WrongType | Malformed | NotForMail
)


def compare(texts: Sequence[bytes], key: PublicKey, reports: bool = False) -> Comparison:
    """What the TXT records at a key's name (the strings of each joined) say of it.

    `reports`: it signs TLS reports too; then a record for these alone is good, as the domain may have no other mail.
    """
    if not texts:
        return Missing()
    found = [_compare(text, key, reports) for text in texts]
    bad = [one for one in found if not is_match(one)]
    if len(found) == 1 or not bad:
        return found[0]
    return Several(len(found), len(found) - len(bad))


def is_match(found: Comparison) -> bool:
    """Whether DNS has the key, and nothing else."""
    return isinstance(found, Matches | Trial | NotForReports)


def may_verify(found: Comparison) -> bool:
    """Whether anybody can verify what the key signs. False is certain."""
    return is_match(found) or (isinstance(found, Several) and found.matching > 0)


def in_words(found: Comparison) -> str:  # noqa: PLR0911  (one for each)
    """What DNS has, as a sentence without its point."""
    match found:
        case Matches():
            return "DNS has this key"
        case Trial():
            return "DNS has this key, as a trial (t=y): receivers treat its mail as if it were not signed"
        case NotForReports():
            return "DNS has this key, but not for TLS reports (s= has no tlsrpt): receivers may pass over those"
        case Several(records, matching):
            which = "one is" if matching == 1 else f"{matching} are" if matching else "none is"
            return f"DNS has {records} TXT records there, of which {which} of this key: receivers take any of them"
        case Missing(None):
            return "DNS has no TXT record there"
        case Missing(alias):
            return f"the name is an alias of {alias}, where DNS has no TXT record"
        case Revoked():
            return "the record in DNS revokes the key (p= is empty)"
        case OtherKey(cut):
            return f"the record in DNS has {'only the beginning of this key' if cut else 'another key'}"
        case WrongType(kind, wanted):
            return f"the record in DNS is for k={kind}, and this key is k={wanted}"
        case Malformed(why):
            return f"the record in DNS is no key record: {why}"
        case NotForMail(why):
            return f"the record in DNS has this key, but not for mail: {why}"


def what_to_do(found: Comparison, domain: str, selector: str) -> str | None:  # noqa: PLR0911  (one for each)
    """What mends it; None when all is well."""
    publish = f"publish what `relay dkim show --domain {domain} --selector {selector}` prints"
    match found:
        case Matches():
            return None
        case Trial():
            return "take t=y out of the record when signatures are to count"
        case NotForReports():
            return "take s= out of the record, or name tlsrpt in it too (s=email:tlsrpt)"
        case Several():
            return "leave the one record: its strings are one TXT record, not several"
        case Missing(None):
            return f"{publish}; some panels add the domain to the name themselves, and then it is there twice"
        case Missing(alias):
            return f"{publish}, at {alias}"
        case Revoked():
            return f"make a new key with another selector (`relay dkim keygen --domain {domain}`), take this one out"
        case OtherKey(cut=True):
            return f"{publish}: all of its strings, in one TXT record"
        case OtherKey() | WrongType():
            return f"{publish} in its place, or name the file of the key that DNS has"
        case Malformed() | NotForMail():
            return f"{publish} in its place"


def _compare(text: bytes, key: PublicKey, reports: bool) -> Comparison:
    try:
        record = parse_key_record(text)
    except RecordSyntaxError as error:
        return Malformed(str(error))
    if not record.public:
        return Revoked()
    if record.key_type != key.key_type:
        return WrongType(_shown(record.key_type), key.key_type)
    if record.public != key.octets:
        return _other(record.public, key)
    return _allowed(record, reports)


def _other(public: bytes, key: PublicKey) -> Comparison:
    """The same key in a form that many receivers do not read is told apart: it looks right to whoever compares."""
    if key.octets.endswith(public) and len(key.octets) - len(public) <= _SPKI_HEAD:
        return Malformed("its p= has the key as RSAPublicKey, which many cannot read (RFC 6376, erratum 3017)")
    if public.endswith(key.octets):
        return Malformed("its p= has more than the octets of the key (RFC 8463 section 4)")
    return OtherKey(cut=key.octets.startswith(public))


def _allowed(record: KeyRecord, reports: bool) -> Comparison:
    if record.hashes is not None and _HASH not in record.hashes:
        return NotForMail("h= does not name sha256")
    if not record.is_for(EMAIL) and not (reports and record.is_for(TLS_REPORTS)):
        only = " (it is for TLS reports alone)" if record.is_for(TLS_REPORTS) else ""
        return NotForMail(f"s= names neither email nor *{only}")
    if TESTING in record.flags:
        return Trial()
    return NotForReports() if reports and not record.is_for(TLS_REPORTS) else Matches()


def _shown(text: str) -> str:
    """Words from DNS, which anybody may have written, cut to what fits a line."""
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."
