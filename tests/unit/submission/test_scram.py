"""The server's side of SCRAM-SHA-256: RFC 7677's example, every client of ours, and clients that go wrong."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import scram as common
from relay.delivery.sasl import SaslError, ScramSha256
from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.scram import (
    First,
    Verifier,
    judge,
    make_verifier,
    nobodys_verifier,
    parse_first,
    parse_verifier,
    server_first,
)

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
VERIFIER = make_verifier("pencil", SALT, 4096)
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = f"n,,n=user,r={NONCE}".encode()
SERVER_FIRST = f"r={NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
CLIENT_FINAL = f"c=biws,r={NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def first_of(message: bytes) -> First:
    first = parse_first(message)
    assert isinstance(first, First), first
    return first


def test_the_example_of_rfc_7677() -> None:
    first = first_of(CLIENT_FIRST)
    assert first.name == "user"
    assert server_first(first, VERIFIER, SERVER_NONCE) == SERVER_FIRST
    assert judge(first, SERVER_FIRST, VERIFIER, CLIENT_FINAL) == SERVER_FINAL


PASSWORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)


@given(name=PASSWORDS, password=PASSWORDS, wrong=st.text("ab=,", min_size=1, max_size=3))
def test_our_own_client_gets_in_with_the_password_and_with_no_other(name: str, password: str, wrong: str) -> None:
    try:
        client = ScramSha256(name, password, "N0nce")
        verifier = make_verifier(password, b"salt", 4096)
    except (SaslError, ValueError):
        return  # SASLprep forbids it, to both
    assert client.first is not None
    first = first_of(client.first)
    assert first.name == common.prepared(name)
    challenge = server_first(first, verifier, "more")
    proof = judge(first, challenge, verifier, client.answer(challenge))
    assert isinstance(proof, bytes)
    client.answer(proof)
    assert client.complete
    if common.prepared(password) != wrong:
        other = ScramSha256(name, wrong, "N0nce")
        assert judge(first, challenge, verifier, other.answer(challenge)) is replies.LOGIN_REFUSED
        unknown = nobodys_verifier(name, b"secret", (4096, 4))
        assert judge(first, challenge, unknown, client_final(name, password, challenge)) is replies.LOGIN_REFUSED


def client_final(name: str, password: str, challenge: bytes) -> bytes:
    return ScramSha256(name, password, "N0nce").answer(challenge)


FIRSTS: list[tuple[bytes, Reply | tuple[str, str]]] = [
    (b"n,,n=user,r=x", ("user", "")),
    (b"y,,n=user,r=x", ("user", "")),
    (b"n,a=boss,n=user,r=x", ("user", "boss")),
    (b"n,,n=a=2Cb=3Dc,r=x,e=1", ("a,b=c", "")),
    (b"n,,n=u\xcc\x88,r=x", ("ü", "")),
    (b"p=tls-exporter,,n=user,r=x", replies.NO_CHANNEL_BINDING),
    (b"p=tls-unique,,n=user,r=x", replies.NO_CHANNEL_BINDING),
    (b"", replies.BAD_LOGIN_DATA),
    (b"n,,", replies.BAD_LOGIN_DATA),
    (b"n,n=user,r=x", replies.BAD_LOGIN_DATA),
    (b"x,,n=user,r=x", replies.BAD_LOGIN_DATA),
    (b"n,,n=,r=x", replies.BAD_LOGIN_DATA),
    (b"n,,n=user,r=", replies.BAD_LOGIN_DATA),
    (b"n,,n=user,r=a b", replies.BAD_LOGIN_DATA),
    (b"n,,n=user,r=a\x7f", replies.BAD_LOGIN_DATA),
    (b"n,,n=user,r=" + b"x" * 129, replies.BAD_LOGIN_DATA),
    (b"n,,r=x,n=user", replies.BAD_LOGIN_DATA),
    (b"n,,m=must,n=user,r=x", replies.BAD_LOGIN_DATA),
    (b"n,,n=a=2Db,r=x", replies.BAD_LOGIN_DATA),
    (b"n,,n=a\0b,r=x", replies.BAD_LOGIN_DATA),
    (b"n,b=boss,n=user,r=x", replies.BAD_LOGIN_DATA),
    (b"n,,n=\xff,r=x", replies.BAD_LOGIN_DATA),
    (b"n,,user,r=x", replies.BAD_LOGIN_DATA),
]


@pytest.mark.parametrize(("message", "expected"), FIRSTS)
def test_first_messages(message: bytes, expected: Reply | tuple[str, str]) -> None:
    found = parse_first(message)
    assert (found if isinstance(found, Reply) else (found.name, found.acting_for)) == expected


FINALS = [
    (CLIENT_FINAL.replace(b"biws", b"eSws"), replies.BAD_LOGIN_DATA),  # y,, where n,, was said: a downgrade
    (CLIENT_FINAL.replace(b"dHzb", b"eHzb"), replies.LOGIN_REFUSED),
    (CLIENT_FINAL.replace(SERVER_NONCE.encode(), b"other"), replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL.replace(b",p=", b",x=1,p="), replies.LOGIN_REFUSED),  # the proof is about all that was said
    (CLIENT_FINAL.replace(b"c=biws,", b""), replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL.replace(b"c=biws", b"x=1,c=biws"), replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL.partition(b",p=")[0], replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL.partition(b",p=")[0] + b",p=", replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL.partition(b",p=")[0] + b",p=AAAA", replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL[:-1] + b"!", replies.BAD_LOGIN_DATA),
    (CLIENT_FINAL[:-1] + b"\xff", replies.BAD_LOGIN_DATA),
    (b"", replies.BAD_LOGIN_DATA),
    (b"\xff", replies.BAD_LOGIN_DATA),
]


@pytest.mark.parametrize(("final", "expected"), FINALS)
def test_final_messages_that_are_not_taken(final: bytes, expected: Reply) -> None:
    assert judge(first_of(CLIENT_FIRST), SERVER_FIRST, VERIFIER, final) is expected


@given(first=st.binary(max_size=60), final=st.binary(max_size=60))
def test_any_octets_are_refused_in_words(first: bytes, final: bytes) -> None:
    parsed = parse_first(first)
    assert isinstance(parsed, First | Reply)
    assert isinstance(judge(first_of(CLIENT_FIRST), SERVER_FIRST, VERIFIER, final), Reply)


def test_the_longest_challenge_fits_into_a_reply() -> None:
    first = first_of(b"n,,n=user,r=" + b"x" * 128)
    challenge = server_first(first, Verifier(10_000_000, b"s" * 64, b"", b""), "n" * 24)
    assert len(base64.b64encode(challenge)) + len("334 \r\n") <= 480


def test_what_is_kept_is_written_as_postgresql_writes_it() -> None:
    text = str(VERIFIER)
    assert text.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert parse_verifier(text) == VERIFIER
    assert "pencil" not in text


def test_passwords_are_prepared() -> None:
    assert make_verifier("\u2168\u00ad", SALT, 4096) == make_verifier("IX", SALT, 4096)
    with pytest.raises(ValueError, match="SASLprep"):
        make_verifier("a\u0007", SALT, 4096)
