"""The operator's own word on how a destination is reached: what an override says, and which one holds. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from relay.policy.certificate import CertificateSyntaxError, public_key
from relay.policy.observed import TlsVersion


class OverrideLevel(Enum):
    """What an override asks of a session."""

    NONE = "none"  # clear text: STARTTLS is left alone
    OPPORTUNISTIC = "opportunistic"  # TLS when it works, clear text otherwise
    ENCRYPT = "encrypt"  # TLS, no matter whose
    VERIFY = "verify"  # a certificate of a trusted authority for the host's name, or for one of `names`
    DANE = "dane"  # what the TLSA records ask for, if there are any
    DANE_ONLY = "dane-only"  # a match with a TLSA record; a host without usable ones is not used
    FINGERPRINT = "fingerprint"  # one of these certificates or keys, whoever issued it


class OverrideMode(Enum):
    """How an override and what the recipient's domain publishes go together."""

    RAISE = "raise"  # both hold
    REPLACE = "replace"  # the override holds; what is published is checked and reported only


@dataclass(frozen=True, slots=True)
class Override:
    """A local rule for some destinations.

    `domains` are recipient domains, `hosts` mail hosts (next hops, MX hosts, addresses), in lower case; `.example.org`
    stands for everything below example.org. `minimum`: the oldest TLS version that counts where TLS is asked for.
    `fingerprints`: SHA-256 of a certificate or of its public key. It is no longer in force from `until` (aware UTC) on.
    """

    domains: tuple[str, ...]
    hosts: tuple[str, ...]
    level: OverrideLevel
    mode: OverrideMode
    reason: str
    owner: str
    until: datetime
    minimum: TlsVersion | None = None
    names: tuple[str, ...] = ()
    fingerprints: tuple[bytes, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All destinations that it names."""
        return (*self.domains, *self.hosts)

    @property
    def vouches(self) -> bool:
        """Whether it says itself who the host is, so that no answer of DNS has to be believed for that."""
        return self.level is OverrideLevel.FINGERPRINT or (self.level is OverrideLevel.VERIFY and bool(self.names))

    @property
    def authenticates(self) -> bool:
        """Whether a session that satisfies it has proven who the host is."""
        return self.level in (OverrideLevel.VERIFY, OverrideLevel.DANE_ONLY, OverrideLevel.FINGERPRINT)


class Overrides:
    """All overrides of the settings."""

    def __init__(self, entries: Iterable[Override] = ()) -> None:
        self.entries = tuple(entries)

    def find(self, domain: str, host: str, now: datetime) -> Override | None:
        """The one that holds for mail to `domain` (as Address.domain) at `host`, if any.

        The recipient's domain goes before the host, a whole name before `.parent`, a longer parent before a shorter.
        Those that have ended are passed over. Of two for one key the first holds.
        """
        current = [entry for entry in self.entries if now < entry.until]
        for name, keys_of in ((domain, _domains), (host, _hosts)):
            for key in patterns_of(name):
                found = next((entry for entry in current if key in keys_of(entry)), None)
                if found is not None:
                    return found
        return None


def fits(fingerprints: tuple[bytes, ...], leaf: bytes) -> bool:
    """Whether `leaf` (DER) or its public key has one of these SHA-256 digests."""
    if hashlib.sha256(leaf).digest() in fingerprints:
        return True
    try:
        return hashlib.sha256(public_key(leaf)).digest() in fingerprints
    except CertificateSyntaxError:
        return False


def _domains(entry: Override) -> tuple[str, ...]:
    return entry.domains


def _hosts(entry: Override) -> tuple[str, ...]:
    return entry.hosts


def patterns_of(name: str) -> list[str]:
    """mx.example.org, .example.org, .org; an address has no parents."""
    labels = name.split(".")
    if name.startswith("[") or labels[-1].isdigit():  # IPv6 has no dots, or ends as IPv4 does
        return [name]
    return [name, *("." + ".".join(labels[start:]) for start in range(1, len(labels)))]
