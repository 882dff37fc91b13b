"""What the header of a message or of one of its parts says of its body. Pure.

RFC 2045 sections 5 (Content-Type) and 6 (Content-Transfer-Encoding), RFC 2046 sections 5.1 and 5.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

# RFC 5322 §4.5 lets old mail have blanks before the colon; for some readers the header ends there.
_FIELD = re.compile(rb"([!-9;-~]+):(.*)\Z", re.DOTALL)
_TOKEN = rb"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
_TYPE = re.compile(rb"\s*(" + _TOKEN + rb")\s*/\s*(" + _TOKEN + rb")\s*(?=;|\Z)")
# Values with = : / ? in them are often sent without the quotes that they need; all readers take them.
_PARAMETER = re.compile(rb';\s*(?:([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"()<>@,\\\[\]]+))\s*)?', re.DOTALL)
_SPECIAL = re.compile(rb'\\.|[()"]', re.DOTALL)
_BOUNDARY = re.compile(rb"[ -~]{0,199}[!-~]\Z")  # RFC 2046 §5.1.1 says 70 octets of fewer kinds; not all keep to it
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # for some readers a line ends at one
_UNREADABLE = "a part has a Content-Type that cannot be read"


class Kind(Enum):
    """What stands in a body: octets, or parts, or a message."""

    LEAF = "leaf"
    MULTIPART = "multipart"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in lower case, its value unfolded, and its octets as they came."""

    name: bytes
    value: bytes
    octets: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a message or part.

    `number` counts the heads of a message from 0. `messages`: the numbers of the messages around it, itself among them
    when it is one. `blank`: the empty line that ended it, or nothing. `encoding`: in lower case, 7bit where the header
    says none. `is_text`: its type is text. `fixed`: why the body must stay as it is, or "". `boundary`: a multipart's.
    `digest`: it is a multipart/digest.
    """

    number: int
    messages: tuple[int, ...]
    fields: tuple[Field, ...]
    blank: bytes
    kind: Kind
    encoding: bytes
    is_text: bool
    fixed: str
    boundary: bytes
    digest: bool

    def has(self, name: bytes) -> bool:
        """Whether there is a field of this name (in lower case)."""
        return any(field.name == name for field in self.fields)


def split_fields(lines: Sequence[bytes]) -> tuple[tuple[Field, ...], bytes] | None:
    """The fields of a header and the empty line after it; None when a line belongs to no field."""
    raw: list[list[bytes]] = []
    blank = b""
    for line in lines:
        if line in (b"\r\n", b""):
            blank = line
        elif line[:1] not in b" \t":
            raw.append([line])
        elif raw:
            raw[-1].append(line)
        else:
            return None
    fields = []
    for field in raw:
        octets = b"".join(field)
        match = _FIELD.match(octets.replace(b"\r\n", b""))
        if match is None:
            return None
        fields.append(Field(match[1].lower(), match[2], octets))
    return tuple(fields), blank


def read_head(
    found: tuple[tuple[Field, ...], bytes], number: int, messages: tuple[int, ...], *, digest: bool
) -> Head | str:
    """What the fields say, or why that cannot be known. `digest`: a part of a multipart/digest."""
    fields, blank = found
    values: dict[bytes, bytes] = {}
    for field in fields:
        if field.name in (b"content-type", b"content-transfer-encoding"):
            if field.name in values:
                return "a header has two Content-Type or two Content-Transfer-Encoding fields"
            if _CONTROL.search(field.value):
                return "a Content-Type or Content-Transfer-Encoding field has a control character"
            values[field.name] = without_comments(field.value)
    encoding = values.get(b"content-transfer-encoding", b"").strip().lower() or b"7bit"
    # RFC 2046 §5.1.5: in a digest the parts are messages unless they say otherwise.
    kind, fixed, boundary, subtype = _kind(
        values.get(b"content-type", b"message/rfc822" if digest else b"text/plain"), encoding
    )
    return Head(
        number=number,
        messages=messages,
        fields=fields,
        blank=blank,
        kind=kind,
        encoding=encoding,
        is_text=subtype.startswith(b"text/"),
        fixed=fixed,
        boundary=boundary,
        digest=subtype == b"multipart/digest",
    )


def _kind(value: bytes, encoding: bytes) -> tuple[Kind, str, bytes, bytes]:
    """The kind, why its body is fixed, the boundary, and the type and subtype."""
    match = _TYPE.match(value)
    if match is None:
        return Kind.LEAF, _UNREADABLE, b"", b""
    main, sub = match[1].lower(), match[2].lower()
    full = main + b"/" + sub
    if encoding not in (b"7bit", b"8bit", b"binary"):
        # RFC 2045 §6.4: multipart and message may not be encoded. If they are, they are left alone, as a leaf is.
        return Kind.LEAF, "a part is labelled as encoded and has 8-bit octets", b"", full
    if full in (b"multipart/signed", b"multipart/encrypted"):
        # RFC 1847 §2.1: what is signed had to be 7-bit from the start; another encoding breaks the signature.
        return Kind.LEAF, "a signed or encrypted part cannot be changed", b"", full
    if main == b"multipart":
        boundary = _boundary(value[match.end() :])
        if boundary is None:
            return Kind.LEAF, _UNREADABLE, b"", full
        return Kind.MULTIPART, "", boundary, full
    if full == b"message/rfc822":
        return Kind.MESSAGE, "", b"", full
    if main == b"message":
        # RFC 2046 §5.2.2, §5.2.3: partial and external-body are 7-bit; RFC 2045 §6.4: no type of message is encoded.
        return Kind.LEAF, "a part of a message type cannot be encoded", b"", full
    return Kind.LEAF, "", b"", full


def _boundary(parameters: bytes) -> bytes | None:
    """The parameter boundary of a multipart; None when it is not there once and in good form."""
    found = None
    at = 0
    while at < len(parameters):
        match = _PARAMETER.match(parameters, at)
        if match is None:
            return None
        at = match.end()
        name = (match[1] or b"").lower()
        if name.startswith(b"boundary*"):  # RFC 2231: not all readers put it together
            return None
        if name == b"boundary":
            if found is not None:
                return None
            found = re.sub(rb"\\(.)", rb"\1", match[2]) if match[2] is not None else match[3]
    return found if found is not None and _BOUNDARY.match(found) else None


def without_comments(value: bytes) -> bytes:
    """A structured field's value with a blank in the place of each comment (RFC 5322 section 3.2.2)."""
    kept: list[bytes] = []
    depth, quoted, start = 0, False, 0
    for match in _SPECIAL.finditer(value):
        octet = match[0]
        if octet == b'"' and not depth:
            quoted = not quoted
        elif octet == b"(" and not quoted:
            if not depth:
                kept += (value[start : match.start()], b" ")
            depth += 1
        elif octet == b")" and depth:
            depth -= 1
            start = match.end()
    return b"".join(kept) + (value[start:] if not depth else b"")
