"""What a client says in each mechanism: the examples of the RFCs, and what is made of servers that go wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.sasl import Login, Mechanism, Plain, SaslError, ScramSha256, XOAuth2

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = NONCE + "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = f"r={SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_plain_as_in_rfc_4616() -> None:
    plain = Plain("tim", "tanstaaftanstaaf")
    assert (plain.first, plain.complete) == (b"\0tim\0tanstaaftanstaaf", True)


def test_login_says_name_and_password_whatever_the_prompts() -> None:
    login = Login("Tim", "pässword")
    assert (login.first, login.complete) == (None, False)
    assert [login.answer(b"Password:"), login.complete, login.answer(b"")] == [b"Tim", False, "pässword".encode()]
    assert login.complete


def test_xoauth2_as_its_makers_write_it() -> None:
    """The example of Google's documentation."""
    token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    first = XOAuth2("someuser@example.com", token).first
    assert first is not None
    assert base64.b64encode(first) == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMj"
        b"l0Q2cBAQ=="
    )


def test_xoauth2_keeps_what_the_provider_says_and_answers_with_nothing() -> None:
    mechanism = XOAuth2("a", "token")
    assert (mechanism.complete, mechanism.words) == (True, "")
    assert mechanism.answer(b'{"status":"400",\r\n"schemes":"Bearer"}') == b""
    assert (mechanism.complete, mechanism.words) == (False, '{"status":"400","schemes":"Bearer"}')


def test_scram_as_in_rfc_7677() -> None:
    scram = ScramSha256("user", "pencil", NONCE)
    assert scram.first == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.answer(SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not scram.complete
    assert scram.answer(SERVER_FINAL) == b""
    assert scram.complete


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("a,b=c", "a=2Cb=3Dc"),
        ("I\u00adX", "IX"),  # from here on RFC 4013 section 3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
    ],
)
def test_names_in_scram(user: str, told: str) -> None:
    assert ScramSha256(user, "x", "N").first == f"n,,n={told},r=N".encode()


@pytest.mark.parametrize("text", ["\u0007", "\u0627\u0031", "a\u0627", "\u00ad", "\ue000", "\u0221"])
def test_what_saslprep_forbids(text: str) -> None:
    with pytest.raises(SaslError, match=r"told the name by SCRAM.* RFC 4013|told the name by SCRAM"):
        ScramSha256(text, "x", "N")
    with pytest.raises(SaslError, match="told the password by SCRAM"):
        ScramSha256("x", text, "N")


def test_text_from_right_to_left_is_taken() -> None:
    assert ScramSha256("\u0627\u0628", "\u0627\u0031\u0628", "N").first is not None


@pytest.mark.parametrize(
    ("server_first", "reason"),
    [
        (b"", "makes no sense"),
        (b"\xff=1", "not UTF-8"),
        (b"r=other,s=QQ==,i=4096", "not made from ours"),
        (b"r=N,s=QQ==,i=4096", "not made from ours"),
        (b"m=ext,r=Nx,s=QQ==,i=4096", "makes no sense"),
        (b"s=QQ==,r=Nx,i=4096", "makes no sense"),
        (b"r=Nx,s=QQ==", "makes no sense"),
        (b"r=Nx,s=QQ==,i=4095", "4095 rounds"),
        (b"r=Nx,s=QQ==,i=10000001", "10000001 rounds"),
        (b"r=Nx,s=QQ==,i=-4096", "makes no sense"),
        (b"r=Nx,s=QQ==,i=99999999999", "makes no sense"),
        (b"r=Nx,s=,i=4096", "no salt"),
        (b"r=Nx,s=Q!,i=4096", "salt .* not base64"),
        ("r=Nx,s=QQ==,i=\u0664096".encode(), "makes no sense"),
    ],
)
def test_first_messages_of_scram_that_are_refused(server_first: bytes, reason: str) -> None:
    scram = ScramSha256("user", "pencil", "N")
    with pytest.raises(SaslError, match=reason):
        scram.answer(server_first)
    assert not scram.complete


@pytest.mark.parametrize(
    ("server_final", "reason"),
    [
        (SERVER_FINAL.replace(b"6rri", b"7rri"), "signature .* wrong"),
        (b"v=", "signature .* wrong"),
        (b"", "makes no sense"),
        (b"x=1", "signature .* wrong"),
        (b"v=!", "signature .* not base64"),
        (b"e=invalid-proof", "refused the login: invalid-proof"),
        (SERVER_FIRST, "signature .* wrong"),
    ],
)
def test_a_server_that_does_not_know_the_password(server_final: bytes, reason: str) -> None:
    scram = ScramSha256("user", "pencil", NONCE)
    scram.answer(SERVER_FIRST)
    with pytest.raises(SaslError, match=reason):
        scram.answer(server_final)
    assert not scram.complete


def _finished_scram() -> Mechanism:
    scram = ScramSha256("user", "pencil", NONCE)
    scram.answer(SERVER_FIRST)
    scram.answer(SERVER_FINAL)
    return scram


def _finished_login() -> Mechanism:
    login = Login("a", "b")
    login.answer(b"")
    login.answer(b"")
    return login


def _refused_xoauth2() -> Mechanism:
    mechanism = XOAuth2("a", "b")
    mechanism.answer(b"{}")
    return mechanism


@pytest.mark.parametrize("made", [lambda: Plain("a", "b"), _finished_login, _refused_xoauth2, _finished_scram])
def test_no_server_is_answered_for_ever(made: Callable[[], Mechanism]) -> None:
    mechanism = made()
    with pytest.raises(SaslError, match=f"more than AUTH {mechanism.name} has"):
        mechanism.answer(b"")


_TEXT = st.text(string.ascii_letters + string.digits + "=, .@", min_size=1)


@given(_TEXT, _TEXT, st.text(string.ascii_letters, min_size=1), st.binary(min_size=1, max_size=40))
def test_a_server_with_stored_keys_lets_the_right_password_in_and_no_other(
    password: str, other: str, nonce: str, salt: bytes
) -> None:
    """The server's side of RFC 5802 section 3, which knows the stored key and the server key only."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    first = f"r={nonce}X,s=".encode() + base64.b64encode(salt) + b",i=4096"
    for tried in {password, other}:
        scram = ScramSha256("user", tried, nonce)
        final, _, proof = scram.answer(first).rpartition(b",p=")
        message = f"n=user,r={nonce},".encode() + first + b"," + final
        key = bytes(
            one ^ two
            for one, two in zip(
                hmac.digest(stored_key, message, "sha256"), base64.b64decode(proof, validate=True), strict=True
            )
        )
        assert (hashlib.sha256(key).digest() == stored_key) == (tried == password)
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        if tried == password:
            assert scram.answer(b"v=" + base64.b64encode(verifier)) == b""
        else:
            with pytest.raises(SaslError, match="wrong"):
                scram.answer(b"v=" + base64.b64encode(verifier))
