"""Addresses as an operator names many of them at once, as values and as a condition of SQL. Pure; no SQL is run here.

The letters of ASCII compare without regard to case, in the local part too: an operator who looks for `Jo@` means `jo@`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from relay.mail.address import Address, AddressError, parse_address, parse_domain
from relay.policy.routing import NULL_SENDER

_LONGEST = 320

Condition = tuple[str, tuple[Any, ...]]
"""A condition of SQL and its parameters. What people typed is only ever in the parameters."""


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """Some addresses. `local` and `domain` may have `*` for anything; None: whatever it is. `null`: only `<>`.

    `domain` is as Address.domain; with `*` in it, part of such a one.
    """

    local: str | None = None
    domain: str | None = None
    null: bool = False

    def matches(self, address: Address | None) -> bool:
        """Whether `address` (None: the null sender) is one of them."""
        if address is None or self.null:
            return address is None and self.null
        return (self.domain is None or like(self.domain, address.domain)) and (
            self.local is None or like(self.local, address.local)
        )

    def condition(self, address: str, domain: str) -> Condition:
        """The same for two columns of ours, the address as it came and its Address.domain."""
        if self.null:
            return f"{address} IS NULL", ()
        parts = [f"{address} IS NOT NULL"]
        values: list[Any] = []
        if self.domain is not None:
            sql, more = like_condition(self.domain, domain)
            parts.append(sql)
            values += more
        if self.local is not None:
            # All that is no @ is taken off the end, which leaves the local part with its @: a domain has none. Without
            # any @ it is the bare `postmaster` (RFC 5321 section 4.1.1.3), of which nothing is left.
            local = f"coalesce(nullif(rtrim({address}, replace({address}, '@', '')), ''), {address} || '@')"
            sql, more = like_condition(f"{self.local}@", local)
            parts.append(sql)
            values += more
        return f"({' AND '.join(parts)})", tuple(values)

    def __str__(self) -> str:
        if self.null:
            return NULL_SENDER
        if self.domain == "":
            return self.local or ""
        return f"{self.local or ''}@{self.domain or '*'}"


def parse_pattern(text: str) -> AddressPattern:
    """Read `<>`, `@example.org`, `jo@example.org`, `*@*.example.org`, `jo*@example.org` or `postmaster`.

    Raises ValueError, in words that go after the name of the field, for anything else.
    """
    if text == NULL_SENDER:
        return AddressPattern(null=True)
    if len(text) > _LONGEST:
        raise ValueError(f"has more than {_LONGEST} characters")
    local, at, domain = text.rpartition("@")
    if not at:
        if text.lower() == "postmaster":
            return AddressPattern("postmaster", "")
        raise ValueError(
            f"must be an address or a domain with an @ in front; * is anything, as in news*@* (got {text!r})"
        )
    if local and "*" not in text:
        try:
            address = parse_address(text.encode("utf-8", "surrogateescape"))
        except AddressError as error:
            raise ValueError(f"is no address: {error}") from None
        return AddressPattern(address.local, address.domain)
    whole = parse_domain_pattern(domain)
    return AddressPattern(None if local in ("", "*") else local, whole.domain)


def parse_domain_pattern(text: str) -> AddressPattern:
    """Read `example.org` or `*.example.org`. Raises ValueError for anything else."""
    if text == "*":
        return AddressPattern()
    if "*" in text and "@" not in text and len(text) <= _LONGEST:
        return AddressPattern(domain=text.lower())
    try:
        return AddressPattern(domain=parse_domain(text.removesuffix(".")))
    except AddressError as error:
        raise ValueError(f"is no domain: {error}") from None


def like(pattern: str, text: str) -> bool:
    """Whether `text` is what `pattern` says, `*` being anything; the letters of ASCII without regard to case."""
    return _compiled(pattern).fullmatch(text) is not None


def like_condition(pattern: str, column: str) -> Condition:
    """The same for a column of ours."""
    return f"{column} LIKE ? ESCAPE '\\'", (_escaped(pattern),)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\*+", pattern)
    return re.compile(".*".join(map(re.escape, parts)), re.IGNORECASE | re.ASCII | re.DOTALL)


def _escaped(pattern: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", pattern).replace("*", "%")
