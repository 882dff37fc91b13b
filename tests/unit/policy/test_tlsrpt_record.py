"""Where a domain wants its TLS reports: the TLSRPT record, good, odd and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.tlsrpt_record import MOST_URIS, HttpsTo, MailTo, TlsrptRecord, parse_tlsrpt

MAILBOX = "reports@a.test"
GOOD: dict[str, tuple[tuple[bytes, ...], list[str]]] = {
    "as in RFC 8460 section 3.1.1": ((b"v=TLSRPTv1;rua=mailto:reports@a.test",), [MAILBOX]),
    "as in RFC 8460 section 3.1.2": (
        (b"v=TLSRPTv1; rua=https://reporting.a.test/v1/tlsrpt",),
        ["https://reporting.a.test/v1/tlsrpt"],
    ),
    "blanks round delimiters": (
        (b"v=TLSRPTv1 \t; \trua=mailto:reports@a.test \t, https://a.test/ ;",),
        [MAILBOX, "https://a.test/"],
    ),
    "other records beside it": ((b"v=spf1 -all", b"v=TLSRPTv1;rua=mailto:reports@a.test", b"", b"\xff"), [MAILBOX]),
    "a record of another version beside it": (
        (b"v=TLSRPTv12;rua=x", b"v=TLSRPTv1;rua=mailto:reports@a.test"),
        [MAILBOX],
    ),
    "unknown fields": ((b"v=TLSRPTv1;x=1;rua=mailto:reports@a.test;ruf=mailto:no@a.test;nonsense",), [MAILBOX]),
    "two rua fields": ((b"v=TLSRPTv1;rua=mailto:reports@a.test;rua=https://a.test",), [MAILBOX, "https://a.test"]),
    "the same place twice": ((b"v=TLSRPTv1;rua=mailto:reports@a.test,MAILTO:reports@A.TEST?subject=x",), [MAILBOX]),
    "what else is no use": ((b"v=TLSRPTv1;rua=ftp://a.test/,,http://a.test/,mailto:reports@a.test",), [MAILBOX]),
    "a size as in DMARC": ((b"v=TLSRPTv1;rua=mailto:reports@a.test!10m",), [MAILBOX]),
    "octets that are percent-encoded": ((b"v=TLSRPTv1;rua=mailto:a%21b%2Bc@a.test",), ["a!b+c@a.test"]),
    "header fields of the mail": ((b"v=TLSRPTv1;rua=mailto:reports@a.test?subject=x&bcc=y@a.test",), [MAILBOX]),
    "a local part in UTF-8": ((b"v=TLSRPTv1;rua=mailto:j%C3%BCrg@a.test",), ["jürg@a.test"]),
    "any port, and a query": (
        (b"v=TLSRPTv1;rua=https://a.test:8443/x?a=b%2Cc&d=@",),
        ["https://a.test:8443/x?a=b%2Cc&d=@"],
    ),
    "a scheme in capitals, a final dot": ((b"v=TLSRPTv1;rua=HTTPS://A.test./",), ["HTTPS://A.test./"]),
}


@pytest.mark.parametrize("name", GOOD)
def test_places(name: str) -> None:
    texts, places = GOOD[name]
    found = parse_tlsrpt(texts)
    assert isinstance(found, TlsrptRecord)
    assert [one.uri if isinstance(one, HttpsTo) else str(one.address) for one in found.places] == places


NONE: dict[str, tuple[tuple[bytes, ...], str]] = {
    "nothing": ((), "no TLSRPT record"),
    "another record": ((b"v=spf1 -all",), "no TLSRPT record"),
    "a blank in front": ((b" v=TLSRPTv1;rua=mailto:reports@a.test",), "no TLSRPT record"),
    "the version in small letters": ((b"v=tlsrptv1;rua=mailto:reports@a.test",), "no TLSRPT record"),
    "no delimiter": ((b"v=TLSRPTv1 rua=mailto:reports@a.test",), "no TLSRPT record"),
    "two records": ((b"v=TLSRPTv1;rua=mailto:reports@a.test",) * 2, "it has 2 TLSRPT records"),
    "one good, one empty": ((b"v=TLSRPTv1;rua=mailto:reports@a.test", b"v=TLSRPTv1;"), "it has 2 TLSRPT records"),
    "no field": ((b"v=TLSRPTv1",), "names no rua"),
    "no rua": ((b"v=TLSRPTv1; x=y",), "names no rua"),
    "the name in capitals": ((b"v=TLSRPTv1; RUA=mailto:reports@a.test",), "names no rua"),
    "an empty rua": ((b"v=TLSRPTv1; rua=",), "rua 1: not a URI"),
    "plain http": ((b"v=TLSRPTv1; rua=http://a.test/",), "rua 1: neither mailto: nor https:"),
    "a mailbox without mailto": ((b"v=TLSRPTv1; rua=reports@a.test",), "neither mailto: nor https:"),
}


@pytest.mark.parametrize("name", NONE)
def test_no_record_that_counts(name: str) -> None:
    texts, reason = NONE[name]
    found = parse_tlsrpt(texts)
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (b"mailto:", "no @"),
        (b"mailto:a.test", "no @"),
        (b"mailto:postmaster", "without a domain name"),
        (b"mailto:a@[127.0.0.1]", "without a domain name"),
        (b"mailto:a@b@a.test", "neither a dot-string nor a quoted string"),
        (b"mailto:a%0D%0ABcc:b@a.test", "neither a dot-string nor a quoted string"),
        (b"mailto:%3Ca@a.test%3E", "neither a dot-string nor a quoted string"),
        (b"mailto:a@a.test%2Cb@a.test", "neither a dot-string nor a quoted string"),
        (b"mailto:a%@a.test", "no escape"),
        (b"mailto:%ff@a.test", "not valid UTF-8"),
        (b"mailto:" + b"a" * 65 + b"@a.test", "longer than 64"),
        (b"mailto:j\xc3\xbcrg@a.test", "not a URI"),
        (b"mailto: a@a.test", "not a URI"),
        (b"https://", "not a web address"),
        (b"https:///x", "not a web address"),
        (b"https:a.test/", "not a web address"),
        (b"https://user@a.test/", "not a web address"),
        (b"https://user:pw@a.test/", "not a web address"),
        (b"https://a.test/#x", "not a web address"),
        (b"https://a.test\\@b.test/", "not a web address"),
        (b"https://a.test:0/", "not a web address"),
        (b"https://a.test:65536/", "not a web address"),
        (b"https://a..test/", "no proper name"),
        (b"https://-a.test/", "no proper name"),
        (b"https://a%2Etest/", "not a web address"),
        (b"https://a.test/%zz", "no escape"),
        (b"https://127.0.0.1/", "IP address"),
        (b"https://127.0.0.1./", "IP address"),
        (b"https://127.1/", "IP address"),
        (b"https://0x7f000001/", "IP address"),
        (b"https://0X7F.1.0x1/", "IP address"),
        (b"https://2130706433/", "IP address"),
        (b"https://[::1]/", "not a web address"),
        (b"https://a.test/" + b"x" * 2000, "not a URI"),
    ],
)
def test_no_place(uri: bytes, reason: str) -> None:
    found = parse_tlsrpt((b"v=TLSRPTv1; rua=" + uri,))
    assert isinstance(found, str)
    assert reason in found
    beside = parse_tlsrpt((b"v=TLSRPTv1; rua=" + uri + b", mailto:reports@a.test",))
    assert isinstance(beside, TlsrptRecord)
    assert [str(one.address) for one in beside.places if isinstance(one, MailTo)] == [MAILBOX]
    assert len(beside.ignored) == 1 and reason in beside.ignored[0]


def test_a_handful_of_places() -> None:
    uris = b",".join(b"mailto:r%d@a.test" % number for number in range(5000))
    found = parse_tlsrpt((b"v=TLSRPTv1;rua=" + uris,))
    assert isinstance(found, TlsrptRecord)
    assert len(found.places) == MOST_URIS
    assert found.ignored == ("only the first 10 of 5000 rua are looked at",)


PIECES = [
    b"v=TLSRPTv1",
    b";",
    b"rua=",
    b"mailto:",
    b"https://",
    b"a@b.test",
    b"%",
    b"%21",
    b",",
    b"!",
    b"[",
    b"\\",
    b" ",
]
RECORDS = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES) | st.binary(max_size=3)).map(b"".join))


@given(st.lists(RECORDS.map(lambda octets: b"v=TLSRPTv1;rua=" + octets) | RECORDS, max_size=3))
def test_any_octets_make_places_or_a_sentence(texts: list[bytes]) -> None:
    found = parse_tlsrpt(tuple(texts))
    if isinstance(found, str):
        assert found.isprintable()
        return
    for place in found.places:
        assert place.uri.isascii() and place.uri.isprintable() and " " not in place.uri
