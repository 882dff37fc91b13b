"""A verifier after the words of RFC 6376, slow and plain, for tests: nothing in it is shared with what signs.

`verify` takes the octets that arrived and the public keys by selector and domain.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

Keys = Mapping[tuple[str, str], bytes]  # selector and domain, to the octets of p=


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 section 3.4.4, line by line."""
    lines = [re.sub(rb"[ \t]+\Z", b"", re.sub(rb"[ \t]+", b" ", line)) for line in lines_of(body)]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def simple_body(body: bytes) -> bytes:
    """RFC 6376 section 3.4.3, line by line."""
    lines = lines_of(body)
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines) or b"\r\n"


def lines_of(body: bytes) -> list[bytes]:
    """The lines without their CRLF; the last one may lack it."""
    lines = body.split(b"\r\n")
    return lines if lines[-1] else lines[:-1]


def relaxed_field(field: bytes) -> bytes:
    """RFC 6376 section 3.4.2, step by step; `field` and the result without the last CRLF."""
    name, _, value = field.partition(b":")
    value = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b""))
    return name.lower().strip(b" \t") + b":" + value.strip(b" ")


def split(message: bytes) -> tuple[list[bytes], bytes]:
    """The fields, each with its folds and without its last CRLF, and the body."""
    if message.startswith(b"\r\n"):
        return [], message[2:]
    header, _, body = message.partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", header.removesuffix(b"\r\n")), body


def name_of(field: bytes) -> bytes:
    """The name in lower case."""
    return field.partition(b":")[0].strip(b" \t").lower()


def tags_of(field: bytes) -> dict[str, str]:
    """RFC 6376 section 3.2; all blanks are taken out, which no tag of ours minds."""
    value = re.sub(r"\s+", "", field.partition(b":")[2].decode("ascii"))
    return dict(tag.split("=", 1) for tag in value.removesuffix(";").split(";"))


def signed_octets(fields: list[bytes], signature: bytes) -> bytes:
    """RFC 6376 section 3.7: what the signature is over."""
    relaxed = tags_of(signature)["c"].startswith("relaxed")
    rest = [field for field in fields if field is not signature]
    chosen = []
    for name in tags_of(signature)["h"].lower().split(":"):
        for number in reversed(range(len(rest))):
            if name_of(rest[number]) == name.encode():
                field = rest.pop(number)
                chosen.append((relaxed_field(field) if relaxed else field) + b"\r\n")
                break
    own = re.sub(rb"([:;]\s*b=)[^;]*", rb"\1", signature)
    return b"".join(chosen) + (relaxed_field(own) if relaxed else own)


def verify(message: bytes, keys: Keys) -> list[tuple[str, str, str]]:
    """Selector, domain and result of each DKIM-Signature field, from top to bottom: "pass", or what is wrong."""
    fields, body = split(message)
    found = []
    for field in fields:
        if name_of(field) == b"dkim-signature":
            tags = tags_of(field)
            found.append((tags["s"], tags["d"], _result(field, fields, body, keys[tags["s"], tags["d"]])))
    return found


def _result(signature: bytes, fields: list[bytes], body: bytes, public: bytes) -> str:
    tags = tags_of(signature)
    canonical = relaxed_body if tags["c"].endswith("/relaxed") else simple_body
    if base64.b64decode(tags["bh"], validate=True) != hashlib.sha256(canonical(body)).digest():
        return "body"
    octets, value = signed_octets(fields, signature), base64.b64decode(tags["b"], validate=True)
    try:
        if tags["a"] == "ed25519-sha256":
            Ed25519PublicKey.from_public_bytes(public).verify(value, hashlib.sha256(octets).digest())
        else:
            key = load_der_public_key(public)
            assert isinstance(key, RSAPublicKey)
            key.verify(value, octets, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return "header"
    return "pass"
