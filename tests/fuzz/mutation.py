"""Makes broken inputs out of good ones: by octets and words, and for DER by whole elements with the right lengths.

Chance comes from the `Random` that is passed in, so that a seed gives the same inputs again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from target import Mutate

MAX_OCTETS = 4096
_ODD_OCTETS = b'\x00\x01\x7f\x80\xff\t\n\r "\\;=:.,<>@-_*0aZ'
_ODD_TEXTS = tuple(
    character.encode()
    for character in "\u0660\u00e9\u212a\u3002\uff0e\uff11\u00ad\u200b\u202e\u0130\u00df\ufeff\U0001f600\u0085\u2028"
)
_OCTET_STRING = 0x04
_CONSTRUCTED = 0x20


def by_octets(words: Sequence[bytes] = ()) -> Mutate:
    """Change some octets, or put `words` of the trade here and there."""
    vocabulary = (*words, *_ODD_TEXTS)

    def mutate(random: Random, octets: bytes) -> bytes:
        for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
            octets = random.choice(_CHANGES)(random, octets, vocabulary)
        return octets[:MAX_OCTETS]

    return mutate


def _flip(random: Random, octets: bytes, _: Sequence[bytes]) -> bytes:
    if not octets:
        return octets
    at = random.randrange(len(octets))
    return octets[:at] + bytes((octets[at] ^ 1 << random.randrange(8),)) + octets[at + 1 :]


def _set(random: Random, octets: bytes, _: Sequence[bytes]) -> bytes:
    at = random.randrange(len(octets) + 1)
    return octets[:at] + bytes((random.choice(_ODD_OCTETS),)) + octets[at + 1 :]


def _insert(random: Random, octets: bytes, vocabulary: Sequence[bytes]) -> bytes:
    at = random.randrange(len(octets) + 1)
    piece = random.choice(vocabulary) if random.random() < 0.7 else bytes((random.choice(_ODD_OCTETS),))
    return octets[:at] + piece + octets[at:]


def _cut(random: Random, octets: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _slice(random, octets)
    return octets[:start] + octets[end:]


def _put(random: Random, octets: bytes, vocabulary: Sequence[bytes]) -> bytes:
    start, end = _slice(random, octets)
    return octets[:start] + random.choice(vocabulary) + octets[end:]


def _repeat(random: Random, octets: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _slice(random, octets)
    return octets[:end] + octets[start:end] * random.choice((1, 1, 1, 2, 40)) + octets[end:]


def _move(random: Random, octets: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _slice(random, octets)
    piece, rest = octets[start:end], octets[:start] + octets[end:]
    at = random.randrange(len(rest) + 1)
    return rest[:at] + piece + rest[at:]


def _slice(random: Random, octets: bytes) -> tuple[int, int]:
    """Mostly a short one."""
    start = random.randrange(len(octets) + 1)
    length = random.randrange(1, 9) if random.random() < 0.8 else random.randrange(len(octets) + 1)
    return start, min(len(octets), start + length)


_CHANGES: tuple[Callable[[Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip, _set, _insert, _insert, _cut, _put, _put, _repeat, _move
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Element:
    """One element of DER: a tag, and what is in it, as octets or as elements."""

    tag: int
    content: bytes
    parts: tuple[Element, ...] = ()

    def octets(self) -> bytes:
        """With the lengths that are right for what is in it now."""
        content = b"".join(part.octets() for part in self.parts) if self.parts else self.content
        length = len(content)
        if length < 0x80:
            return bytes((self.tag, length)) + content
        size = (length.bit_length() + 7) // 8
        return bytes((self.tag, 0x80 | size)) + length.to_bytes(size) + content


@lru_cache(maxsize=4096)
def elements(octets: bytes) -> tuple[Element, ...]:
    """What `octets` consist of; none when they are not DER to the last octet."""
    found: list[Element] = []
    at = 0
    while at < len(octets):
        if at + 1 >= len(octets):
            return ()
        tag, length, start = octets[at], octets[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, start = int.from_bytes(octets[start : start + size]), start + size
        end = start + length
        if end > len(octets) or tag & 0x1F == 0x1F:
            return ()
        content = octets[start:end]
        nested = elements(content) if tag & _CONSTRUCTED or tag == _OCTET_STRING else ()
        found.append(Element(tag, content, nested))
        at = end
    return tuple(found)


def by_elements(words: Sequence[bytes], donors: Sequence[bytes]) -> Mutate:
    """Change one element of DER somewhere deep inside, also for one out of `donors`; or some octets, as `by_octets`."""
    plain = by_octets(words)
    pool = tuple(part for donor in donors for element in elements(donor) for part in _all(element))

    def mutate(random: Random, octets: bytes) -> bytes:
        whole = elements(octets)
        if not whole or random.random() < 0.3:
            return plain(random, octets)
        changed = whole
        for _ in range(random.choice((1, 1, 2))):
            changed = _changed(random, changed, pool, plain)
        return b"".join(one.octets() for one in changed)[:MAX_OCTETS]

    return mutate


def _all(element: Element) -> list[Element]:
    return [element, *(below for part in element.parts for below in _all(part))]


def _changed(
    random: Random, siblings: tuple[Element, ...], pool: Sequence[Element], plain: Mutate
) -> tuple[Element, ...]:
    """The same elements but for one of them, or one below it."""
    if not siblings:
        return (random.choice(pool),)
    at = random.randrange(len(siblings))
    one = siblings[at]
    if one.parts and random.random() < 0.85:
        inside = _changed(random, one.parts, pool, plain)
        # Without parts it is its old content that counts, which is no longer right.
        return (*siblings[:at], replace(one, parts=inside, content=b""), *siblings[at + 1 :])
    return (*siblings[:at], *_changed_one(random, one, pool, plain), *siblings[at + 1 :])


def _changed_one(random: Random, one: Element, pool: Sequence[Element], plain: Mutate) -> tuple[Element, ...]:
    match random.randrange(6):
        case 0:
            return ()
        case 1:
            return one, one
        case 2:
            return (
                replace(
                    one, tag=random.choice((0x02, 0x03, 0x04, 0x05, 0x0C, 0x13, 0x30, 0x31, 0x80, 0x82, 0xA0, 0xA3))
                ),
            )
        case 3:
            return (random.choice(pool),)
        case 4:
            return one, random.choice(pool)
        case _:
            return (Element(one.tag, plain(random, one.octets()[2:] if one.parts else one.content)),)
