"""The addresses in a From, Sender or Resent-From field, and every name that readers see beside them. Pure.

RFC 5322 sections 3.4 and 3.6.2 as new mail must keep to it, with UTF-8 (RFC 6532). What readers of mail are known to
take in different ways is refused, never "understood": routes, blanks or comments inside an address, an address without
a domain, an encoded word in an address, empty members, a dot that ends nothing. Allowed though old: dots in names.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from relay.mail.address import Address, AddressError, parse_address

MAX_MAILBOXES = 100  # in one field
MAX_OCTETS = 32 * 1024
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010FFFF"
_TOKEN = re.compile(
    rf'(?P<blank>[ \t]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<atom>[{_ATEXT}]+)'
    r"|(?P<literal>\[[^\[\]\\]*\])|(?P<special>[.@<>,:;])|(?P<comment>\()"
)
_COMMENT = re.compile(r"\\.|[()]")
_PAIR = re.compile(r"\\(.)")
# C0 but for the tab, DEL, C1; line ends of Unicode, and what turns the direction of the text after it.
_HIDING = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_HIDDEN = "it has a control character, or one that turns text round"
# RFC 2047 §2, wider: readers also take blanks in it, and take it inside of quotes.
_ENCODED = re.compile(r"=\?([^?\s*]*)(?:\*[^?\s]*)?\?([BbQq])\?([^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t]+(?==\?)")
_Q_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")
_CHARSET = re.compile(
    r"utf-?[78]|us-ascii|ascii|latin1|iso-8859-\d{1,2}|(?:windows-|cp)\d{3,4}|koi8-[ru]|gb2312|gbk|gb18030"
    r"|big5(?:-hkscs)?|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|shift[_-]jis|ks_c_5601-1987|tis-620|macintosh",
    re.IGNORECASE,
)
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "ks_c_5601-1987": "cp949", "euc-kr": "cp949"}  # what is meant
_THIN = re.compile(r"[^\S \t]")  # blanks that may be too small to be seen
_AROUND = re.compile(r"[ \t]*@[ \t]*|[ \t]+(?=\.[^\s.])")  # blanks that the eye overlooks in an address
_WORD = re.compile(r"""[^\s<>()\[\],;:"'\\]+""")

_Token = tuple[str, str]  # kind, text


@dataclass(frozen=True, slots=True)
class Mailboxes:
    """What a field names. `names`: display names, names of groups and comments, encoded words not yet decoded."""

    addresses: tuple[Address, ...]
    names: tuple[str, ...]

    def addresses_in_names(self) -> Iterator[str]:
        """Whatever looks like an address in the names. Raises AddressError when readers may show one in several ways.

        Many readers show the name alone, and some decode the encoded words first and then look for the address.
        """
        for name in self.names:
            text = shown(_THIN.sub("", name)).replace("\u3002", ".")  # RFC 3490 §3.1: a dot too, for the eye at least
            for word in _WORD.findall(_AROUND.sub(lambda found: found[0].strip(), text)):
                if "@" in word and "." in word.rpartition("@")[2]:
                    yield word.rstrip(".")


def parse_mailboxes(value: bytes) -> Mailboxes:
    """Read a field's value, folded or not. Raises AddressError, saying what is wrong, when it is not beyond doubt."""
    if len(value) > MAX_OCTETS:
        raise AddressError("it is longer than 32 KiB")
    try:
        text = value.replace(b"\r\n", b"").decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("it is not valid UTF-8") from None
    if _HIDING.search(text):
        raise AddressError(_HIDDEN)
    return _Parser(text).read()


class _Parser:
    """One value, from left to right. `_at` is the next token."""

    def __init__(self, text: str) -> None:
        self._names: list[str] = []
        self._addresses: list[Address] = []
        self._tokens = self._split(text)
        self._at = 0

    def read(self) -> Mailboxes:
        while True:
            self._member(in_group=False)
            if self._at == len(self._tokens):
                return Mailboxes(tuple(self._addresses), tuple(self._names))
            self._expect(",")

    def _split(self, text: str) -> list[_Token]:
        """The tokens, with a blank for each comment: what it says is a name too."""
        tokens: list[_Token] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise AddressError(f"{text[at]!r} cannot stand there")
            kind, at = found.lastgroup or "", found.end()
            if kind == "comment":
                start, at = at, _end_of_comment(text, at)
                self._names.append(_PAIR.sub(r"\1", text[start : at - 1]))
                kind = "blank"
            if kind != "blank" or not tokens or tokens[-1][0] != "blank":
                tokens.append((kind, found[0] if kind != "blank" else " "))
        while tokens and tokens[-1][0] == "blank":
            tokens.pop()
        return tokens

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _skip_blank(self) -> None:
        if self._peek()[0] == "blank":
            self._at += 1

    def _expect(self, special: str) -> None:
        if self._peek() != ("special", special):
            raise AddressError(f"there is no {special} where it should be")
        self._at += 1

    def _member(self, *, in_group: bool) -> None:
        """A mailbox or a group, with the blanks around it."""
        self._skip_blank()
        start = self._at
        while self._peek()[0] in ("blank", "quoted", "atom") or self._peek() == ("special", "."):
            self._at += 1
        phrase, following = self._tokens[start : self._at], self._peek()
        if phrase[:1] == [("special", ".")]:
            raise AddressError("a name begins with a dot")
        if following == ("special", "@"):
            self._at = start
            self._addr_spec()
        elif following == ("special", "<"):
            self._name(phrase)
            self._at += 1
            self._skip_blank()
            self._addr_spec()
            self._skip_blank()
            self._expect(">")
        elif following == ("special", ":") and phrase and not in_group:
            self._name(phrase)
            self._at += 1
            self._group()
        else:
            raise AddressError("it names something without an address")
        self._skip_blank()

    def _group(self) -> None:
        self._skip_blank()
        while self._peek() != ("special", ";"):
            self._member(in_group=True)
            if self._peek() != ("special", ";"):
                self._expect(",")
                if self._tokens[self._at : self._at + 1] == [("special", ";")]:
                    raise AddressError("a group has an empty member")
        self._at += 1

    def _addr_spec(self) -> None:
        """RFC 5322 section 3.4.1, without blanks and comments inside."""
        start = self._at
        while self._peek()[0] in ("quoted", "atom", "literal") or self._peek()[1] in (".", "@"):
            self._at += 1
        text = "".join(text for _, text in self._tokens[start : self._at])
        if "=?" in text:
            raise AddressError("an address has an encoded word in it")
        if "@" not in text:
            raise AddressError("it names something without an address")
        if len(self._addresses) == MAX_MAILBOXES:
            raise AddressError(f"it names more than {MAX_MAILBOXES} addresses")
        self._addresses.append(parse_address(text.encode()))

    def _name(self, phrase: list[_Token]) -> None:
        words = (_PAIR.sub(r"\1", text[1:-1]) if kind == "quoted" else text for kind, text in phrase)
        name = "".join(words).strip()
        if name:
            self._names.append(name)


def _end_of_comment(text: str, at: int) -> int:
    """Where the comment ends in which `at` is. RFC 5322 section 3.2.2: they nest."""
    depth = 1
    for found in _COMMENT.finditer(text, at):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    raise AddressError("a comment does not end")


def shown(text: str) -> str:
    """A name as readers show it, encoded words decoded and look-alikes of ASCII made ASCII. Raises AddressError."""
    if "=?" in text:
        text = _ENCODED.sub(_decoded, _BETWEEN.sub(r"\1", text))
    if _HIDING.search(text):
        raise AddressError(_HIDDEN)
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _decoded(word: re.Match[str]) -> str:
    """RFC 2047 section 4."""
    charset, encoding, text = word[1], word[2].upper(), word[3].encode()
    if not _CHARSET.fullmatch(charset):
        raise AddressError("an encoded word has a charset that is not known")
    try:
        if encoding == "B":
            octets = binascii.a2b_base64(text + b"===")
        else:
            octets = _Q_OCTET.sub(lambda found: bytes.fromhex(found[1].decode()), text.replace(b"_", b" "))
        return octets.decode(_SUPERSETS.get(charset.lower(), charset))
    except (ValueError, LookupError):  # binascii.Error and UnicodeDecodeError are ValueErrors
        raise AddressError("an encoded word cannot be decoded") from None
