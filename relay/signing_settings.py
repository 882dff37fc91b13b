"""Proof of origin: the sections [dkim] and [alignment] of the settings file, and one table [[dkim_key]]."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, Field

from relay.setting_types import GivenPath, HostName, Section, Written, dns_name


class Canonicalization(Enum):
    """How header and body are brought into one form before they are signed. RFC 6376 section 3.4."""

    RELAXED_RELAXED = "relaxed/relaxed"
    RELAXED_SIMPLE = "relaxed/simple"
    SIMPLE_RELAXED = "simple/relaxed"
    SIMPLE_SIMPLE = "simple/simple"


class OnMismatch(Enum):
    """What becomes of signatures with a key that DNS does not have."""

    SIGN = "sign"
    SKIP = "skip"


class AlignmentCheck(Enum):
    """What becomes of mail that will fail DMARC."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


def selector_name(value: str) -> str:
    """A selector in lower case: any labels, a date such as 20260101 too. RFC 6376 section 3.1. Raises ValueError."""
    try:
        name = dns_name(value)
    except ValueError:
        name = ""
    if not name or "_domainkey" in name.split("."):
        raise ValueError('must be a selector such as relay1, without the "._domainkey." of its record')
    return name


Selector = Annotated[str, AfterValidator(selector_name), Written("selector")]


class DkimSettings(Section):
    """How mail is signed."""

    canonicalization: Canonicalization = Field(
        default=Canonicalization.RELAXED_RELAXED,
        description="header/body: relaxed survives changed spaces",
    )
    on_mismatch: OnMismatch = Field(
        default=OnMismatch.SIGN,
        description="with a key that DNS does not have: sign and tell, or skip that signature and tell",
    )


class DkimKeySettings(Section):
    """A key that signs the mail of one From domain; several for one domain make several signatures."""

    domain: HostName = Field(description="domain of From whose mail it signs, and of the DNS record")
    selector: Selector = Field(description="name of the DNS record, before ._domainkey.DOMAIN")
    key_file: GivenPath = Field(description="PEM file of the private key (RSA or Ed25519)")
    subdomains: bool = Field(
        default=False, description="sign for domains below it too, unless they have a key of their own"
    )


class AlignmentSettings(Section):
    """Whether mail that comes in will pass DMARC."""

    check: AlignmentCheck = Field(
        default=AlignmentCheck.WARN,
        description="mail whose From domain has a DMARC policy that it will fail: off (not looked at), warn, refuse",
    )


def signs_for(keys: Iterable[DkimKeySettings], domain: str) -> bool:
    """Whether some of the keys sign mail from `domain` (lower-case A-labels)."""
    return any(domain == key.domain or (key.subdomains and domain.endswith(f".{key.domain}")) for key in keys)
