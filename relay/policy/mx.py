"""Where a domain's mail goes: the order of its hosts. RFC 5321 section 5.1, RFC 7505 (null MX)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.outcome import Deferred, Failed
from relay.mail.status import Kind


@dataclass(frozen=True, slots=True)
class MxHost:
    """A host that takes mail for a domain, and what is known of its addresses and their DNSSEC state.

    `name` is as the MX record (or the settings) give it, lower case, no final dot. `mx_secure` says that the answer
    which named it was validated. `expanded` is the name after CNAMEs (RFC 7672 section 2.2.2). `secure` says that the
    addresses, aliases included, were validated; `alias_secure` that at least the name's own zone was, so that a TLSA
    record at the original name can be believed when the alias leads out of signed space.
    """

    name: str
    preference: int = 0
    mx_secure: bool = False
    addresses: tuple[str, ...] = ()
    expanded: str = ""
    secure: bool = False
    alias_secure: bool = False


@dataclass(frozen=True, slots=True)
class MailHosts:
    """The domain takes mail at these hosts (addresses not looked up yet)."""

    domain: str
    hosts: tuple[MxHost, ...]


@dataclass(frozen=True, slots=True)
class NullMx:
    """The domain says that it takes no mail. RFC 7505."""

    domain: str


@dataclass(frozen=True, slots=True)
class NoSuchDomain:
    """DNS says for sure that the domain does not exist, or exists with neither MX nor address."""

    domain: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationLookupFailed:
    """DNS did not answer, or the answer failed DNSSEC validation (`bogus`): nothing is known, so nothing is tried."""

    domain: str
    reason: str
    bogus: bool = False


Destination = MailHosts | NullMx | NoSuchDomain | DestinationLookupFailed


def order(hosts: Sequence[MxHost], draws: Sequence[float]) -> tuple[MxHost, ...]:
    """The hosts by preference; within one preference in the order of `draws`, one random number for each host.

    RFC 5321 section 5.1: hosts of equal preference are tried in random order.
    """
    ranked = sorted(zip(hosts, draws, strict=True), key=lambda pair: (pair[0].preference, pair[1]))
    return tuple(host for host, _ in ranked)


def nearer(hosts: Sequence[MxHost], own_name: str | None) -> tuple[MxHost, ...]:
    """The hosts that are better than we are ourselves, or all when we are not among them.

    RFC 5321 section 5.1: a server that is listed must not send to itself, nor to hosts that it is preferred to.
    """
    own = min((host.preference for host in hosts if host.name == own_name), default=None)
    return tuple(host for host in hosts if own is None or host.preference < own)


def conclude(notes: Sequence[Deferred | Failed]) -> Deferred | Failed:
    """What one recipient is told when no host took the message: `notes` holds what each host that was tried said.

    A permanent refusal of one host stays soft while another says "later": any deferral defers; all permanent fails.
    Among equals the one that tells most is kept: a server's own words, then a policy's, then a broken connection;
    then the earliest, which came from the most preferred host. Raises ValueError when there are no notes.
    """
    deferrals = [note for note in notes if note.status.kind is Kind.TEMPORARY]
    return max(deferrals or notes, key=_weight)


def _weight(note: Deferred | Failed) -> tuple[bool, bool]:
    """Whether it has a server's own words; where it has none, whether it has a policy's."""
    by_policy = note.status.subject == 7 or (note.status.subject, note.status.detail) == (4, 8)
    return note.reply is not None, note.reply is None and by_policy
