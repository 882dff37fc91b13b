"""The DKIM-Signature fields of one message. Pure: the time is an argument.

A message goes through in pieces of any size; only its header is kept. RFC 6376 sections 3.5, 3.7 and 5, RFC 8463.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from relay.signing.authors import domains_of
from relay.signing.canonical import BodyHash, fields_of
from relay.signing.fields import MAX_COLUMNS, SIGNED, choice
from relay.signing.keys import KeyTable, SigningKey
from relay.signing_settings import Canonicalization

MAX_HEADER_OCTETS = 1 << 20  # of a message that is signed
MAX_FIELDS = 1000  # that one signature is over
MAX_DOMAINS = 10  # whose keys sign one message; and so many From fields are read, from the last
_SIMPLE_HEADER = {form: Canonicalization(f"simple/{form.value.partition('/')[2]}") for form in Canonicalization}
_TITLE, _CANONICAL_TITLE = b"DKIM-Signature: ", b"dkim-signature:"
_FOLD = b"\r\n "
# Blanks to many programs that verify, though not to RFC 6376 §2.8, so that "relaxed" means two things: VT and FF
# anywhere, and at the ends of a field what Unicode calls white space.
_OTHER_BLANK = rb"(?:\xc2[\x85\xa0]|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)"
_OTHER_BLANKS = re.compile(rb"[\x0b\x0c]")
_BLANKS_AT_END = re.compile(
    rb"(?m)^[!-9;-~]+[ \t]*:[ \t\r\n]*" + _OTHER_BLANK + rb"|" + _OTHER_BLANK + rb"[ \t\r\n]*(?:\r\n(?![ \t])|\Z)"
)
_FIRST_COLUMNS, _COLUMNS = 75, 77  # of the signature itself: behind ` b=`, and behind the space of the next lines


@dataclass(frozen=True, slots=True)
class Signed:
    """What came of signing one message.

    `fields`: whole header fields, to be put in front of the message; empty when there is nobody who signs it.
    `keys`: that made them. `problem`: why one of its signatures, or all of them, could not be made.
    """

    fields: bytes = b""
    keys: tuple[SigningKey, ...] = ()
    problem: str | None = None


class Signer:
    """Signs messages with the keys of their From domains.

    `keys` may be replaced at any time: a message keeps those that it began with. `usable`: whether one may sign now.
    """

    def __init__(
        self,
        keys: KeyTable,
        canonicalization: Canonicalization = Canonicalization.RELAXED_RELAXED,
        usable: Callable[[SigningKey], bool] = lambda _: True,
    ) -> None:
        self.keys = keys
        self.canonicalization = canonicalization
        self._usable = usable

    def message(self) -> SigningMessage:
        """Begin with a message."""
        return SigningMessage(self)

    def keys_of(self, domains: Sequence[str]) -> tuple[SigningKey, ...]:
        """The keys that sign for these domains of a From field now, each once."""
        if len(domains) == 1:
            return tuple(filter(self._usable, self.keys.keys_for(domains[0])))
        once = list(dict.fromkeys(domains))[:MAX_DOMAINS]
        found = dict.fromkeys(key for domain in once for key in self.keys.keys_for(domain))
        return tuple(filter(self._usable, found))


class SigningMessage:
    """One message on its way through: each piece through `feed` as long as it says so, then `end`, once."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._form = signer.canonicalization
        self._body = BodyHash(self._form.value.endswith("/relaxed"))
        self._start: bytearray | None = None  # of a header that has not ended yet
        self._in_header = True
        self._keys: tuple[SigningKey, ...] = ()
        self._names_tag = b""
        self._chosen = b""
        self._problem: str | None = None

    def feed(self, piece: bytes) -> bool:
        """Takes the next octets of the message. Returns whether the rest counts: if not, it need not be read."""
        if self._in_header:
            piece = self._look_for_end(piece)
        if self._keys:
            self._body.feed(piece)
        return self._in_header or bool(self._keys)

    def end(self, now: datetime) -> Signed:
        """The signatures, made at `now`."""
        if self._in_header:
            self._end_header(bytes(self._start or b""))  # RFC 5322 §3.5: the body, with the line before it, is optional
        if not self._keys:
            return Signed(problem=self._problem)
        variable = b"\r\n t=%d; bh=%b;\r\n %b\r\n b=" % (
            int(now.timestamp()),
            base64.b64encode(self._body.digest()),
            self._names_tag,
        )
        fields, signed, failed = [], [], []
        for key in self._keys:
            field = _beginning(key.algorithm.value, self._form, key.domain, key.selector) + variable
            # RFC 6376 §3.7: last comes the field itself, its b= empty and without a line end.
            own = _CANONICAL_TITLE + field[len(_TITLE) :].replace(_FOLD, b" ") if self._relaxed else field
            signature = key.try_sign(self._chosen + own)
            if signature is None:
                failed.append(f"the key {key.selector} of {key.domain} could not sign")
            else:
                fields += [field, _signature_folded(signature)]
                signed.append(key)
        return Signed(b"".join(fields), tuple(signed), "; ".join(failed) or self._problem)

    @property
    def _relaxed(self) -> bool:
        """Whether the header is brought into the relaxed form."""
        return self._form.value.startswith("relaxed/")

    def _look_for_end(self, piece: bytes) -> bytes:
        """What of `piece` belongs to the body."""
        if self._start is None and piece[:2] != b"\r\n":
            at = piece.find(b"\r\n\r\n")
            if at >= 0:
                self._end_header(piece[:at])
                return piece[at + 4 :]
        start = self._start if self._start is not None else bytearray()
        start += piece
        self._start = start
        if start[:2] == b"\r\n":
            self._end_header(b"")
            return bytes(start[2:])
        at = start.find(b"\r\n\r\n", max(0, len(start) - len(piece) - 3))
        if at >= 0:
            self._end_header(bytes(start[:at]))
            return bytes(start[at + 4 :])
        if len(start) > MAX_HEADER_OCTETS:
            self._problem = f"its header is longer than {MAX_HEADER_OCTETS} octets"
            self._in_header = False
        return b""

    def _end_header(self, header: bytes) -> None:
        self._in_header = False
        self._start = None
        if _OTHER_BLANKS.search(header) or (not header.isascii() and _BLANKS_AT_END.search(header)):
            self._form = _SIMPLE_HEADER[self._form]
        names, fields = fields_of(header, self._relaxed, SIGNED)
        if len(names) > MAX_FIELDS:
            self._problem = f"it has more than {MAX_FIELDS} fields to sign"
            return
        chosen = choice(tuple(names))
        domains: list[str] = []
        for place in chosen.froms[:MAX_DOMAINS]:  # to read one takes time
            found = domains_of(fields[place].partition(b":")[2])
            if isinstance(found, str):
                self._problem = f"From cannot be read: {found}"
            else:
                domains += found
        keys = self._signer.keys_of(domains) if domains else ()
        if not keys:
            return
        self._names_tag, self._keys = chosen.tag, keys
        self._chosen = b"".join([fields[place] for place in chosen.order])


@lru_cache(maxsize=1024)
def _beginning(algorithm: str, canonicalization: Canonicalization, domain: str, selector: str) -> bytes:
    """The field up to what depends on the message."""
    tags = ("v=1", f"a={algorithm}", f"c={canonicalization.value}", f"d={domain}", f"s={selector}")
    lines = [_TITLE[:-1]]
    for tag in tags:
        if len(lines[-1]) + len(tag) + 2 > MAX_COLUMNS:
            lines.append(b"")
        lines[-1] += f" {tag};".encode()
    return b"\r\n".join(lines)


def _signature_folded(signature: bytes) -> bytes:
    text = base64.b64encode(signature)
    lines = [text[at : at + _COLUMNS] for at in range(_FIRST_COLUMNS, len(text), _COLUMNS)]
    return _FOLD.join((text[:_FIRST_COLUMNS], *lines)) + b"\r\n"
