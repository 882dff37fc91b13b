"""DMARC: the grammar of a record, the walk up the tree of names, and which policy holds for a domain. Pure.

RFC 9989 sections 4.7 (records), 4.10 (tree walk, policy, organizational domain) and 5.3 (tags). DNS is asked in
`relay.lookup.dmarc`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

MAX_QUERIES = 8  # for one domain, however many labels it has
_MAX_RECORD_OCTETS = 8 * 1024
_VERSION = re.compile(rb"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")


class Request(Enum):
    """What the owner of a domain asks of those who get mail that does not pass."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


class Psd(Enum):
    """Whether a domain is a public suffix."""

    YES = "y"
    NO = "n"
    UNSAID = "u"


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A record. `subdomains` and `missing` (subdomains that do not exist) are None where they are as `request`."""

    text: str
    request: Request = Request.NONE
    subdomains: Request | None = None
    missing: Request | None = None
    strict_dkim: bool = False
    strict_spf: bool = False
    psd: Psd = Psd.UNSAID
    testing: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A name of the walk that has a record."""

    domain: str
    record: DmarcRecord


@dataclass(frozen=True, slots=True)
class Dmarc:
    """The policy that holds for a domain: the record, where it stands, and what it asks for this domain."""

    domain: str
    organizational: str
    record: DmarcRecord
    at: str
    request: Request

    @property
    def enforced(self) -> bool:
        """Whether mail that does not pass is to be kept from its readers."""
        return self.request is not Request.NONE and not self.record.testing


@dataclass(frozen=True, slots=True)
class NoDmarc:
    """Neither the domain nor one above it has a record."""

    domain: str


@dataclass(frozen=True, slots=True)
class DmarcUnknown:
    """DNS gave no answer; `reason` is a clause for a person."""

    reason: str


def parse_record(octets: bytes) -> DmarcRecord | None:
    """Read a record; None when it is none. Tags that are wrong or not known count as not there."""
    if len(octets) > _MAX_RECORD_OCTETS or _VERSION.match(octets) is None:
        return None
    text = octets.decode("ascii", "replace")
    tags: dict[str, str] = {}
    for part in text.split(";")[1:]:
        name, _, value = part.partition("=")
        tags.setdefault(name.strip().lower(), value.strip().lower())
    return DmarcRecord(
        text=text,
        request=_request(tags.get("p")) or Request.NONE,
        subdomains=_request(tags.get("sp")),
        missing=_request(tags.get("np")),
        strict_dkim=tags.get("adkim") == "s",
        strict_spf=tags.get("aspf") == "s",
        psd=next((one for one in Psd if one.value == tags.get("psd")), Psd.UNSAID),
        testing=tags.get("t") == "y",
    )


def select_record(records: Iterable[bytes]) -> DmarcRecord | None:
    """The one DMARC record among TXT records; several are as good as none."""
    found = [record for record in map(parse_record, records) if record is not None]
    return found[0] if len(found) == 1 else None


def names_of_walk(domain: str) -> tuple[str, ...]:
    """The domains whose records count for `domain`, itself first."""
    labels = domain.split(".")
    first = max(1, len(labels) - MAX_QUERIES + 1)
    return (domain, *(".".join(labels[at:]) for at in range(first, len(labels))))


def ends_walk(domain: str, step: Step) -> bool:
    """Whether nothing above this record counts for `domain`."""
    return step.record.psd is Psd.NO or (step.record.psd is Psd.YES and step.domain != domain)


def organizational_domain(domain: str, steps: Sequence[Step]) -> str:
    """The domain whose mail is all of one house. `steps`: what the walk from `domain` has found, longest name first."""
    for step in steps:
        if step.record.psd is Psd.NO:
            return step.domain
        if step.record.psd is Psd.YES and step.domain != domain:
            below = domain.removesuffix(f".{step.domain}").rpartition(".")[2]
            return f"{below}.{step.domain}"
    return steps[-1].domain if steps else domain


def policy_of(domain: str, steps: Sequence[Step], *, exists: bool = True) -> Dmarc | NoDmarc:
    """The policy for `domain`: its own, that of its organizational domain, or that of the suffix above.

    `exists`: whether the domain has a place in DNS.
    """
    organizational = organizational_domain(domain, steps)
    at = {step.domain: step for step in steps}
    suffix = next((step for step in steps if step.record.psd is Psd.YES), None)
    step = at.get(domain) or at.get(organizational) or suffix
    if step is None:
        return NoDmarc(domain)
    record = step.record
    request = record.request
    if step.domain != domain:
        request = record.subdomains or request
        if not exists:
            request = record.missing or request
    return Dmarc(domain, organizational, record, step.domain, request)


def _request(value: str | None) -> Request | None:
    return next((one for one in Request if one.value == value), None)
