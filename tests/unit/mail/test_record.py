"""The evidence of an attempt: bounded, and read back whatever wrote it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.record import (
    MAX_HOSTS,
    MAX_LINE,
    MAX_LINES,
    MAX_OCTETS,
    AttemptRecord,
    HostRecord,
    decode,
    encode,
)


def bounded(record: AttemptRecord) -> AttemptRecord:
    return decode(encode(record))


HOST = HostRecord(
    "mx.example", "192.0.2.1", "TLS 1.2 or newer", "dane", "TLS 1.3", "4.7.5: does not fit", ("S: 220 hi", "C: QUIT")
)
RECORD = AttemptRecord(("MTA-STS: no policy",), (HOST, replace(HOST, address=None, dialogue=())))

# Short, and too long by far; of letters that JSON writes in one octet, and in twelve.
words = st.one_of(
    st.text(max_size=20), st.builds(str.__mul__, st.sampled_from("aé\n\U0001f600\udc80"), st.integers(0, 2000))
)
dialogues = st.lists(words, max_size=100).map(tuple) | st.builds(
    lambda word, count: (word,) * count, words, st.integers(0, 200)
)
hosts = st.builds(HostRecord, words, st.none() | words.filter(bool), words, words, words, words, dialogues)
records = st.builds(
    AttemptRecord,
    st.lists(words, max_size=30).map(tuple),
    st.lists(hosts, max_size=5).map(tuple) | st.builds(lambda host, count: (host,) * count, hosts, st.integers(0, 70)),
)


def test_what_is_small_is_kept_as_it_is() -> None:
    assert decode(encode(RECORD)) == RECORD


def test_an_empty_record_takes_two_octets() -> None:
    assert encode(AttemptRecord()) == "{}"


@given(records)
def test_every_record_fits(record: AttemptRecord) -> None:
    text = encode(record)
    assert text.isascii()
    assert len(text) <= MAX_OCTETS
    cut = decode(text)
    assert encode(cut) == text
    assert len(cut.tried) + cut.left_out == len(record.tried)
    assert len(cut.tried) <= MAX_HOSTS
    for host in cut.tried:
        assert len(host.dialogue) <= MAX_LINES
        assert all(len(line) <= MAX_LINE for line in host.dialogue)


def test_a_long_dialogue_keeps_its_beginning_and_its_end() -> None:
    lines = tuple(f"S: {number}" for number in range(200))
    (host,) = bounded(AttemptRecord((), (replace(HOST, dialogue=lines),))).tried
    assert host.dialogue[:30] == lines[:30]
    assert host.dialogue[30] == "(141 lines left out)"
    assert host.dialogue[31:] == lines[-29:]


def test_a_long_line_keeps_its_beginning() -> None:
    (host,) = bounded(AttemptRecord((), (replace(HOST, dialogue=("S: " + "x" * 400,)),))).tried
    assert host.dialogue == ("S: " + "x" * 294 + "...",)


def test_of_many_hosts_the_first_and_the_last_are_kept() -> None:
    many = tuple(replace(HOST, host=f"mx{number}.example") for number in range(60))
    cut = bounded(AttemptRecord((), many))
    assert [host.host for host in cut.tried] == [f"mx{number}.example" for number in (*range(10), *range(50, 60))]
    assert cut.left_out == 40


def test_dialogues_give_way_before_sentences_do() -> None:
    long = replace(HOST, dialogue=("S: " + "x" * 290,) * 60, verdict="v" * 200)
    cut = bounded(AttemptRecord((), (long,) * 20))
    assert [(host.verdict, len(host.dialogue)) for host in cut.tried] == [("v" * 200, 4)] * 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", AttemptRecord()),
        ("{", AttemptRecord()),
        ("[" * 100_000, AttemptRecord()),
        ("[]", AttemptRecord()),
        ("null", AttemptRecord()),
        ('{"policies": "one", "tried": {"host": "mx"}, "left_out": "3"}', AttemptRecord()),
        ('{"policies": ["one", 2, null], "left_out": -1, "new": [1]}', AttemptRecord(("one",))),
        (
            '{"tried": [7, {"host": "mx", "colour": "red"}]}',
            AttemptRecord((), (HostRecord("mx", None, "", "", "", ""),)),
        ),
        (
            '{"tried": [{"host": 1, "address": 2, "required": [], "dialogue": "S: 220"}]}',
            AttemptRecord((), (HostRecord("", None, "", "", "", ""),)),
        ),
    ],
)
def test_rows_of_other_versions_are_read_as_far_as_they_are_understood(text: str, expected: AttemptRecord) -> None:
    assert decode(text) == expected


def test_the_json_is_an_object_with_full_names() -> None:
    whole = json.loads(encode(RECORD))
    assert whole["tried"][0]["dialogue"] == ["S: 220 hi", "C: QUIT"]
    assert "dialogue" not in whole["tried"][1]
