"""DANE for SMTP: which TLSA records are usable, and whether a chain matches one. RFC 7672, RFC 7671, RFC 6698."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """A TLSA record as published. RFC 6698 section 2.1."""

    usage: int
    selector: int
    matching_type: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching_type} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class NoTlsa:
    """There is none: DANE does not apply. `reason` says why (securely absent, zone not signed, resolver not trusted)."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnusableTlsa:
    """Records there are, but none that SMTP can use: TLS is mandatory, unauthenticated. RFC 7672 section 2.2."""

    base: str  # the name the records were found at, without the port labels: the TLSA base domain
    records: tuple[TlsaRecord, ...]


@dataclass(frozen=True, slots=True)
class UsableTlsa:
    """At least one usable record: a session must match one. RFC 7672 section 2.2.

    `base` is the TLSA base domain, sent as SNI (section 8.1); `names` are the reference identifiers that a DANE-TA
    certificate may carry (section 3.2.2), in lower case, without final dots.
    """

    base: str
    names: tuple[str, ...]
    records: tuple[TlsaRecord, ...]  # the usable ones only


@dataclass(frozen=True, slots=True)
class TlsaLookupFailed:
    """The lookup failed at a signed step: whether DANE applies can't be known. RFC 7672 section 2.1.2."""

    reason: str
    bogus: bool = False


TlsaResult = NoTlsa | UnusableTlsa | UsableTlsa | TlsaLookupFailed


def usable(record: TlsaRecord) -> bool:
    """Whether SMTP can use it: usage 2 or 3, a known selector and matching type, data of the right length."""
    raise NotImplementedError


def matches(tlsa: UsableTlsa, chain: tuple[bytes, ...], now: datetime) -> str | None:
    """Whether `chain` (DER, leaf first, as the server sent it) matches a record: None if so, else why not.

    Usage 3 compares the leaf and looks at neither names nor dates (RFC 7672 section 3.1.1); usage 2 finds the anchor
    in the chain or in the record, then checks path, dates and names (section 3.1.2).
    """
    raise NotImplementedError
