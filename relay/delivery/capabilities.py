"""What an SMTP server says it can do: the answer to EHLO, parsed. Pure.

RFC 5321 section 4.1.1.1 (grammar), RFC 1870 section 3 (SIZE), RFC 9422 (LIMITS), RFC 2852 section 2 (DELIVERBY).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.mail.status import Reply

_MAX_SIZE_DIGITS = 20  # RFC 1870 §4
_MAX_LIMIT_DIGITS = 6  # RFC 9422 §4
_MAX_BY_DIGITS = 9  # RFC 2852 §2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a host will not go beyond; None: it does not say. RFC 9422 section 4."""

    mails: int | None = None  # MAILMAX: transactions in one session
    rcpts: int | None = None  # RCPTMAX: recipients in one transaction
    domains: int | None = None  # RCPTDOMAINMAX: domains of recipients in one session

    @staticmethod
    def of(parameters: list[str]) -> Limits:
        """Read the parameters of LIMITS. RFC 9422 §3: what is not known or makes no sense is passed over."""
        found: dict[str, int] = {}
        for parameter in parameters:
            name, _, value = parameter.upper().partition("=")
            if value.isascii() and value.isdigit() and len(value) <= _MAX_LIMIT_DIGITS and int(value):
                found[name] = min(int(value), found.get(name, int(value)))
        return Limits(found.get("MAILMAX"), found.get("RCPTMAX"), found.get("RCPTDOMAINMAX"))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions that concern us. `size`: None when SIZE is not offered, 0 when it is without a fixed limit.

    `deliver_by`: the fewest seconds with which it takes mail that comes back when it is late, 0 when it does not say;
    None when DELIVERBY is not offered.
    """

    pipelining: bool = False
    size: int | None = None
    eight_bit_mime: bool = False
    smtputf8: bool = False
    enhanced_codes: bool = False
    requiretls: bool = False
    chunking: bool = False
    starttls: bool = False
    dsn: bool = False
    deliver_by: int | None = None
    mt_priority: bool = False
    limits: Limits = Limits()
    name: str = field(default="", compare=False)  # which the host gives itself
    keywords: tuple[str, ...] = field(default=(), compare=False)  # all of them, with their parameters, for people

    @staticmethod
    def of_helo(helo: Reply) -> Capabilities:
        """What a host can do that knows HELO alone: nothing but say its name. RFC 5321 section 3.2."""
        return Capabilities(name=helo.lines[0].partition(" ")[0])

    @staticmethod
    def of(ehlo: Reply) -> Capabilities:
        """Read the answer to EHLO. Its first line greets; each other one is a keyword, in any case, and parameters."""
        offered: dict[str, list[str]] = {}
        for line in ehlo.lines[1:]:
            words = line.split()
            if words:
                offered.setdefault(words[0].upper(), words[1:])
        return Capabilities(
            pipelining="PIPELINING" in offered,
            size=_number(offered["SIZE"], _MAX_SIZE_DIGITS) if "SIZE" in offered else None,
            eight_bit_mime="8BITMIME" in offered,
            smtputf8="SMTPUTF8" in offered,
            enhanced_codes="ENHANCEDSTATUSCODES" in offered,
            requiretls="REQUIRETLS" in offered,
            chunking="CHUNKING" in offered,
            starttls="STARTTLS" in offered,
            dsn="DSN" in offered,
            deliver_by=_least_by(offered["DELIVERBY"]) if "DELIVERBY" in offered else None,
            mt_priority="MT-PRIORITY" in offered,
            limits=Limits.of(offered["LIMITS"]) if "LIMITS" in offered else Limits(),
            name=ehlo.lines[0].partition(" ")[0],
            keywords=ehlo.lines[1:],
        )


def _number(parameters: list[str], most_digits: int) -> int:
    """RFC 1870 §3: no number, or 0, means no fixed limit; so does what is no number."""
    digits = parameters[0] if parameters else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= most_digits else 0


def _least_by(parameters: list[str]) -> int:
    """RFC 2852 §2: a number, and what others may add behind a comma."""
    return _number([parameter.partition(",")[0] for parameter in parameters], _MAX_BY_DIGITS)
