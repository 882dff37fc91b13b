"""From which address of this machine, and under which name, mail of a sender goes out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.policy.override import patterns_of


@dataclass(frozen=True, slots=True)
class Source:
    """Addresses to send from, one for each family (empty: the system chooses), and the name for EHLO.

    `rule`: the sender domains of the [[source]] that it comes from; empty: from the settings for all mail.
    """

    ipv4: str = ""
    ipv6: str = ""
    hostname: str = ""
    rule: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[tuple[str, str], ...]:
        """The addresses that are given, each with its setting."""
        return tuple((one, self.setting(one)) for one in (self.ipv4, self.ipv6) if one)

    def address(self, towards: str) -> str:
        """The address to send from to this one; empty: the system chooses."""
        return self.ipv6 if ":" in towards else self.ipv4

    def setting(self, towards: str) -> str:
        """The setting that `address` comes from, for people. Only the family of `towards` counts."""
        family = "ipv6" if ":" in towards else "ipv4"
        return f"{family} of [[source]] for {', '.join(self.rule)}" if self.rule else f"delivery.source_{family}"


class Sources:
    """All sources of the settings (`all`). `default` is for mail that no entry of `entries` is for."""

    def __init__(self, default: Source, entries: Iterable[Source] = ()) -> None:
        self.all = (default, *entries)
        self._default = default
        self._by_domain = {domain: entry for entry in self.all for domain in entry.rule}

    def choose(self, sender_domain: str | None) -> Source:
        """The source for mail from this domain (as Address.domain); None: the null sender, which gets the default.

        A whole name goes before `.parent`, a longer parent before a shorter.
        """
        if sender_domain is None or not self._by_domain:
            return self._default
        found = (self._by_domain[key] for key in patterns_of(sender_domain) if key in self._by_domain)
        return next(found, self._default)
