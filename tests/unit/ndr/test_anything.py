"""Whatever a notice is about, a strict reader of RFC 3464 takes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import assume, example, given
from hypothesis import strategies as st
from notice_case import DONE, Case, read

from relay.mail.address import AddressError, parse_address
from relay.mail.message import DeliverBy, MessageDsn, RecipientDsn, Ret, TlsDemand
from relay.mail.outcome import Deferred, Failed, Outcome
from relay.mail.status import Kind as Class
from relay.mail.status import Reply, Status
from relay.ndr.due import Kind, returns_whole
from relay.submission.verbs import Rcpt, parse_rcpt

FAILURE, DELAY, RELAYED, UNDELIVERABLE = Kind.FAILURE, Kind.DELAY, Kind.RELAYED, Kind.UNDELIVERABLE
MESSES = st.text(max_size=60) | st.lists(
    st.sampled_from(["\r\n", "Status: 2.0.0", "\x00", "ö", "\u2028", "x" * 1000, " ", "--relay-", ".", "=", "\ud800"])
).map("".join)


times = st.datetimes(timezones=st.just(UTC), min_value=datetime(1990, 1, 1))


@st.composite
def addresses(draw: st.DrawFn) -> str:
    local = draw(st.text(max_size=20) | st.from_regex(r'"([ -~]|ö){0,20}"', fullmatch=True) | st.just("a+b=c"))
    domain = draw(st.sampled_from(["b.test", "bücher.test", "[192.0.2.1]", "x" * 63 + ".test", "例え.テスト"]))
    text = f"{local}@{domain}"
    try:
        parse_address(text.encode())
    except (AddressError, UnicodeEncodeError):
        return f"bob@{domain}"
    return text


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(Kind))
    reply = draw(st.none() | st.lists(MESSES, min_size=1, max_size=3).map(tuple))
    words, detail = draw(MESSES), draw(st.integers(0, 999))
    code = {FAILURE: 550, UNDELIVERABLE: 554, DELAY: 451, RELAYED: 250}[kind]
    outcome: Outcome
    if kind is RELAYED:
        outcome = replace(DONE, reply=Reply.of(code, reply or ("ok",)), traced=draw(st.booleans()))
    elif kind is DELAY:
        status = Status(Class.TEMPORARY, 4, detail)
        outcome = Deferred(status, words, "mx.b.test", Reply.of(code, reply) if reply else None)
    else:
        expired = draw(st.booleans())
        status = Status(Class.PERMANENT, 4, detail)
        outcome = Failed(status, words, None, Reply.of(code, reply) if reply else None, expired=expired)
    orcpt = draw(st.none() | MESSES | st.sampled_from(["rfc822;a+2Bb@c", r"utf-8;\x{F6}@c", ";x", "rfc822;+20"]))
    return Case(
        kind,
        (outcome,),
        to=draw(addresses()),
        recipients=draw(st.lists(addresses(), min_size=1, max_size=3)),
        asked=RecipientDsn(None, orcpt),
        dsn=MessageDsn(
            draw(st.sampled_from([None, *Ret])), draw(st.none() | MESSES.filter(lambda text: len(text) <= 100))
        ),
        original=draw(originals()),
        demand=draw(st.sampled_from(TlsDemand)),
        overdue=kind is DELAY and draw(st.booleans()),
        release=draw(st.none() | times),
        release_asked=draw(st.none() | st.sampled_from(["for;1", "until;2030-01-01t00:00:00.5+00:00"])),
        deliver_by=draw(st.none() | st.builds(DeliverBy, times, st.booleans(), st.booleans())),
    )


@st.composite
def originals(draw: st.DrawFn) -> bytes:
    value = st.binary(max_size=60).map(lambda octets: octets.translate(None, b"\r\n\0"))
    fields = draw(st.lists(value, max_size=4))
    lines = draw(st.lists(value | st.just(b"y" * 2000) | st.just("Grüße".encode()), max_size=4))
    return (
        b"".join(b"X: %b\r\n" % one for one in fields) + b"Date: x\r\n\r\n" + b"".join(b"%b\r\n" % one for one in lines)
    )


@given(cases())
def test_whatever_it_is_about_a_strict_reader_takes_it(case: Case) -> None:
    dsn = read(case.compose())
    assert [group["Final-Recipient"].partition("; ")[2] for group in dsn.recipients] == [
        f"{address.local}@{address.domain}" for address in (parse_address(text.encode()) for text in case.recipients)
    ]
    if returns_whole(case.kind, case.about) and dsn.returned_type in ("message/rfc822", "message/global"):
        assert dsn.returned == case.original
    elif case.demand is not TlsDemand.REQUIRED:
        assert dsn.returned == case.original.partition(b"\r\n\r\n")[0] + b"\r\n"


XTEXT = r"(rfc822|X400);([!-*,-<>-~]|\+(2[0-9A-F]|[3-6][0-9A-F]|7[0-9A-E])){1,20}"
UTF8 = r"utf-8;([!-*,-<>-\[\]-~]|ö|\\x\{(20|2B|3D|5C|[A-F][0-9A-F]|[1-9A-C][0-9A-F]{2}|1[0-9A-F]{4})\}){1,20}"
TYPED = st.from_regex(XTEXT, fullmatch=True) | st.from_regex(UTF8, fullmatch=True)


@given(TYPED, st.booleans())
@example(r"utf-8;\x{A0}", True)
def test_any_orcpt_that_is_taken_comes_back(orcpt: str, utf8: bool) -> None:
    rcpt = parse_rcpt(f"TO:<bob@b.test> ORCPT={orcpt}".encode(), True, True)
    assume(isinstance(rcpt, Rcpt))
    assert isinstance(rcpt, Rcpt)
    dsn = read(Case(FAILURE, to="jörg@a.test" if utf8 else "s@a.test", asked=rcpt.dsn).compose())
    type, _, encoded = orcpt.partition(";")
    if encoded.replace("+20", "").strip() or type == "utf-8":
        assert dsn.recipients[0]["Original-Recipient"].startswith(f"{type}; ")
