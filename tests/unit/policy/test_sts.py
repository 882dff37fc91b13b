"""RFC 8461 sections 3.1, 3.2 and 4.1: the TXT record, the policy file, and which hosts a policy lists."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.sts import (
    MAX_AGE_LIMIT,
    MAX_POLICY_OCTETS,
    StsMode,
    StsPolicy,
    StsSyntaxError,
    lists,
    parse_policy,
    parse_record,
)

DATA = Path(__file__).parents[2] / "data" / "sts_policies"
DAY = timedelta(days=1)
ONE = ("mx.example.org",)
ENFORCE, TESTING, NONE = StsMode.ENFORCE, StsMode.TESTING, StsMode.NONE

GOOD_POLICIES: dict[str, tuple[StsMode, tuple[str, ...], timedelta]] = {
    "rfc-example": (ENFORCE, ("mail.example.com", "*.example.net", "backupmx.example.com"), 7 * DAY),
    "lf": (TESTING, ONE, DAY),  # sts-policy-term = LF / CRLF
    "lf-and-crlf-mixed": (TESTING, ONE, DAY),
    "no-final-newline": (ENFORCE, ONE, DAY),  # [sts-policy-term] is optional at the end
    "blank-lines-at-the-end": (ENFORCE, ONE, DAY),  # beyond the grammar, on purpose
    "blank-lines-in-between": (ENFORCE, ONE, DAY),
    "any-order": (ENFORCE, ONE, DAY),
    "no-space-after-colon": (ENFORCE, ONE, DAY),  # ":" *WSP
    "tabs-and-trailing-space": (ENFORCE, ONE, DAY),  # sts-policy-field *WSP
    "none-without-mx": (NONE, (), DAY),  # mx is required except when the mode is none
    "none-with-mx": (NONE, ONE, DAY),
    "unknown-keys": (ENFORCE, ONE, DAY),  # unknown fields SHALL be ignored
    "unknown-key-utf8": (ENFORCE, ONE, DAY),  # sts-policy-vchar includes UTF-8
    "unknown-key-not-utf8": (ENFORCE, ONE, DAY),  # not needed, so no reason to refuse
    "repeated-keys-first-counts": (ENFORCE, ONE, DAY),  # all entries but the first SHALL be ignored
    "max-age-ten-digits-is-capped": (ENFORCE, ONE, MAX_AGE_LIMIT),  # 1*10(DIGIT), but never above 31557600
    "max-age-one-over-is-capped": (ENFORCE, ONE, MAX_AGE_LIMIT),
    "max-age-zero": (ENFORCE, ONE, timedelta(0)),  # a non-negative integer
    "max-age-leading-zeros": (ENFORCE, ONE, DAY),
    "upper-case-host": (ENFORCE, ("mx.example.org", "*.example.net"), DAY),  # names have no case
    "single-label-host": (ENFORCE, ("localhost",), DAY),  # Domain of RFC 5321
    "a-label-host": (ENFORCE, ("mx.xn--bcher-kva.example",), DAY),
}

BAD_POLICIES = {
    "empty": "there is no version",
    "blank-lines-only": "there is no version",
    "html-page": "line 1 is not a key",
    "no-version": "there is no version",
    "no-mode": "there is no mode",
    "no-max-age": "there is no max_age",
    "no-mx-enforce": "there is no mx",
    "no-mx-testing": "there is no mx",
    "version-2": "the version is 'STSv2'",
    "version-lower-case": "the version is 'stsv1'",  # %s: case-sensitive
    "key-upper-case": "there is no mode",  # an unknown key
    "mode-upper-case": "the mode 'Enforce'",
    "mode-unknown": "the mode 'report'",
    "mode-empty": "line 2: mode has no value",
    "first-mode-counts": "the mode 'strict'",
    "max-age-eleven-digits": "the max_age '00000086400'",
    "max-age-negative": "the max_age '-1'",
    "max-age-with-sign": "the max_age '+86400'",  # int() would take these five
    "max-age-fraction": "the max_age '86400.5'",
    "max-age-words": "the max_age '1 day'",
    "max-age-underscore": "the max_age '86_400'",
    "max-age-arabic-digits": "the max_age '٨٦٤٠٠'",
    "space-before-colon": "line 2 is not a key",
    "leading-space": "line 2 is not a key",
    "equals-for-colon": "line 2 is not a key",
    "line-without-colon": "line 5 is not a key",
    "word-without-colon": "line 5 is not a key",
    "comment": "line 1 is not a key",  # there are none in the grammar
    "byte-order-mark": "line 1 is not a key",
    "utf-16": "line 1 is not a key",
    "bare-cr": "control character in the value of version",  # so all is one line
    "doubled-cr": "control character in the value of version",
    "cr-at-the-end": "control character in the value of max_age",
    "nul": "control character in the value of mode",
    "control-in-unknown-key": "control character in the value of note",
    "unknown-key-empty": "line 5: note has no value",
    "key-too-long": "line 5 is not a key",
    "key-with-space": "line 5 is not a key",
    "key-starts-with-hyphen": "line 5 is not a key",
    "mx-star-only": "line 3: '*' is neither",
    "mx-star-dot": "line 3: '*.' is neither",
    "mx-dot-before": "line 3: '.example.org' is neither",
    "mx-star-inside": "line 3: 'a.*.example.org' is neither",
    "mx-star-last": "line 3: 'mx.*' is neither",
    "mx-two-stars": "line 3: '*.*.example.org' is neither",
    "mx-star-in-label": "line 3: 'mx*.example.org' is neither",
    "mx-final-dot": "line 3: 'mx.example.org.' is neither",
    "mx-two-dots": "line 3: 'mx..example.org' is neither",
    "mx-list": "line 3: 'mx1.example.org, mx2.example.org' is neither",
    "mx-hyphen-first": "line 3: '-mx.example.org' is neither",
    "mx-hyphen-last": "line 3: 'mx-.example.org' is neither",
    "mx-literal": "line 3: '[192.0.2.1]' is neither",
    "mx-u-label": "line 3: 'mx.bücher.example' is neither",  # A-labels only
    "mx-not-utf8": "line 3: 'mx.b\ufffdcher.example' is neither",
    "mx-empty": "line 3: mx has no value",
    "mx-one-of-two-bad": "line 5: '*' is neither",
    "none-with-bad-mx": "line 3: '*' is neither",
}


@pytest.mark.parametrize("name", GOOD_POLICIES)
def test_good_policy(name: str) -> None:
    octets = (DATA / "good" / f"{name}.txt").read_bytes()
    policy = parse_policy(octets)
    assert (policy.mode, policy.mx, policy.max_age) == GOOD_POLICIES[name]
    assert policy.raw == octets.decode(errors="replace")


@pytest.mark.parametrize("name", BAD_POLICIES)
def test_bad_policy(name: str) -> None:
    with pytest.raises(StsSyntaxError) as caught:
        parse_policy((DATA / "bad" / f"{name}.txt").read_bytes())
    assert BAD_POLICIES[name] in str(caught.value)


def test_limits() -> None:
    """RFC 8461 sections 3.2 and 3.3."""
    assert timedelta(seconds=31557600) == MAX_AGE_LIMIT
    assert MAX_POLICY_OCTETS == 64 * 1024


LONG = "x" * 81
SHOWN = "x" * 80


@pytest.mark.parametrize(
    ("version", "mode", "max_age", "mx", "message"),
    [
        (LONG, "none", "1", "a", f"the version is '{SHOWN}', not STSv1"),
        ("STSv1", LONG, "1", "a", f"the mode '{SHOWN}' is none of enforce, testing and none"),
        ("STSv1", "none", LONG, "a", f"the max_age '{SHOWN}' is not a number of seconds of up to 10 digits"),
        ("STSv1", "none", "1", f"{LONG}*", f"line 4: '{SHOWN}' is neither a host name nor *. and a domain name"),
    ],
)
def test_long_values_are_cut_for_the_reader(version: str, mode: str, max_age: str, mx: str, message: str) -> None:
    with pytest.raises(StsSyntaxError) as caught:
        parse_policy(f"version: {version}\nmode: {mode}\nmax_age: {max_age}\nmx: {mx}\n".encode())
    assert str(caught.value) == message


def test_every_policy_file_is_in_a_table() -> None:
    assert {path.stem for path in (DATA / "good").iterdir()} == set(GOOD_POLICIES)
    assert {path.stem for path in (DATA / "bad").iterdir()} == set(BAD_POLICIES)


RECORDS: list[tuple[str, tuple[bytes, ...], str | None]] = [
    ("the example of RFC 8461", (b"v=STSv1; id=20160831085700Z;",), "20160831085700Z"),
    ("no final semicolon", (b"v=STSv1; id=1",), "1"),
    ("no white space", (b"v=STSv1;id=1;",), "1"),
    ("white space round semicolons", (b"v=STSv1 \t;\t id=1 ; ",), "1"),
    ("unknown field before", (b"v=STSv1; x-y_z.9=!:<>~; id=1",), "1"),
    ("unknown field after", (b"v=STSv1; id=1; note=hello",), "1"),
    ("32 characters", (b"v=STSv1; id=" + b"a1" * 16,), "a1" * 16),
    ("case of the id is kept", (b"v=STSv1; id=aBc",), "aBc"),
    ("first of two ids", (b"v=STSv1; id=1; id=2",), "1"),
    ("id in another field's name", (b"v=STSv1; xid=9; id=1",), "1"),
    ("unrelated records beside it", (b"v=spf1 -all", b"v=STSv1; id=1", b"", b"\xff\x00"), "1"),
    ("another version beside it", (b"v=STSv2; id=2", b"v=STSv1; id=1"), "1"),
    ("version with more digits beside it", (b"v=STSv10; id=2", b"v=STSv1; id=1"), "1"),
    ("nothing", (), None),
    ("only unrelated", (b"v=spf1 -all",), None),
    ("two records", (b"v=STSv1; id=1", b"v=STSv1; id=2"), None),
    ("the same record twice", (b"v=STSv1; id=1", b"v=STSv1; id=1"), None),
    ("a good and a broken one", (b"v=STSv1; id=1", b"v=STSv1; nonsense"), None),
    ("no id", (b"v=STSv1;",), None),
    ("no id but another field", (b"v=STSv1; x=1",), None),
    ("bare version", (b"v=STSv1",), None),
    ("empty id", (b"v=STSv1; id=;",), None),
    ("33 characters", (b"v=STSv1; id=" + b"a" * 33,), None),
    ("id with hyphen", (b"v=STSv1; id=2026-11-24",), None),
    ("id with underscore", (b"v=STSv1; id=a_b",), None),
    ("bad id first, good id second", (b"v=STSv1; id=a-b; id=1",), None),
    ("id in quotes", (b'v=STSv1; id="1"',), None),
    ("space round the equals sign", (b"v=STSv1; id = 1",), None),
    ("space inside the id", (b"v=STSv1; id=1 2",), None),
    ("upper-case ID", (b"v=STSv1; ID=1",), None),
    ("lower-case version", (b"v=stsv1; id=1",), None),
    ("space before the version", (b" v=STSv1; id=1",), None),
    ("version is not first", (b"id=1; v=STSv1",), None),
    ("empty field", (b"v=STSv1;; id=1",), None),
    ("two final semicolons", (b"v=STSv1; id=1;;",), None),
    ("field without value", (b"v=STSv1; id=1; x=",), None),
    ("equals sign in a value", (b"v=STSv1; id=1; x=a=b",), None),
    ("octets beyond ASCII", (b"v=STSv1; id=1; x=\xc3\xa9",), None),
    ("line end", (b"v=STSv1; id=1\n",), None),
    ("trailing space without semicolon", (b"v=STSv1; id=1 ",), None),
    ("comma for semicolon", (b"v=STSv1, id=1",), None),
]


@pytest.mark.parametrize(("texts", "policy_id"), [case[1:] for case in RECORDS], ids=[case[0] for case in RECORDS])
def test_record(texts: tuple[bytes, ...], policy_id: str | None) -> None:
    assert parse_record(texts) == policy_id


LISTED = [
    ("exact", "mx.example.org", "mx.example.org", True),
    ("another host", "mx.example.org", "mx2.example.org", False),
    ("a host below", "example.org", "mx.example.org", False),
    ("a host above", "mx.example.org", "example.org", False),
    ("one label for the star", "*.example.org", "mx.example.org", True),
    ("two labels for the star", "*.example.org", "a.mx.example.org", False),
    ("no label for the star", "*.example.org", "example.org", False),
    ("empty label for the star", "*.example.org", ".example.org", False),
    ("the end of a label for the star", "*.example.org", "mxexample.org", False),
    ("another domain", "*.example.org", "mx.example.net", False),
    ("domain as a prefix", "*.example.org", "mx.example.org.evil.test", False),
    ("star over a top-level domain", "*.test", "mx.test", True),
    ("single label", "localhost", "localhost", True),
    ("a single label is under no star", "*.org", "org", False),
    ("no host", "*.example.org", "", False),
    ("a star over nothing", "*.", "mx", False),  # no policy file has that
]


@pytest.mark.parametrize(("pattern", "host", "listed"), [case[1:] for case in LISTED], ids=[case[0] for case in LISTED])
def test_lists(pattern: str, host: str, listed: bool) -> None:
    policy = StsPolicy(ENFORCE, ("other.example", pattern), DAY, "")
    assert lists(policy, host) is listed


def test_a_policy_without_patterns_lists_nobody() -> None:
    assert not lists(StsPolicy(NONE, (), DAY, ""), "mx.example.org")


_keys = st.sampled_from(["version", "mode", "mx", "max_age", "note", "Mode", "", " "])
_values = st.sampled_from(["STSv1", "enforce", "testing", "none", "*.example.org", "mx.example.org", "*", "86400", ""])
_lines = st.tuples(_keys, st.sampled_from([":", ": ", " : ", ""]), _values | st.text(max_size=8)).map("".join)
_files = st.lists(_lines, max_size=8).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n", "\r"]).map(lambda e: e.join(lines))
)


@given(st.binary(max_size=200) | _files.map(lambda text: text.encode(errors="surrogatepass")))
def test_any_file_is_a_policy_or_our_error(octets: bytes) -> None:
    try:
        policy = parse_policy(octets)
    except StsSyntaxError as error:
        assert str(error).isprintable()
        return
    assert policy.mx or policy.mode is NONE
    assert timedelta(0) <= policy.max_age <= MAX_AGE_LIMIT
    assert parse_policy(policy.raw.encode()) == policy  # what the cache keeps reads back the same


@given(st.lists(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"v=STSv1; " + tail), max_size=3))
def test_any_records_give_an_id_or_none(texts: list[bytes]) -> None:
    policy_id = parse_record(tuple(texts))
    assert policy_id is None or (policy_id.isascii() and policy_id.isalnum() and 1 <= len(policy_id) <= 32)


@given(st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True))
def test_every_valid_id_is_read(policy_id: str) -> None:
    assert parse_record((f"v=STSv1; id={policy_id};".encode(),)) == policy_id


@given(st.lists(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=5))
def test_a_star_takes_exactly_one_label(labels: list[str]) -> None:
    policy = StsPolicy(ENFORCE, ("*.example.org",), DAY, "")
    assert lists(policy, ".".join([*labels, "example", "org"])) is (len(labels) == 1)


def test_long_lines_are_read_in_no_time() -> None:
    """64 KiB made to backtrack: seconds (and a test timeout) when an expression is careless."""
    for filling in (b"a.", b"-", b"a ", b" ", b"\t", b"*.", b"=a;"):
        long = filling * (65000 // len(filling))
        with pytest.raises(StsSyntaxError):
            parse_policy(b"mx: a" + long + b"\x01")
        assert parse_record((b"v=STSv1;" + long + b"\x01",)) is None
