"""Signatures: which fields, in which form, by which keys; each verified by the plain verifier of these tests."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from plain_dkim import Keys, name_of, split, tags_of, verify

from relay.signing.fields import OVERSIGNED, WHEN_THERE
from relay.signing.keys import Algorithm, KeyTable, SigningKey, load_key
from relay.signing.signature import MAX_DOMAINS, MAX_HEADER_OCTETS, Signed, Signer
from relay.signing_settings import Canonicalization, DkimKeySettings

NOW = datetime(2018, 6, 10, 13, 38, 29, 999_999, tzinfo=UTC)
RSA, ED25519 = rsa.generate_private_key(public_exponent=65537, key_size=1024), Ed25519PrivateKey.generate()
RFC_8463 = (Path(__file__).parents[2] / "data" / "dkim" / "rfc8463.eml").read_bytes()
# RFC 8463 appendix A.2, the second also of RFC 6376 appendix C.
RFC_KEYS = {
    ("brisbane", "football.example.com"): base64.b64decode("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
    ("test", "football.example.com"): base64.b64decode(
        "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/b"
        "yYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K"
        "4w3QIDAQAB"
    ),
}
RFC_SECRET = base64.b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def key(
    private: rsa.RSAPrivateKey | Ed25519PrivateKey,
    folder: Path,
    domain: str = "example.org",
    selector: str = "s",
    subdomains: bool = False,
) -> SigningKey:
    path = folder / f"{selector}.{domain}"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    found = load_key(DkimKeySettings(domain=domain, selector=selector, key_file=path, subdomains=subdomains))
    assert isinstance(found, SigningKey)
    return found


@pytest.fixture(scope="module")
def keys(folder: Path) -> KeyTable:
    return KeyTable([key(RSA, folder, selector="r"), key(ED25519, folder, selector="e")])


def public(keys: KeyTable) -> Keys:
    return {(one.selector, one.domain): one.public for one in keys.all}


def sign(signer: Signer, message: bytes, size: int = 0) -> Signed:
    passing = signer.message()
    for at in range(0, len(message), size or max(1, len(message))):
        if not passing.feed(message[at : at + (size or len(message))]):
            break
    return passing.end(NOW)


def test_the_example_of_rfc_8463_is_verified_by_the_verifier_of_these_tests() -> None:
    assert verify(RFC_8463, RFC_KEYS) == [
        ("brisbane", "football.example.com", "pass"),
        ("test", "football.example.com", "pass"),
    ]
    assert verify(RFC_8463.replace(b"hungry", b"thirsty"), RFC_KEYS)[0][2] == "body"
    assert verify(RFC_8463.replace(b"dinner", b"lunch"), RFC_KEYS)[0][2] == "header"


def test_the_example_of_rfc_8463_signed_with_its_key(folder: Path) -> None:
    fields, body = split(RFC_8463)
    message = b"\r\n".join(field for field in fields if name_of(field) != b"dkim-signature") + b"\r\n\r\n" + body
    one = key(Ed25519PrivateKey.from_private_bytes(RFC_SECRET), folder, "football.example.com", "brisbane")
    assert one.public == RFC_KEYS["brisbane", "football.example.com"]
    signed = sign(Signer(KeyTable([one])), message)
    assert verify(signed.fields + message, RFC_KEYS) == [("brisbane", "football.example.com", "pass")]
    assert tags_of(signed.fields) | {"b": "", "h": ""} == {
        "v": "1",
        "a": "ed25519-sha256",
        "c": "relaxed/relaxed",
        "d": "football.example.com",
        "s": "brisbane",
        "t": "1528637909",
        "h": "",
        "bh": "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=",
        "b": "",
    }


def test_how_it_looks(keys: KeyTable) -> None:
    message = b"From: a@example.org\r\nTo: b@example.net\r\nTo: c@example.net\r\nList-Id: <x>\r\n\r\nHi.\r\n"
    signed = sign(Signer(keys), message)
    assert signed.keys == keys.all
    assert signed.problem is None
    bh = base64.b64encode(hashlib.sha256(b"Hi.\r\n").digest()).decode()
    lines = signed.fields.decode("ascii").split("\r\n")
    assert lines[0] == "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=r;"
    assert lines[1:6] == [
        f" t=1528637909; bh={bh};",
        " h=from:from:to:to:to:cc:subject:date:reply-to:message-id:in-reply-to:",
        " references:mime-version:content-type:content-transfer-encoding:list-id;",
        lines[4],
        lines[5],
    ]
    assert lines[4].startswith(" b=")
    assert lines[7] == "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org; s=e;"
    assert lines[-1] == ""
    assert max(map(len, lines)) == 78
    assert verify(signed.fields + message, public(keys)) == [
        ("r", "example.org", "pass"),
        ("e", "example.org", "pass"),
    ]


def test_long_names_have_lines_of_their_own(folder: Path) -> None:
    domain = ".".join(["a" * 60] * 3) + ".example.org"
    one = key(ED25519, folder, domain, "s" * 60)
    message = b"From: a@%b\r\n\r\n" % domain.encode()
    signed = sign(Signer(KeyTable([one])), message)
    lines = signed.fields.decode().split("\r\n")
    assert lines[1] == f" d={domain};"
    assert max(len(line) for line in lines if " d=" not in line) <= 78
    assert verify(signed.fields + message, public(KeyTable([one])))[0][2] == "pass"


@pytest.mark.parametrize("form", Canonicalization)
@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n\r\nHi.",
        b"\r\n\r\nHi.  \r\n \t\r\n\r\n\r\n",
        b"\r\nSubject:  a\t b\r\n\t c \r\nSubject: again\r\nX-Other: x\r\n\r\n\r\nBody \xe9",
        b"\r\nto: a\r\n \r\n b\r\nTO : c\r\nTo\t: d\r\ncontent-type:\r\n\r\n.\r\n",
        b"\r\nno field\r\n goes on\r\nSubject: a\r\n\r\nx\r\n",
    ],
)
def test_odd_messages_in_all_forms(keys: KeyTable, form: Canonicalization, rest: bytes) -> None:
    message = b"From: A <a@example.org>" + rest
    whole = sign(Signer(keys, form), message).fields
    on_the_wire = message if message.endswith(b"\r\n") else message + b"\r\n"
    assert [found[2] for found in verify(whole + on_the_wire, public(keys))] == ["pass", "pass"]
    for size in (1, 2, 7, 24, 25, 26):
        assert sign(Signer(keys, form), message, size).fields == whole


FIELD = st.tuples(
    st.sampled_from(["From", "to", "Subject", "subject ", "List-Id", "X-Any", "Received"]),
    st.sampled_from(["", " a", "  a\t b ", "\r\n a", " a\r\n\tb\r\n c", " a: b", "\xe9"]),
)


@given(st.lists(FIELD, max_size=12), st.sampled_from(Canonicalization), st.integers(1, 60), st.binary(max_size=30))
def test_any_message_in_any_pieces(
    keys: KeyTable, fields: list[tuple[str, str]], form: Canonicalization, size: int, body: bytes
) -> None:
    header = "".join(f"{name}:{value}\r\n" for name, value in fields).encode("latin-1")
    message = header + b"From: a@example.org\r\n\r\n" + body
    signed = sign(Signer(KeyTable(keys.all[1:]), form), message, size)
    if signed.problem is None or signed.fields:
        assert verify(signed.fields + message, public(keys)) == [("e", "example.org", "pass")]


def test_no_field_that_readers_show_can_be_added(keys: KeyTable) -> None:
    message = b"From: a@example.org\r\nDate: x\r\nList-Id: y\r\nSender: z\r\n\r\nHi.\r\n"
    signed = sign(Signer(keys), message).fields

    def results(message: bytes) -> set[str]:
        return {found[2] for found in verify(signed + message, public(keys))}

    for name in OVERSIGNED:
        assert results(name + b": other\r\n" + message) == {"header"}
    for name in WHEN_THERE:
        assert results(name + b": other\r\n" + message) == {"pass"}
    assert results(b"Received: x\r\nAuthentication-Results: y\r\n" + message) == {"pass"}
    assert results(message.replace(b"List-Id: y", b"List-Id: x")) == {"header"}


def test_what_changes_on_the_way_is_not_signed() -> None:
    names = {*OVERSIGNED, *WHEN_THERE}
    assert len(names) == len(OVERSIGNED) + len(WHEN_THERE)
    for name in (b"received", b"return-path", b"dkim-signature", b"authentication-results", b"delivered-to", b"bcc"):
        assert name not in names
    assert OVERSIGNED[0] == b"from"  # RFC 6376 §5.4: it must be


def unsigned(signer: Signer, message: bytes) -> str | None:
    found = sign(signer, message)
    assert (found.fields, found.keys) == (b"", ())
    return found.problem


def test_who_is_not_signed_for(keys: KeyTable) -> None:
    signer = Signer(keys)
    assert unsigned(signer, b"") is None
    assert unsigned(signer, b"To: a@example.org\r\n\r\nFrom: a@example.org\r\n") is None
    assert unsigned(signer, b"\r\nFrom: a@example.org\r\n\r\n") is None
    assert unsigned(signer, b"From: a@www.example.org\r\n\r\n") is None
    assert unsigned(signer, b"From: undisclosed:;\r\n\r\n") is None
    assert unsigned(signer, b"From: a@[192.0.2.1]\r\n\r\n") is None
    assert unsigned(signer, b"From: a at example.org\r\n\r\n") is not None
    assert unsigned(Signer(KeyTable()), b"From: a@example.org\r\n\r\n") is None


def test_what_nobody_signs_need_not_be_read(keys: KeyTable) -> None:
    passing = Signer(keys).message()
    assert passing.feed(b"To: x\r\n")
    assert not passing.feed(b"From: a@example.net\r\n\r\n")
    passing = Signer(keys).message()
    assert passing.feed(b"From: a@example.org\r\n\r\n")
    assert passing.feed(b"a")


def test_a_header_without_end_is_not_kept(keys: KeyTable) -> None:
    passing = Signer(keys).message()
    pieces = 0
    while passing.feed(b"From: a@example.org\r\n" * 1000):
        pieces += 1
        assert pieces * 21_000 <= MAX_HEADER_OCTETS
    assert passing.end(NOW) == Signed(problem="its header is longer than 1048576 octets")


def test_more_fields_than_a_verifier_would_bear(keys: KeyTable) -> None:
    message = b"From: a@example.org\r\n" + b"To: b\r\n" * 1000 + b"\r\n"
    assert unsigned(Signer(keys), message) == "it has more than 1000 fields to sign"


def test_each_domain_of_from_signs_once(folder: Path) -> None:
    table = KeyTable(
        [
            key(ED25519, folder, "example.org", "one", True),
            key(ED25519, folder, "example.net", "two"),
            key(ED25519, folder, "example.net", "three"),
        ]
    )
    message = b'From: "x@example.com" <a@EXAMPLE.net>, b@a.example.org, c@b.example.org, d@example.net\r\n\r\n'
    signed = sign(Signer(table), message)
    assert [found.selector for found in signed.keys] == ["two", "three", "one"]
    assert [found[2] for found in verify(signed.fields + message, public(table))] == ["pass"] * 3
    many = b", ".join(b"a@%d.example.com" % number for number in range(MAX_DOMAINS))
    assert sign(Signer(table), b"From: " + many + b", a@example.net\r\n\r\n") == Signed()


def test_only_usable_keys_sign(keys: KeyTable) -> None:
    signer = Signer(keys, usable=lambda one: one.selector == "e")
    assert [one.selector for one in sign(signer, b"From: a@example.org\r\n\r\n").keys] == ["e"]
    assert sign(Signer(keys, usable=lambda one: False), b"From: a@example.org\r\n\r\n") == Signed()


def test_a_key_that_fails_leaves_the_signatures_of_others(keys: KeyTable) -> None:
    def fail(octets: bytes) -> bytes:
        raise ValueError("out of luck")

    broken = SigningKey("example.org", "b", False, Algorithm.RSA_SHA256, 2048, b"", fail)
    message = b"From: a@example.org\r\n\r\n"
    signed = sign(Signer(KeyTable([broken, *keys.all])), message)
    assert signed.keys == keys.all
    assert signed.problem == "the key b of example.org could not sign"
    assert len(verify(signed.fields + message, public(keys))) == 2


def test_a_message_keeps_the_keys_that_it_began_with(keys: KeyTable) -> None:
    signer = Signer(keys)
    passing = signer.message()
    passing.feed(b"From: a@example.org\r\n\r\n")
    signer.keys = KeyTable()
    assert passing.end(NOW).keys == keys.all
