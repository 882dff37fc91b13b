"""A key and what DNS has at its name: one row for each thing that can be there."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.dkim_match import (
    Comparison,
    Malformed,
    Matches,
    Missing,
    NotForMail,
    NotForReports,
    OtherKey,
    PublicKey,
    Revoked,
    Several,
    Trial,
    WrongType,
    compare,
    in_words,
    is_match,
    may_verify,
    what_to_do,
)

ED = PublicKey("ed25519", bytes(range(32)))
RSA = PublicKey("rsa", bytes(range(24)) + bytes(range(200)))  # a head as long as that of a SubjectPublicKeyInfo


def record(key: PublicKey, tags: str = "", octets: bytes | None = None) -> bytes:
    public = key.octets if octets is None else octets
    return f"v=DKIM1; k={key.key_type}; {tags}p={base64.b64encode(public).decode()}".encode()


ALONE: list[tuple[PublicKey, bytes, Comparison]] = [
    (ED, record(ED), Matches()),
    (RSA, record(RSA), Matches()),
    (RSA, record(RSA).removeprefix(b"v=DKIM1; k=rsa; "), Matches()),
    (RSA, record(RSA, "s=*; h=sha1:sha256; t=s; "), Matches()),
    (RSA, record(RSA, "s=email; "), Matches()),
    (RSA, record(RSA, "s=other:email; "), Matches()),
    (RSA, record(RSA, "t=s:y; "), Trial()),
    (RSA, record(RSA, "h=sha1; "), NotForMail("h= does not name sha256")),
    (RSA, record(RSA, "s=other; "), NotForMail("s= names neither email nor *")),
    (RSA, record(RSA, "s=tlsrpt; "), NotForMail("s= names neither email nor * (it is for TLS reports alone)")),
    (RSA, record(RSA, octets=b""), Revoked()),
    (ED, b"p=", Revoked()),  # whatever its type was
    (RSA, record(RSA, octets=RSA.octets[:-1] + b"x"), OtherKey()),
    (RSA, record(RSA, octets=RSA.octets[:150]), OtherKey(cut=True)),
    (RSA, record(RSA, octets=RSA.octets[25:]), OtherKey()),
    (RSA, record(RSA, octets=RSA.octets[24:]), Malformed("its p= has the key as RSAPublicKey, which many ca")),
    (ED, record(ED, octets=b"head" + ED.octets), Malformed("its p= has more than the octets of the key")),
    (ED, record(RSA), WrongType("rsa", "ed25519")),
    (ED, record(ED).replace(b"k=ed25519; ", b""), WrongType("rsa", "ed25519")),
    (RSA, record(ED), WrongType("ed25519", "rsa")),
    (RSA, b"k=" + b"x" * 100 + b"; p=AQL/", WrongType("x" * 40 + "...", "rsa")),
    (RSA, b"v=spf1 -all", Malformed("its v= is not DKIM1")),
]


@pytest.mark.parametrize(("key", "text", "found"), ALONE)
def test_one_record(key: PublicKey, text: bytes, found: Comparison) -> None:
    seen = compare([text], key)
    if isinstance(found, Malformed):
        assert isinstance(seen, Malformed)
        assert seen.why.startswith(found.why)
    else:
        assert seen == found
    assert is_match(seen) == may_verify(seen) == isinstance(seen, Matches | Trial)


OF_REPORTS: list[tuple[str, Comparison]] = [
    ("", Matches()),
    ("s=*; ", Matches()),
    ("s=email:tlsrpt; ", Matches()),
    ("s=tlsrpt; ", Matches()),  # the domain may be for reports alone
    ("s=email; ", NotForReports()),
    ("s=other; ", NotForMail("s= names neither email nor *")),
]


@pytest.mark.parametrize(("tags", "found"), OF_REPORTS)
def test_a_key_that_signs_tls_reports(tags: str, found: Comparison) -> None:
    assert compare([record(RSA, tags)], RSA, reports=True) == found


OTHER = record(RSA, octets=b"other")
SEVERAL: list[tuple[list[bytes], Comparison, bool]] = [
    ([], Missing(), False),
    ([record(RSA), record(RSA, "n=again; ")], Matches(), True),
    ([record(RSA), b"v=spf1 -all"], Several(2, 1), True),
    ([OTHER, record(RSA), b"words"], Several(3, 1), True),
    ([OTHER, b"v=spf1 -all"], Several(2, 0), False),
    ([record(RSA, octets=b""), OTHER], Several(2, 0), False),
]


@pytest.mark.parametrize(("texts", "found", "verifies"), SEVERAL)
def test_several_records(texts: list[bytes], found: Comparison, verifies: bool) -> None:
    assert compare(texts, RSA) == found
    assert may_verify(found) is verifies
    assert is_match(found) is isinstance(found, Matches)


WORDS: list[tuple[Comparison, str, str | None]] = [
    (Matches(), "DNS has this key", None),
    (Trial(), "as a trial (t=y)", "take t=y out"),
    (NotForReports(), "not for TLS reports", "s=email:tlsrpt"),
    (Several(2, 1), "2 TXT records there, of which one is of this key", "leave the one record"),
    (Several(3, 2), "of which 2 are of this key", "leave the one record"),
    (Several(2, 0), "of which none is of this key", "leave the one record"),
    (Missing(), "DNS has no TXT record there", "some panels add the domain"),
    (Missing("x.test"), "an alias of x.test, where", "prints, at x.test"),
    (Revoked(), "revokes the key", "relay dkim keygen --domain d.test"),
    (OtherKey(), "has another key", "in its place, or name the file"),
    (OtherKey(cut=True), "only the beginning of this key", "all of its strings"),
    (WrongType("rsa", "ed25519"), "is for k=rsa, and this key is k=ed25519", "in its place"),
    (Malformed("it has no p="), "is no key record: it has no p=", "in its place"),
    (NotForMail("h= does not name sha256"), "not for mail: h= does not", "in its place"),
]


@pytest.mark.parametrize(("found", "text", "remedy"), WORDS)
def test_words(found: Comparison, text: str, remedy: str | None) -> None:
    assert text in in_words(found)
    told = what_to_do(found, "d.test", "s1")
    assert told is None if remedy is None else remedy in (told or "")
    if told is not None and "dkim show" in told:
        assert "`relay dkim show --domain d.test --selector s1`" in told


@given(st.lists(st.binary(max_size=100), max_size=3), st.booleans())
def test_anything_in_dns_has_words(texts: list[bytes], reports: bool) -> None:
    found = compare(texts, ED, reports)
    assert not may_verify(found)
    assert in_words(found).isprintable()
    assert what_to_do(found, "d.test", "s1")
