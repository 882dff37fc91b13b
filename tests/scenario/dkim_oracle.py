"""What others say of our signatures: dkimpy, with the DNS records of two keys of which the tests have the private half.

The keys are in tests/data/dkim and sign for sender.test and bücher.test and the domains below them, and for the notices
of relay.test.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relay.signing.keys import KeyTable, SigningKey, load_key
from relay.signing.signature import Signer
from relay.signing_settings import Canonicalization, DkimKeySettings

KEYS = Path(__file__).parent.parent / "data" / "dkim"
SELECTORS = ("rsa", "ed25519")  # each with a file of this name
DOMAINS = ("sender.test", "xn--bcher-kva.test", "relay.test")
NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)  # verifiers take no signature of the future
_OBSOLETE = re.compile(rb"(?m)^([!-9;-~]+)[ \t]+:")


@dataclass(frozen=True, slots=True)
class Signature:
    """One DKIM-Signature of a message. `verdict`: pass, or why it does not verify."""

    domain: str
    selector: str
    algorithm: str
    canonicalization: str
    signed: tuple[str, ...]  # names of fields in h=, in lower case
    verdict: str


def key_tables() -> list[dict[str, object]]:
    """The keys as the settings have them, [[dkim_key]]."""
    return [
        {"domain": domain, "selector": selector, "key_file": str(KEYS / f"{selector}.pem"), "subdomains": True}
        for domain in DOMAINS
        for selector in SELECTORS
    ]


@cache
def _loaded() -> KeyTable:
    keys = [load_key(DkimKeySettings.model_validate(table)) for table in key_tables()]
    return KeyTable(key for key in keys if isinstance(key, SigningKey))


def signer(canonicalization: Canonicalization) -> Signer:
    """Relay's own, with these keys."""
    return Signer(_loaded(), canonicalization)


def signed(octets: bytes, by: Signer, piece: int = 64 * 1024) -> bytes:
    """The message as it arrives, with its signatures on top, which were made of pieces of this many octets."""
    message = by.message()
    for start in range(0, len(octets), piece):
        if not message.feed(octets[start : start + piece]):
            break
    # SMTP carries whole lines: a message that ends within one arrives with a line end more.
    return message.end(NOW).fields + octets + (b"" if octets.endswith(b"\r\n") else b"\r\n")


def records() -> dict[str, str]:
    """The TXT records of all keys, by name without the last dot. RFC 6376 section 3.6.1, RFC 8463 section 4."""
    made = {}
    for selector in SELECTORS:
        public = load_pem_private_key((KEYS / f"{selector}.pem").read_bytes(), None).public_key()
        if isinstance(public, Ed25519PublicKey):
            octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        else:
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for domain in DOMAINS:
            made[f"{selector}._domainkey.{domain}"] = f"v=DKIM1; k={selector}; p={base64.b64encode(octets).decode()}"
    return made


RECORDS = records()


def signatures(octets: bytes, dns: Mapping[str, str] = RECORDS) -> list[Signature]:
    """What dkimpy says of each signature, from the top of the message down."""
    try:
        checked = dkim.DKIM(_readable(octets))
    except dkim.DKIMException as error:
        raise AssertionError(f"dkimpy cannot read the message: {error}") from error
    count = sum(name.lower() == b"dkim-signature" for name, _ in checked.headers)
    return [_signature(checked, number, dns) for number in range(count)]


def failures(octets: bytes) -> list[str]:
    """What is wrong with a message that both keys were to sign, over its whole length; nothing when all is well."""
    found = [one for one in signatures(octets) if f"{one.selector}._domainkey.{one.domain}" in RECORDS]
    wrong = [f"{one.selector}: {one.verdict}" for one in found if one.verdict != "pass"]
    if sorted(one.selector for one in found) != sorted(SELECTORS):
        wrong.append(f"signed with {[one.selector for one in found]}")
    return wrong


def _signature(checked: dkim.DKIM, number: int, dns: Mapping[str, str]) -> Signature:
    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        record = dns.get(name.decode().rstrip("."))
        return None if record is None else record.encode()

    checked.signature_fields = {}
    try:
        verdict = "pass" if checked.verify(number, dnsfunc=txt) else "no"
    except dkim.DKIMException as error:
        verdict = str(error)
    tags = {name.decode(): value.decode("latin-1") for name, value in checked.signature_fields.items()}
    signed = tuple(name.strip().lower() for name in tags.get("h", "").split(":"))
    canonicalization = tags.get("c", "simple/simple")
    return Signature(tags.get("d", ""), tags.get("s", ""), tags.get("a", ""), canonicalization, signed, verdict)


def _readable(octets: bytes) -> bytes:
    """dkimpy cannot read fields with blanks before the colon, which relaxed canonicalization ignores anyway."""
    end = octets.find(b"\r\n\r\n")
    header = octets if end < 0 else octets[:end]
    return _OBSOLETE.sub(rb"\1:", header) + octets[len(header) :]
