"""Which override holds for a destination, and when it ends."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from relay.lab.certs import LabCa, tlsa_data
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides, fits

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LEAF = LabCa.make(NOW).issue(("mx.a.test",)).chain_der[0]


def override(
    name: str,
    domains: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    until: datetime = NOW + timedelta(days=1),
    level: OverrideLevel = OverrideLevel.ENCRYPT,
    names: tuple[str, ...] = (),
) -> Override:
    return Override(domains, hosts, level, OverrideMode.RAISE, name, "ops", until, names=names)


ALL = Overrides([
    override("ended", ("a.test",), until=NOW),
    override("host", hosts=("mx.a.test", "192.0.2.1", "2001:db8::1")),
    override("below host", hosts=(".a.test", ".test")),
    override("below b", ("b.test", ".b.test")),
    override("c of b", ("c.b.test",)),
    override("d", ("d.test",), ("mx.d.test",)),
    override("d again", ("d.test",)),
    override("literal", ("[192.0.2.7]",)),
    override("below f", (".f.test",)),
])  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "host", "found"),
    [
        ("a.test", "mx.a.test", "host"),  # the one for the domain has ended
        ("a.test", "mx2.a.test", "below host"),
        ("a.test", "x.mx.a.test", "below host"),
        ("a.test", "a.test", "below host"),  # .test; `.a.test` is only what is below it
        ("a.test", "mx.other.example", None),
        ("b.test", "mx.a.test", "below b"),  # the recipient's domain goes first
        ("x.b.test", "mx.a.test", "below b"),
        ("c.b.test", "mx.a.test", "c of b"),  # the whole name goes before a parent
        ("x.c.b.test", "mx.example", "below b"),
        ("xb.test", "mx.example", None),
        ("x.f.test", "mx.example", "below f"),
        ("f.test", "mx.example", None),  # it is not below itself
        ("d.test", "mx.example", "d"),  # the first
        ("mx.a.test", "mx.example", None),  # hosts are no domains
        ("e.example", "d.test", "below host"),
        ("e.example", "192.0.2.1", "host"),
        ("e.example", "2001:db8::1", "host"),
        ("e.example", "192.0.2.2", None),
        ("[192.0.2.7]", "192.0.2.7", "literal"),
        ("e.example", "test", None),
    ],
)
def test_which_one_holds(domain: str, host: str, found: str | None) -> None:
    holds = ALL.find(domain, host, NOW)
    assert (holds.reason if holds else None) == found


@pytest.mark.parametrize("host", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"])
def test_an_address_has_no_parents(host: str) -> None:
    below = Overrides([override("wrong", (".0.2.7]",), (".2.1", ".1"))])
    assert below.find("[192.0.2.7]", host, NOW) is None


def test_all_that_it_names() -> None:
    assert override("x", ("a.test", ".a.test"), ("mx.b.test",)).keys == ("a.test", ".a.test", "mx.b.test")


@pytest.mark.parametrize(("until", "holds"), [(timedelta(microseconds=1), True), (timedelta(0), False)])
def test_it_ends(until: timedelta, holds: bool) -> None:
    assert (Overrides([override("x", ("a.test",), until=NOW + until)]).find("a.test", "mx", NOW) is not None) is holds


def test_none_at_all() -> None:
    assert Overrides().find("a.test", "mx.a.test", NOW) is None


@pytest.mark.parametrize(
    ("level", "names", "authenticates", "vouches"),
    [
        (OverrideLevel.NONE, (), False, False),
        (OverrideLevel.OPPORTUNISTIC, (), False, False),
        (OverrideLevel.ENCRYPT, (), False, False),
        (OverrideLevel.ENCRYPT, ("mx.a.test",), False, False),  # it does not look at names
        (OverrideLevel.VERIFY, (), True, False),
        (OverrideLevel.VERIFY, ("mx.a.test",), True, True),
        (OverrideLevel.DANE, (), False, False),
        (OverrideLevel.DANE_ONLY, (), True, False),
        (OverrideLevel.FINGERPRINT, (), True, True),
    ],
)
def test_what_it_proves(level: OverrideLevel, names: tuple[str, ...], authenticates: bool, vouches: bool) -> None:
    one = override("x", ("a.test",), level=level, names=names)
    assert (one.authenticates, one.vouches) == (authenticates, vouches)


def test_fingerprints() -> None:
    of_certificate, of_key = hashlib.sha256(LEAF).digest(), tlsa_data(LEAF, 1, 1)
    assert fits((bytes(32), of_certificate), LEAF)
    assert fits((of_key,), LEAF)
    assert not fits((bytes(32),), LEAF)
    assert not fits((), LEAF)
    assert not fits((of_key,), b"not a certificate")
    assert fits((hashlib.sha256(b"not a certificate").digest(),), b"not a certificate")
