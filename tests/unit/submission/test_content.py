"""A message as it comes in: what is stored of it, and why it is refused, however it is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.delivery.dots import DotStuffer
from relay.mail.address import Address, parse_address
from relay.policy.clients import Headers, LineEnds
from relay.submission.content import MAX_HEADER_OCTETS, MAX_HOPS, Content, Rules
from relay.submission.data import DataReader, PlainReader
from relay.submission.prepare import Treatment

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SENDER = parse_address(b"sender@example.test")
ADDED = b"Message-ID: <id@relay.example.test>\r\nDate: Wed, 04 Mar 2026 05:06:07 +0000\r\nFrom: sender@example.test\r\n"
WHOLE = b"From: a@b.test\r\nDate: x\r\nMessage-ID: y\r\n"
SIZES = (1, 2, 3, 7, 1 << 20)
CUTS = st.lists(st.integers(1, 6), max_size=40)


def rules(
    headers: Headers = Headers.LEAVE,
    *,
    line_ends: LineEnds = LineEnds.REFUSE,
    max_size: int = 1 << 30,
    may_name: Callable[[Address], bool] | None = None,
) -> Rules:
    treatment = Treatment(headers, SENDER, "id@relay.example.test", NOW, may_name)
    return Rules(max_size, line_ends, refuse_long_lines=False, header=treatment)


def cut(octets: bytes, sizes: Sequence[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(octets[:size])
        octets = octets[size:]
    return [*pieces, octets]


def evenly(octets: bytes, size: int) -> list[bytes]:
    return cut(octets, [size] * (len(octets) // size))


def by_data(message: bytes, pieces: Callable[[bytes], list[bytes]], how: Rules) -> tuple[Content, bytes]:
    """Through DATA, `message` being without stuffed dots and final dot. What it was, and what is stored of it."""
    wire = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    reader, content = DataReader(), Content(how)
    stored = b"".join(content.feed(reader.feed(piece)) for piece in pieces(wire))
    assert reader.ended
    assert reader.rest == b""
    return content, stored + content.end()


def by_bdat(message: bytes, pieces: Callable[[bytes], list[bytes]], how: Rules) -> tuple[Content, bytes]:
    reader, content = PlainReader(), Content(how)
    stored = b"".join(content.feed(reader.feed(piece)) for piece in pieces(message))
    return content, stored + content.feed(reader.end()) + content.end()


# With `fix`: the message -> what is stored of it
FIXED: dict[bytes, bytes] = {
    b"": ADDED + b"\r\n",
    b"\r\n": ADDED + b"\r\n",
    b"\r\nhello\r\n": ADDED + b"\r\nhello\r\n",
    b"Subject: x\r\n": ADDED + b"Subject: x\r\n\r\n",  # many verify no signature without the empty line
    b"Subject: x\r\n\r\nhello\r\n": ADDED + b"Subject: x\r\n\r\nhello\r\n",
    # No empty line before the body: readers end the header at a line that is no field, and so do we.
    b"hello\r\n": ADDED + b"\r\nhello\r\n",
    b"hello\r\nFrom: x\r\n\r\nBcc: y\r\n": ADDED + b"\r\nhello\r\nFrom: x\r\n\r\nBcc: y\r\n",
    b" hello\r\n": ADDED + b"\r\n hello\r\n",
    b"\tx: y\r\n\r\n": ADDED + b"\r\n\tx: y\r\n\r\n",
    b"Subject: x\r\nhello\r\nTo: y\r\n\r\n": ADDED + b"Subject: x\r\n\r\nhello\r\nTo: y\r\n\r\n",
    WHOLE + b"hello\r\n": WHOLE + b"\r\nhello\r\n",
    WHOLE + b" \r\nTo: x\r\n\t\r\n\r\nhello\r\n": WHOLE + b" \r\nTo: x\r\n\t\r\n\r\nhello\r\n",
    WHOLE + b"\r\n\r\n\r\nBcc: x\r\n": WHOLE + b"\r\n\r\n\r\nBcc: x\r\n",
    b"Bcc: x\r\n y\r\n\r\nBcc: z\r\n": ADDED + b"\r\nBcc: z\r\n",
    # The first line of a mailbox file is not of the message.
    b"From x@y Thu Jan  1 00:00:00 1970\r\n" + WHOLE + b"\r\nz\r\n": WHOLE + b"\r\nz\r\n",
    b">From x@y\r\n" + WHOLE + b"\r\n": WHOLE + b"\r\n",
    b"From x@y\r\n": ADDED + b"\r\n",
    b"From x\r\nFrom y\r\n": ADDED + b"\r\nFrom y\r\n",
    b"From x\r\n\r\nz\r\n": ADDED + b"\r\nz\r\n",
    WHOLE + b"From x@y\r\n\r\n": WHOLE + b"\r\nFrom x@y\r\n\r\n",
    b".\r\n": ADDED + b"\r\n.\r\n",
    b"..x\r\n": ADDED + b"\r\n..x\r\n",
}


@pytest.mark.parametrize("message", FIXED, ids=lambda message: repr(message[:30]))
def test_fixed(message: bytes) -> None:
    for size in SIZES:
        for way in (by_data, by_bdat):
            content, stored = way(message, lambda wire, size=size: evenly(wire, size), rules(Headers.FIX))  # type: ignore[misc]
            assert content.problem is None
            assert stored == FIXED[message], (size, way)


# With `refuse`
REFUSED = {
    b"hello\r\n": "554 5.6.0 Line 1 of the header is no field",
    b" a: b\r\n": "554 5.6.0 Line 1 of the header is no field",
    b"From x@y\r\n" + WHOLE + b"\r\n": "554 5.6.0 Line 1 of the header is no field",
    WHOLE + b" x\r\nhello\r\n\r\n": "554 5.6.0 Line 5 of the header is no field",
    b"\r\nhello\r\n": "554 5.6.0 The message has no From field",
    b"": "554 5.6.0 The message has no From field",
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message: bytes) -> None:
    for size in SIZES:
        for way in (by_data, by_bdat):
            content, stored = way(message, lambda wire, size=size: evenly(wire, size), rules(Headers.REFUSE))  # type: ignore[misc]
            assert content.problem is not None
            assert content.problem.text == REFUSED[message]
            assert stored == b""


def test_where_authors_are_restricted_each_line_must_be_a_field() -> None:
    for message in (b"hello\r\n", WHOLE + b"hello\r\n", b" x\r\n" + WHOLE):
        content, _ = by_data(message, lambda wire: [wire], rules(may_name=lambda address: True))
        assert content.problem is not None
        assert content.problem.text.endswith(" of the header is no field")


LINES = st.lists(
    st.sampled_from(
        [
            b"Received: x",
            b"Message-ID:",
            b"Bcc: x",
            b"From: a@b.test",
            b"From x",
            b" y",
            b"\t",
            b"",
            b"no field",
            b"\xe4",
            b".",
            b"Date:",
        ]
    ),
    max_size=10,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


@given(LINES, CUTS, st.sampled_from(Headers), st.sampled_from([by_data, by_bdat]))
@example(b"From x\r\n", [1] * 9, Headers.FIX, by_data)
@example(b"\r\n", [1], Headers.FIX, by_bdat)
def test_cuts_change_nothing(
    message: bytes,
    sizes: list[int],
    headers: Headers,
    way: Callable[[bytes, Callable[[bytes], list[bytes]], Rules], tuple[Content, bytes]],
) -> None:
    cut_up, some = way(message, lambda wire: cut(wire, sizes), rules(headers))
    whole, all_of_it = by_data(message, lambda wire: [wire], rules(headers))
    assert some == all_of_it
    assert cut_up.problem == whole.problem
    assert cut_up.eight_bit == whole.eight_bit == (not all_of_it.isascii())
    assert cut_up.header.octets == whole.header.octets
    if headers is Headers.LEAVE:
        assert all_of_it == (b"\r\n" if message.startswith((b" ", b"\t")) else b"") + message
    if whole.problem is None:
        assert all_of_it.startswith(whole.header.octets)
        rest = all_of_it[len(whole.header.octets) :]
        assert rest == b"" or rest.startswith(b"\r\n") or headers is Headers.LEAVE
        if headers is not Headers.LEAVE:
            assert whole.header.count(b"bcc") == 0
            assert whole.header.count(b"from") == 1
            assert message.endswith(rest.removeprefix(b"\r\n")) or rest == b""


CONTINUED = b" for <forged@example.test>; Wed, 04 Mar 2026 05:06:07 +0000\r\nFrom: a@b.test\r\n\r\nx\r\n"


@pytest.mark.parametrize("message", [CONTINUED, b"\t\r\n" + CONTINUED, b" \r\n", b" ", b"\tno line end"])
@pytest.mark.parametrize("size", SIZES)
def test_no_first_line_goes_on_with_our_received_line(message: bytes, size: int) -> None:
    content, stored = by_bdat(message, lambda wire: evenly(wire, size), rules())
    assert content.problem is None
    assert stored == b"\r\n" + message + (b"" if message.endswith(b"\r\n") else b"\r\n")
    assert content.header.octets == b""
    content, _ = by_bdat(message, lambda wire: evenly(wire, size), rules(may_name=lambda _address: True))
    assert content.problem is not None
    assert content.problem.text == "554 5.6.0 Line 1 of the header is no field"


# -> in the whole message, in its header section
EIGHT_BIT = {
    b"": (False, False),
    b"Subject: x\r\n\r\n\x7f\r\n": (False, False),
    b"Subject: x\r\n\r\n\x80\r\n": (True, False),
    b"Subject: x\r\n\r\nlater in the body: \x80\r\n": (True, False),
    b"Subject: \xc3\xa4\r\n\r\nx\r\n": (True, True),
    b"Subject: x\xff\r\n": (True, True),
    b"Subject: x\r\n\r\n\r\n\r\n\xff\r\n": (True, False),
    b"\r\n\xff\r\n\r\n": (True, False),
}


@pytest.mark.parametrize("message", EIGHT_BIT)
@pytest.mark.parametrize("headers", [Headers.LEAVE, Headers.FIX])
def test_eight_bit(message: bytes, headers: Headers) -> None:
    for size in SIZES:
        content, _ = by_data(message, lambda wire, size=size: evenly(wire, size), rules(headers))  # type: ignore[misc]
        assert (content.eight_bit, content.header.eight_bit) == EIGHT_BIT[message], size


def test_only_what_is_stored_makes_a_message_8_bit() -> None:
    content, _ = by_data(b"Bcc: \xc3\xa4@b.test\r\n" + WHOLE + b"\r\n", lambda wire: [wire], rules(Headers.FIX))
    assert (content.eight_bit, content.header.eight_bit) == (False, False)
    how = rules(Headers.FIX)
    treatment = Treatment(Headers.FIX, parse_address("ä@b.test".encode()), "x@y", NOW)
    content, _ = by_data(b"", lambda wire: [wire], Rules(how.max_size, how.line_ends, False, treatment))
    assert (content.eight_bit, content.header.eight_bit) == (True, True)


def test_size() -> None:
    message = WHOLE + b"\r\n" + b"x" * 100 + b"\r\n"
    for headers in (Headers.LEAVE, Headers.FIX):
        content, stored = by_data(message, lambda wire: evenly(wire, 7), rules(headers, max_size=len(message)))
        assert (content.problem, stored) == (None, message)
        content, _ = by_data(message, lambda wire: evenly(wire, 7), rules(headers, max_size=len(message) - 1))
        assert content.problem is not None
        assert content.problem.text == "552 5.3.4 Message too big"


def test_what_normalising_adds_counts() -> None:
    how = rules(line_ends=LineEnds.NORMALISE, max_size=100)
    assert by_bdat(b"\n" * 50, lambda wire: [wire], how)[0].problem is None
    assert by_bdat(b"\n" * 51, lambda wire: [wire], how)[0].problem is not None


def test_hops() -> None:
    for headers in (Headers.LEAVE, Headers.FIX):
        for number, text in ((MAX_HOPS, None), (MAX_HOPS + 1, "554 5.4.6 Too many Received lines: mail loop")):
            message = b"Received: x\r\n y\r\n" * number + WHOLE + b"\r\nReceived: z\r\n"
            content, _ = by_data(message, lambda wire: evenly(wire, 99), rules(headers))
            assert (content.problem and content.problem.text) == text


def test_a_huge_header() -> None:
    message = WHOLE + b"X: " + b"x" * MAX_HEADER_OCTETS + b"\xff\r\nReceived: x\r\nTLS-Required: No\r\n\r\nbody\r\n"
    for size in (4096, 1 << 20):
        for headers in (Headers.FIX, Headers.REFUSE):
            content, _ = by_data(message, lambda wire, size=size: evenly(wire, size), rules(headers))  # type: ignore[misc]
            assert content.problem is not None
            assert content.problem.text == "552 5.3.4 Header of the message is over 256 KiB"
        content, stored = by_data(message, lambda wire, size=size: evenly(wire, size), rules())  # type: ignore[misc]
        assert stored == message
        assert (content.header.hops, content.header.waives_tls, content.header.eight_bit) == (0, False, False)
        assert content.eight_bit


@pytest.mark.parametrize("size", [1, 1000])
def test_a_large_body_without_a_header_is_not_held_back(size: int) -> None:
    content, reader = Content(rules(Headers.FIX)), PlainReader()
    stored = b""
    for number in range(100):
        stored += b"".join(content.feed(reader.feed(piece)) for piece in evenly(b"hello world\r\n", size))
        assert len(stored) >= number * 13
    assert stored == ADDED + b"\r\n" + b"hello world\r\n" * 100


# What other servers have taken for the end of a message, or for a line end; each is followed by what would be smuggled.
# With DATA (RFC 5321 section 2.3.8), https://sec-consult.com/blog/detail/smtp-smuggling-spoofing-e-mails-worldwide/.
NO_ENDS = {
    b"\n.\n": "Bare LF in the message (line 1, octet 6)",
    b"\n.\r\n": "Bare LF in the message (line 1, octet 6)",
    b"\r.\r": "Bare CR in the message (line 1, octet 6)",
    b"\r.\n": "Bare CR in the message (line 1, octet 6)",
    b"\n.\r": "Bare LF in the message (line 1, octet 6)",
    b"\r.\r\n": "Bare CR in the message (line 1, octet 6)",
    b"\r\n.\n": "Bare LF in the message (line 2, octet 1)",
    b"\r\n.\r": "Bare CR in the message (line 2, octet 1)",
    b"\r\n.\r\r\n": "Bare CR in the message (line 2, octet 1)",
    b"\r\r\n.\r\r\n": "Bare CR in the message (line 1, octet 6)",
    b"\n\r.\r\n": "Bare LF in the message (line 1, octet 6)",
    b"\n\r\n.\n\r\n": "Bare LF in the message (line 1, octet 6)",
    b"\n\n.\r\n": "Bare LF in the message (line 1, octet 6)",
    b"\n\n..\r\n": "Bare LF in the message (line 1, octet 6)",
    b"\r\n\0.\r\n": "NUL in the message (line 2, octet 1)",
    b"\r\n.\0\r\n": "NUL in the message (line 2, octet 1)",
    b"\0\r\n.\n": "NUL in the message (line 1, octet 6)",
    b"\r\0\n.\r\0\n": "Bare CR in the message (line 1, octet 6)",
    b"\r\n..\r\n": None,
    b"\r\n. \r\n": None,
    b"\r\n .\r\n": None,
    b"\r\n.\t\r\n": None,
    b"\r\n\xe2\x80\xa4\r\n": None,  # a dot of Unicode
    b"\r\n\xae\r\n": None,  # a dot with its eighth bit set
    b"\xc2\x85.\xc2\x85": None,  # a line end of Unicode
    b"\x0b.\x0b": None,
}
SMUGGLED = b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\nx"


def leaves_as_one(stored: bytes) -> None:
    """What goes out with DATA is one message for every server: no bare CR, LF or NUL, no dot that ends it early."""
    stuffer = DotStuffer()
    wire = b"\r\n" + b"".join(stuffer.stuff(piece) for piece in evenly(stored, 5)) + stuffer.end()
    assert wire.count(b"\r\n") == wire.count(b"\r") == wire.count(b"\n")
    assert b"\0" not in wire
    assert wire.index(b"\r\n.\r\n") == len(wire) - 5


@pytest.mark.parametrize("sequence", NO_ENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_nothing_else_ends_data(sequence: bytes, size: int) -> None:
    for line_ends in LineEnds:
        reader, content = DataReader(), Content(rules(line_ends=line_ends))
        stored, pieces = b"", evenly(b"first" + sequence + SMUGGLED + b"\r\n.\r\nNOOP\r\n", size)
        while not reader.ended:
            stored += content.feed(reader.feed(pieces.pop(0)))
        assert reader.rest + b"".join(pieces) == b"NOOP\r\n"
        stored += content.end()
        if NO_ENDS[sequence] is not None and line_ends is LineEnds.REFUSE:
            assert content.problem is not None
            assert content.problem.text == f"554 5.6.0 {NO_ENDS[sequence]}; lines must end with CRLF"
        else:
            assert content.problem is None
            assert stored.endswith(SMUGGLED + b"\r\n")
            leaves_as_one(stored)


@pytest.mark.parametrize("sequence", [*NO_ENDS, b"\r\n.\r\n", b"\r\n.\r\n.\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_nothing_ends_bdat_but_its_number(sequence: bytes, size: int) -> None:
    for line_ends in LineEnds:
        message = b"first" + sequence + SMUGGLED
        content, stored = by_bdat(message, lambda wire: evenly(wire, size), rules(line_ends=line_ends))
        fault = NO_ENDS.get(sequence)
        if fault is not None and line_ends is LineEnds.REFUSE:
            assert content.problem is not None
            assert content.problem.text.startswith(f"554 5.6.0 {fault.partition(',')[0]}, octet ")
        else:
            assert content.problem is None
            assert stored.endswith(SMUGGLED + b"\r\n")
            assert line_ends is LineEnds.NORMALISE or stored == message + b"\r\n"
            leaves_as_one(stored)


HOSTILE = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\xff", b"\r\n", b"\r\n.", b".\r\n", b"\r\n.\r\n", b"From: x"]),
    max_size=16,
).map(b"".join)


def test_a_last_line_without_its_end_gets_one() -> None:
    for message, stored in ((b"x", b"x\r\n"), (b"a\r\n\r\nx", b"a\r\n\r\nx\r\n"), (b"", b""), (b"\r\n", b"\r\n")):
        assert by_bdat(message, lambda wire: [wire], rules())[1] == stored
    for message in (b"x", b"x\n", b"x\r", b"x\r\n", b"\0x\0"):
        assert by_bdat(message, lambda wire: [wire], rules(line_ends=LineEnds.NORMALISE))[1] == b"x\r\n"


@given(HOSTILE, CUTS, st.sampled_from(Headers), st.sampled_from(LineEnds))
@example(b"\r", [], Headers.FIX, LineEnds.NORMALISE)
@example(b"\r\0\n.\r\n", [1, 1, 1], Headers.LEAVE, LineEnds.NORMALISE)
def test_whatever_is_stored_leaves_as_one(
    message: bytes, sizes: list[int], headers: Headers, line_ends: LineEnds
) -> None:
    content, stored = by_bdat(message, lambda wire: cut(wire, sizes), rules(headers, line_ends=line_ends))
    whole, all_of_it = by_bdat(message, lambda wire: [wire], rules(headers, line_ends=line_ends))
    assert (content.problem is None) == (whole.problem is None)
    if content.problem is None:
        assert stored == all_of_it
        assert stored == b"" or stored.endswith(b"\r\n")
        leaves_as_one(stored)
