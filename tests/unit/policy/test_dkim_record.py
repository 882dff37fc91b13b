"""Key records: what is one and what is not, and that what is written is read back."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.dkim_record import KeyRecord, RecordSyntaxError, key_record_text, parse_key_record, zone_form

KEY = b"\x01\x02\xff"
P = base64.b64encode(KEY)
NAME = "s1._domainkey.example.org"

GOOD: list[tuple[bytes, KeyRecord]] = [
    (b"p=" + P, KeyRecord("rsa", KEY)),
    (b"v=DKIM1; k=rsa; p=" + P, KeyRecord("rsa", KEY)),
    (b"v=DKIM1;k=rsa;p=" + P + b";", KeyRecord("rsa", KEY)),
    (b" v = DKIM1 ;\tk = ed25519\t; p = AQ L/ ; ", KeyRecord("ed25519", KEY)),
    (b"v=DKIM1;\r\n k=rsa; p=AQ\r\n\tL/", KeyRecord("rsa", KEY)),
    (b"v=DKIM1; p=", KeyRecord("rsa", b"")),
    (b"v=DKIM1; p= ", KeyRecord("rsa", b"")),
    (b"v=DKIM1; k=x-new; p=" + P, KeyRecord("x-new", KEY)),
    (b"v=DKIM1; h=sha1 : sha256; p=" + P, KeyRecord("rsa", KEY, hashes=("sha1", "sha256"))),
    (b"v=DKIM1; h=; p=" + P, KeyRecord("rsa", KEY, hashes=())),
    (b"v=DKIM1; s=email:tlsrpt; t=y:s:x; p=" + P, KeyRecord("rsa", KEY, None, ("email", "tlsrpt"), ("y", "s", "x"))),
    (b"v=DKIM1; n=a=20note,=3B; g=*; x_1=; p=" + P, KeyRecord("rsa", KEY)),
    (b"v=DKIM1; P=zzz; p=" + P, KeyRecord("rsa", KEY)),  # names are case-sensitive
]


@pytest.mark.parametrize(("text", "record"), GOOD)
def test_records(text: bytes, record: KeyRecord) -> None:
    assert parse_key_record(text) == record


BAD: list[tuple[bytes, str]] = [
    (b"", "not a list"),
    (b";", "not a list"),
    (b"v=DKIM1", "no p="),
    (b"v=DKIM1; k=rsa", "no p="),
    (b"v=DKIM1;; p=AQL/", "not a list"),
    (b"v=DKIM1; p=AQL/;;", "not a list"),
    (b"k=rsa; v=DKIM1; p=AQL/", "v= is not DKIM1, or does not come first"),
    (b"v=DKIM2; p=AQL/", "v= is not DKIM1"),
    (b"v=dkim1; p=AQL/", "v= is not DKIM1"),
    (b"v=spf1 -all", "v= is not DKIM1"),
    (b"v=DKIM1 k=rsa p=AQL/", "v= is not DKIM1"),
    (b'"v=DKIM1; p=AQL/"', "not a list"),
    (b"just words", "not a list"),
    (b"=x; p=AQL/", "not a list"),
    (b"p=AQL/; " + b"x" * 1000 + b"=\xff", "not a list"),  # nothing long is told of
    (b"1a=x; p=AQL/", "not a list"),
    (b"a-b=x; p=AQL/", "not a list"),
    (b"v=DKIM1; p=AQL/; p=AQL/", "it has p= twice"),
    (b"v=DKIM1; k=rsa; k=rsa; p=AQL/", "it has k= twice"),
    (b"v=DKIM1; p=AQL", "not base64"),
    (b"v=DKIM1; p=AQ*L", "not base64"),
    (b"v=DKIM1; p=AQL/\\", "not base64"),
    (b"v=DKIM1; n=\xc3\xa9; p=AQL/", "n= has characters"),
    (b"v=DKIM1; n=a\nb; p=AQL/", "n= has characters"),
    (b"v=DKIM1; n=a\r\nb; p=AQL/", "n= has characters"),
    (b"v=DKIM1; n=a\0; p=AQL/", "n= has characters"),
    (b"\xff=1; p=AQL/", "not a list"),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_what_is_no_record(text: bytes, why: str) -> None:
    with pytest.raises(RecordSyntaxError, match=re.escape(why)):
        parse_key_record(text)


PIECES = [b"v=DKIM1", b"p=", b"p=AQL/", b"k=", b"h=sha256", b"s=*", b"t=y", b"=", b" ", b"\r\n\t"]
TAGS = st.lists(st.sampled_from(PIECES))


@given(st.one_of(st.binary(max_size=200), TAGS.map(b";".join), TAGS.map(b"".join)))
def test_any_octets_are_a_record_or_are_told_why_not(text: bytes) -> None:
    try:
        record = parse_key_record(text)
    except RecordSyntaxError as error:
        assert str(error).isprintable()
    else:
        assert parse_key_record(text + b";" if not text.rstrip(b" \t\r\n").endswith(b";") else text) == record


@given(st.sampled_from(["rsa", "ed25519"]), st.binary(max_size=700))
def test_what_is_written_is_read_back(key_type: str, public: bytes) -> None:
    text = key_record_text(key_type, public)
    assert parse_key_record(text.encode()) == KeyRecord(key_type, public)
    assert from_zone_file(zone_form(NAME, text)) == [text.encode()]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=600))
def test_any_text_is_written_into_a_zone_file(text: str) -> None:
    assert from_zone_file(zone_form(NAME, text)) == [text.encode()]


def test_the_form_of_a_zone_file() -> None:
    assert zone_form(NAME, "v=DKIM1; p=") == f'{NAME}. 3600 IN TXT "v=DKIM1; p="'
    long = zone_form(NAME, "x" * 256)
    assert long == f'{NAME}. 3600 IN TXT (\n    "{"x" * 255}"\n    "x"\n)'


def from_zone_file(text: str) -> list[bytes]:
    """The TXT records at NAME, as dnspython reads them."""
    zone = dns.zone.from_text(f"{text}\n", origin="example.org", relativize=False, check_origin=False)
    rdataset = zone.find_rdataset(f"{NAME}.", dns.rdatatype.TXT)
    assert timedelta(seconds=rdataset.ttl) == timedelta(hours=1)
    return [b"".join(record.strings) for record in rdataset]
