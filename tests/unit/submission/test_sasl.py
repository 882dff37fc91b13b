"""What clients say in each mechanism, taken apart; and nothing that they say breaks more than their login."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.sasl import XOAuth2
from relay.mail.status import Reply
from relay.submission import replies, sasl
from relay.submission.callback import Question
from relay.submission.sasl import Password, Talk, Token

BAD = replies.BAD_LOGIN_DATA


def hear(way: Callable[[Talk], Awaitable[object]], initial: bytes | None, *lines: bytes | Reply) -> object:
    """What is understood when the client sends `initial` with AUTH (None: nothing), and then these lines."""
    left = list(lines)

    async def ask(challenge: str) -> bytes | Reply:
        base64.b64decode(challenge, validate=True)
        return left.pop(0)

    coroutine = way(Talk(initial, ask))
    try:
        coroutine.__await__().__next__()
    except StopIteration as end:
        assert not left
        return end.value
    raise AssertionError("it waited for something else")


def coded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


LINES: list[tuple[bytes | None, list[bytes | Reply], object]] = [
    (coded(b"\0alice\0secret"), [], Password("alice", "secret")),
    (coded(b"boss\0alice\0secret"), [], Password("alice", "secret", "boss")),
    (None, [coded(b"\0alice\0secret")], Password("alice", "secret")),
    (b"=", [], BAD),
    (None, [b"="], BAD),
    (b"*", [], replies.LOGIN_CANCELLED),
    (None, [b"*"], replies.LOGIN_CANCELLED),
    (None, [replies.LOGIN_LINE_TOO_LONG], replies.LOGIN_LINE_TOO_LONG),
    (coded(b"\0alice\0secret")[:-1], [], BAD),
    (coded(b"\0alice\0") + b"====", [], BAD),
    (b" " + coded(b"\0alice\0secret"), [], BAD),
    (coded(b"\0\xff\0secret"), [], BAD),
    ("é".encode(), [], BAD),
]


@pytest.mark.parametrize(("initial", "lines", "expected"), LINES)
def test_responses(initial: bytes | None, lines: list[bytes | Reply], expected: object) -> None:
    """RFC 4954 section 4, with PLAIN."""
    assert hear(sasl.hear_plain, initial, *lines) == expected


TOKENS: list[tuple[bytes, object]] = [
    (b"n,a=user@example.com,\x01host=x\x01port=587\x01auth=Bearer vF9d=\x01\x01", Token("user@example.com", "vF9d=")),
    (b"n,,\x01auth=Bearer a.b-c_d\x01\x01", Token("", "a.b-c_d")),
    (b"y,,\x01auth=bearer  x\x01\x01", Token("", "x")),
    (b"n,a=a=2Cb,\x01auth=Bearer x\x01\x01", Token("a,b", "x")),
    (b"p=tls-exporter,,\x01auth=Bearer x\x01\x01", replies.NO_CHANNEL_BINDING),
    (b"n,,\x01auth=Bearer x\x01", BAD),
    (b"n,,\x01\x01", BAD),
    (b"n,,\x01auth=Basic x\x01\x01", BAD),
    (b"n,,\x01auth=Bearer \x01\x01", BAD),
    (b"n,,\x01auth=Bearer x y\x01\x01", BAD),
    (b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01", BAD),
    (b"n,user,\x01auth=Bearer x\x01\x01", BAD),
    (b"n,a=b,c,\x01auth=Bearer x\x01\x01", BAD),
    (b"n,a=b=,\x01auth=Bearer x\x01\x01", BAD),
    (b"n,\x01auth=Bearer x\x01\x01", BAD),
    (b"n,,auth=Bearer x\x01\x01", BAD),
    (b"", BAD),
    (b"\xff", BAD),
]


@pytest.mark.parametrize(("response", "expected"), TOKENS)
def test_oauthbearer(response: bytes, expected: object) -> None:
    assert hear(sasl.hear_oauthbearer, coded(response)) == expected


XTOKENS: list[tuple[bytes, object]] = [
    (b"user=a@b.test\x01auth=Bearer x\x01\x01", Token("a@b.test", "x")),
    (b"user=\x01auth=Bearer x\x01\x01", BAD),
    (b"auth=Bearer x\x01\x01", BAD),
    (b"user=a@b.test\x01auth=Bearer x", BAD),
    (b"user=a@b.test\x01\x01", BAD),
    (b"user=a@b.test", BAD),
]


@pytest.mark.parametrize(("response", "expected"), XTOKENS)
def test_xoauth2(response: bytes, expected: object) -> None:
    assert hear(sasl.hear_xoauth2, coded(response)) == expected


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x01"), min_size=1, max_size=20)


@given(name=NAMES, token=st.text("aZ0-._~+/", min_size=1, max_size=20))
def test_xoauth2_of_our_own_client(name: str, token: str) -> None:
    first = XOAuth2(name, token).first
    assert first is not None
    assert hear(sasl.hear_xoauth2, coded(first)) == Token(name, token)


@given(st.binary(max_size=40))
def test_any_octets_are_understood_or_refused_in_words(octets: bytes) -> None:
    for way in (sasl.hear_plain, sasl.hear_oauthbearer, sasl.hear_xoauth2, sasl.hear_external):
        for initial in (octets, coded(octets)):
            assert isinstance(hear(way, initial), Password | Token | Reply | str)


@pytest.mark.parametrize("mechanism", [sasl.OAUTHBEARER, sasl.XOAUTH2])
def test_a_refused_token_is_told_in_json(mechanism: str) -> None:
    assert "status" in json.loads(sasl.token_refusal(mechanism))


def test_what_a_client_proves_itself_with_is_not_shown() -> None:
    """In the report of a defect, say."""
    question = Question("alice", "hunter2", "192.0.2.1", "l", sasl.PLAIN)
    shown = [repr(one) for one in (Password("alice", "hunter2", "boss"), Token("alice", "hunter2"), question)]
    assert all("alice" in one and "hunter2" not in one for one in shown)
