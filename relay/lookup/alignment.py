"""What DNS says of mail that we send for a From domain: SPF, DMARC, our keys. The verdict is `relay.policy.alignment`.

Strangers name the domains, so the whole is limited in time; SPF and the walk of DMARC have limits of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.guard import AddressGuard
from relay.lookup.dkim import compare_with_dns
from relay.lookup.dmarc import find_organizational_domain, find_policy
from relay.lookup.own_addresses import OwnAddresses, own_addresses
from relay.lookup.resolver import LookupFailed, Resolver
from relay.lookup.spf import Identity, check_host
from relay.mail.address import Address
from relay.policy import dkim_match
from relay.policy.alignment import Facts, KeySeen, KeyState
from relay.policy.dmarc import DmarcUnknown
from relay.policy.source import Sources
from relay.policy.spf import Spf
from relay.signing.keys import Algorithm, KeyTable, SigningKey

LIMIT_SECONDS = 20.0
_MOST_KEYS = 10  # of one domain
_SMART_HOST = "a smart host sends the mail on, and its addresses count: give them in delivery.public_addresses"
_NO_WAY_OUT = "this machine has no address that leads to the Internet"


@dataclass(frozen=True, slots=True)
class Asked:
    """The mail that is asked about: the domain in From, the envelope sender, and whether a smart host sends it on."""

    domain: str
    sender: Address | None
    smart_host: bool = False


class AlignmentFinder:
    """Finds the facts. `keys` gives the keys that sign now; `public`: delivery.public_addresses."""

    def __init__(
        self,
        resolver: Resolver,
        sources: Sources,
        public: Sequence[str],
        guard: AddressGuard,
        keys: Callable[[], KeyTable],
    ) -> None:
        self._resolver = resolver
        self._sources = sources
        self._public = tuple(public)
        self._guard = guard
        self._keys = keys

    async def find(self, asked: Asked) -> Facts:
        """All that the verdict follows from. Takes 20 seconds at most."""
        source = self._sources.choose(asked.sender.domain if asked.sender is not None else None)
        envelope = _identity(asked.sender, source.hostname)
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                return await self._find(asked, envelope, self._own(asked))
        except TimeoutError:
            late = DmarcUnknown(f"DNS took longer than {LIMIT_SECONDS:.0f} seconds")
            return Facts(asked.domain, envelope.domain, asked.sender is None, late)

    def _own(self, asked: Asked) -> OwnAddresses:
        if asked.smart_host:
            return OwnAddresses(self._public)
        source = self._sources.choose(asked.sender.domain if asked.sender is not None else None)
        return own_addresses(source, self._public, self._guard)

    async def _find(self, asked: Asked, envelope: Identity, own: OwnAddresses) -> Facts:
        dmarc, spf, keys, house = await asyncio.gather(
            find_policy(self._resolver, asked.domain),
            self._spf(own.known, envelope),
            self._keys_of(asked.domain),
            self._house(envelope.domain, asked.domain),
        )
        no_addresses = None
        if not own.known:
            no_addresses = _SMART_HOST if asked.smart_host else _unknown(own.hidden)
        return Facts(
            domain=asked.domain,
            envelope=envelope.domain,
            null_sender=asked.sender is None,
            dmarc=dmarc,
            envelope_house=house,
            spf=spf,
            no_addresses=no_addresses,
            hidden=own.hidden,
            keys=keys,
        )

    async def _spf(self, addresses: Sequence[str], envelope: Identity) -> tuple[tuple[str, Spf], ...]:
        """One after another: they ask for the same records."""
        return tuple([(one, await check_host(self._resolver, one, envelope)) for one in addresses])

    async def _house(self, domain: str, of: str) -> str | None:
        """The organizational domain, where it is needed: the same name belongs to itself, and an address to nobody."""
        if domain == of or domain.startswith("["):
            return domain
        found = await find_organizational_domain(self._resolver, domain)
        return None if isinstance(found, DmarcUnknown) else found

    async def _keys_of(self, domain: str) -> tuple[KeySeen, ...]:
        keys = self._keys().keys_for(domain)[:_MOST_KEYS]
        return tuple([await self._seen(key, domain) for key in keys])

    async def _seen(self, key: SigningKey, domain: str) -> KeySeen:
        house = await self._house(key.domain, domain)
        found = await compare_with_dns(self._resolver, key, reports=False)
        algorithm = key.algorithm.value
        if isinstance(found, LookupFailed):
            return KeySeen(key.domain, key.selector, algorithm, KeyState.UNKNOWN, found.reason, house=house)
        good = dkim_match.may_verify(found)
        words, remedy = dkim_match.in_words(found), dkim_match.what_to_do(found, key.domain, key.selector)
        return KeySeen(
            domain=key.domain,
            selector=key.selector,
            algorithm=algorithm,
            state=KeyState.MATCHES if good else KeyState.DIFFERS,
            words=words,
            remedy=remedy,
            house=house,
            weak=_weak(key, found, words) if good else None,
        )


def _identity(sender: Address | None, hostname: str) -> Identity:
    """RFC 7208 section 2.4."""
    if sender is None:
        return Identity("postmaster", hostname, hostname)
    return Identity(sender.plain_local, sender.domain, hostname)


def _unknown(hidden: Sequence[str]) -> str:
    seen = "; ".join(hidden) or _NO_WAY_OUT
    return f"our public address is not known ({seen})"


def _weak(key: SigningKey, found: dkim_match.Comparison, words: str) -> str | None:
    if isinstance(found, dkim_match.Trial | dkim_match.Several):
        return words
    return "many receivers cannot verify Ed25519" if key.algorithm is Algorithm.ED25519_SHA256 else None
