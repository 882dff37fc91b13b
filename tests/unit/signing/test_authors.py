"""Which domains a From field names, also where it is not as RFC 5322 has it."""

from __future__ import annotations

import time

import pytest

from relay.signing.authors import domains_of

EXACT = {
    b" Ann <ann@Sender.TEST>": ("sender.test",),
    b" a@sender.test, b@other.test, c@sender.test": ("sender.test", "other.test"),
    b' "x@other.test" <ann@sender.test> (y@other.test)': ("sender.test",),
    b" Friends: a@sender.test;": ("sender.test",),
    b" Friends:;": (),
    " <ann@bücher.test>".encode(): ("xn--bcher-kva.test",),
}
LIKELY = {
    b" Smith, Ann <ann@sender.test>": ("sender.test",),
    b" ann@other.test <ann@sender.test>": ("sender.test",),
    b" \xc4nn <ann@sender.test>": ("sender.test",),
    b' "\xc4nn" <ann@SENDER.test>': ("sender.test",),
    b" Ann [Sales] <ann@sender.test>": ("sender.test",),
    b" Ann <ann@sender.test>,": ("sender.test",),
    b" Ann <ann@sender.test.>": ("sender.test",),
    b" Ann <ann@\r\n sender.test >": ("sender.test",),
    b" Ann <@a.test,@b.test:ann@sender.test>": ("sender.test",),
    b" Ann <ann@sender.test>; Eve <eve@other.test>": ("sender.test", "other.test"),
    b" Ann <mailto:ann@sender.test>": ("sender.test",),
    b" Ann <ann@sender.test": ("sender.test",),
    b" Ann ann@sender.test": ("sender.test",),
    b" ann @ sender.test": ("sender.test",),
    b" ann..x@sender.test": ("sender.test",),
    b' Ann "x <ann@sender.test>': ("sender.test",),
    b" Ann <ann@-x.test> eve@sender.test": ("sender.test",),
}
NONE = (b"", b" ann", b" <>", b" ann at sender.test", b" ann@", b" ann@-x.test", b" \xff@\xff")


@pytest.mark.parametrize("value", EXACT | LIKELY)
def test_the_domains(value: bytes) -> None:
    assert domains_of(value) == (EXACT | LIKELY)[value]


@pytest.mark.parametrize("value", NONE)
def test_none(value: bytes) -> None:
    assert isinstance(domains_of(value), str)


@pytest.mark.parametrize("piece", [b"@", b"@a", b"@a ", b"@a.", b"@a<", b"x@a>,", b"(", b'"', b"@" + b"a" * 300])
def test_what_nobody_can_read_costs_little(piece: bytes) -> None:
    value = b" <" + piece * ((1 << 20) // len(piece))
    began = time.process_time()
    domains_of(value)
    assert time.process_time() - began < 0.1
