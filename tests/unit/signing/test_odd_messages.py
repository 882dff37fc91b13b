"""Odd messages, signed, and what dkimpy says of them; and what a signature is to notice, and what not."""

from __future__ import annotations

import base64
import re

import dkim
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from dkim_oracle import KEYS, RECORDS, failures, signatures, signed, signer
from odd_headers import message
from odd_messages import bare, messages

from relay.policy.dkim_record import key_record_text
from relay.signing_settings import Canonicalization
from relay.submission.lines import normalise

MESSAGES = messages() | {name: normalise(octets) for name, octets in bare().items()}
SIGNERS = {canonicalization: signer(canonicalization) for canonicalization in Canonicalization}
RELAXED = SIGNERS[Canonicalization.RELAXED_RELAXED]
SMALL = {name: octets for name, octets in MESSAGES.items() if len(octets) < 40_000}
# What dkimpy cannot read as it is and is given without the blanks, which `simple` does not forgive.
OBSOLETE = {name for name in MESSAGES if name.endswith("before-colon")}


def test_there_are_many() -> None:
    assert len(MESSAGES) > 300


def test_the_records_are_those_that_relay_prints() -> None:
    printed = {key.record_name: key_record_text(key.algorithm.key_type, key.public) for key in RELAXED.keys.all}
    assert printed == RECORDS


@pytest.mark.parametrize("canonicalization", Canonicalization)
def test_every_signature_verifies(canonicalization: Canonicalization) -> None:
    """The large ones go through a whole Relay, in tests/scenario."""
    simple_header = canonicalization.value.startswith("simple")
    names = [name for name in SMALL if not (simple_header and name in OBSOLETE)]
    found = {name: failures(signed(SMALL[name], SIGNERS[canonicalization])) for name in names}
    assert {name: why for name, why in found.items() if why} == {}


@pytest.mark.parametrize("canonicalization", [Canonicalization.RELAXED_RELAXED, Canonicalization.SIMPLE_SIMPLE])
def test_it_does_not_matter_where_pieces_end(canonicalization: Canonicalization) -> None:
    by = SIGNERS[canonicalization]
    for name, octets in list(SMALL.items())[::2]:
        if len(octets) < 1000:
            assert signed(octets, by, piece=1) == signed(octets, by), name


@pytest.mark.parametrize(
    ("subject", "form"),
    [
        (b"a\x0bb \x0c", "simple/relaxed"),  # to dkimpy and OpenDKIM these are blanks that relaxed forgives
        ("\u00a0no-break space".encode(), "simple/relaxed"),  # to go-msgauth, at the ends of a field
        ("ideographic space\u3000\r\n \t".encode(), "simple/relaxed"),
        ("\r\n \u2028line separator".encode(), "simple/relaxed"),
        ("within\u00a0the\u3000text, and \u00e9".encode(), "relaxed/relaxed"),
        ("\u00e0 \u00e9\u2020".encode(), "relaxed/relaxed"),
    ],
)
def test_blanks_that_verifiers_do_not_agree_on(subject: bytes, form: str) -> None:
    """To RFC 6376 only space and tab are blanks."""
    octets = signed(message(b"Subject: " + subject + b"\r\n"), RELAXED)
    assert [(one.canonicalization, one.verdict) for one in signatures(octets)] == [(form, "pass")] * 2


def test_a_signature_that_was_there_still_verifies() -> None:
    private = load_pem_private_key((KEYS / "ed25519.pem").read_bytes(), None)
    key = base64.b64encode(private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
    records = {**RECORDS, "theirs._domainkey.other.test": RECORDS["ed25519._domainkey.sender.test"]}
    octets = MESSAGES["body-runs"]
    theirs = dkim.DKIM(octets, signature_algorithm=b"ed25519-sha256").sign(b"theirs", b"other.test", key)
    found = signatures(signed(theirs + octets, RELAXED), records)
    assert [(one.domain, one.selector, one.verdict) for one in found] == [
        ("sender.test", "rsa", "pass"),
        ("sender.test", "ed25519", "pass"),
        ("other.test", "theirs", "pass"),
    ]


ORIGINAL = message(
    b"Subject: The  subject\r\n line\r\n",
    b"Cc: c@real.test\r\n",
    b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n",
    body=b"First  line\r\n\r\n second\tline \r\nlast\r\n\r\n",
)
# Each changes the message in a way that readers see.
SEEN = {
    "another letter in the subject": (b"The  subject", b"The  suBject"),
    "a blank gone from the subject": (b"The  subject", b"Thesubject"),
    "another author": (b"<ann@sender.test>", b"<eve@sender.test>"),
    "another name of the author": (b"From: Ann", b"From: Eve"),
    "another recipient": (b"<bob@real.test>", b"<eve@real.test>"),
    "another date": (b"26 Nov 2026", b"27 Nov 2026"),
    "another Message-ID": (b"<0@sender.test>", b"<1@sender.test>"),
    "another type": (b"text/plain", b"text/html"),
    "no subject": (b"Subject: The  subject\r\n line\r\n", b""),
    "no Cc": (b"Cc: c@real.test\r\n", b""),
    "a letter in the body": (b"second", b"secOnd"),
    "the last letter of the body": (b"last", b"lasT"),
    "a line more": (b"last\r\n", b"last\r\nmore\r\n"),
    "a line less": (b"last\r\n", b""),
    "an empty line less": (b"line\r\n\r\n", b"line\r\n"),
    "a blank line in place of an empty one, with a letter": (b"\r\n\r\n second", b"\r\n.\r\n second"),
    "a blank gone from the body": (b"First  line", b"Firstline"),
    "a body put in front": (b"\r\n\r\nFirst", b"\r\n\r\nBefore\r\nFirst"),
}
ADDED = (
    b"From: eve@other.test\r\n",
    b"from : eve@other.test\r\n",
    b"Subject: other\r\n",
    b"SUBJECT: other\r\n",
    b"To: eve@real.test\r\n",
    b"Cc: eve@real.test\r\n",
    b"Date: Fri, 27 Nov 2026 09:00:00 +0000\r\n",
    b"Reply-To: eve@other.test\r\n",
    b"Message-ID: <2@other.test>\r\n",
    b"In-Reply-To: <2@other.test>\r\n",
    b"References: <2@other.test>\r\n",
    b"MIME-Version: 1.0\r\n",
    b"Content-Type: text/html\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
)
FORGIVEN = {
    "a fold moved": (b"The  subject\r\n line", b"The\r\n\tsubject line"),
    "blanks in the header": (b"Subject: The  subject", b"Subject:   The \t subject"),
    "another case of names": (b"Subject:", b"sUBJECT:"),
    "blanks before the colon": (b"Subject:", b"Subject \t:"),
    "blanks in the body": (b"First  line", b"First \t   line"),
    "blanks at the end of a line": (b"last\r\n", b"last \t \r\n"),
    "no blanks at the end of a line": (b"line \r\n", b"line\r\n"),
    "empty lines at the end": (b"last\r\n\r\n", b"last\r\n\r\n\r\n \r\n\r\n"),
    "no empty line at the end": (b"last\r\n\r\n", b"last\r\n"),
}
_UNSIGNED = (b"Received: from a.test by b.test; x\r\n", b"X-Spam: no\r\n", b"Return-Path: <x@y.test>\r\n")


def verdicts(octets: bytes) -> set[bool]:
    """Whether our signatures verify; there must be two."""
    found = signatures(octets)
    assert [one.domain for one in found] == ["sender.test"] * 2
    return {one.verdict == "pass" for one in found}


def changed(octets: bytes, change: tuple[bytes, bytes]) -> bytes:
    """With the last place where it says the one saying the other; the signatures are above."""
    before, found, after = octets.rpartition(change[0])
    assert found
    return before + change[1] + after


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("canonicalization", Canonicalization)
def test_a_change_is_noticed(canonicalization: Canonicalization, name: str) -> None:
    assert verdicts(changed(signed(ORIGINAL, SIGNERS[canonicalization]), SEEN[name])) == {False}


@pytest.mark.parametrize("added", ADDED)
def test_a_field_that_is_added_is_noticed(added: bytes) -> None:
    """On top or at the end, whether the message has one or not. RFC 6376 section 8.15."""
    octets = signed(ORIGINAL, RELAXED)
    assert verdicts(added + octets) == {False}
    assert verdicts(octets.replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n", 1)) == {False}


@pytest.mark.parametrize("name", FORGIVEN)
def test_relaxed_forgives_blanks(name: str) -> None:
    assert verdicts(changed(signed(ORIGINAL, RELAXED), FORGIVEN[name])) == {True}


@pytest.mark.parametrize("name", FORGIVEN)
def test_simple_forgives_empty_lines_at_the_end_alone(name: str) -> None:
    octets = signed(ORIGINAL, SIGNERS[Canonicalization.SIMPLE_SIMPLE])
    if name != "blanks before the colon":  # which dkimpy is not shown
        assert verdicts(changed(octets, FORGIVEN[name])) == {name == "no empty line at the end"}


@pytest.mark.parametrize("added", _UNSIGNED)
def test_what_hosts_on_the_way_add_is_no_change(added: bytes) -> None:
    assert verdicts(added + signed(ORIGINAL, RELAXED)) == {True}


def test_every_octet_of_the_signature_counts() -> None:
    """But for blanks, a changed octet in the signature's own field makes it fail."""
    octets = signed(ORIGINAL, RELAXED)
    field = re.match(rb"DKIM-Signature:.*?\r\n(?=DKIM)", octets, re.DOTALL)
    assert field is not None
    for at in range(len(b"DKIM-Signature:"), field.end(), 3):
        if octets[at : at + 1].isalnum():
            other = b"A" if octets[at : at + 1] != b"A" else b"B"
            tampered = octets[:at] + other + octets[at + 1 :]
            assert signatures(tampered)[0].verdict != "pass", tampered[: field.end()]
