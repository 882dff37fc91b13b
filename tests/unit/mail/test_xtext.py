"""xtext and the 7-bit form of UTF-8 addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.xtext import decode_utf8_address, decode_xtext, encode_utf8_address, utf8_in_xtext


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("", ""),
        ("bob@example.test", "bob@example.test"),
        ("bob+2Btag@example.test", "bob+tag@example.test"),
        ("a+3Db+20c", "a=b c"),
        ("+2B+2B", "++"),
        ("+41", "A"),  # not needed, and allowed
        ("\\x{F6}", "\\x{F6}"),  # that is another encoding
    ],
)
def test_xtext(text: str, decoded: str) -> None:
    assert decode_xtext(text) == decoded


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a+2", "no xtext"),
        ("a+", "no xtext"),
        ("a+2b", "no xtext"),  # RFC 3461 section 4: two upper-case hexadecimal digits
        ("a+2G", "no xtext"),
        ("a=b", "no xtext"),
        ("a b", "no xtext"),
        ("a\n", "no xtext"),
        ("ö", "no xtext"),
        ("a+0D+0AX: y", "no xtext"),
        ("a+0D+0AX:y", "printable"),
        ("a+00", "printable"),
        ("a+7F", "printable"),
        ("a+C3+B6", "printable"),
    ],
)
def test_no_xtext(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="is not xtext" if wrong == "no xtext" else wrong):
        decode_xtext(text)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("bob@example.test", "bob@example.test"),
        (r"j\x{F6}rg@example.test", "jörg@example.test"),
        (r"j\x{f6}rg@example.test", "jörg@example.test"),
        ("jörg@exämple.test", "jörg@exämple.test"),
        (r"a\x{2B}b\x{3D}c\x{5C}\x{20}@x", "a+b=c\\ @x"),
        (r"\x{4F8B}\x{1F600}\x{10FFFF}@x", "例😀\U0010ffff@x"),
    ],
)
def test_utf8_addresses(text: str, decoded: str) -> None:
    assert decode_utf8_address(text) == decoded


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b@x",
        "a=b@x",
        "a b@x",
        "a\\b@x",
        "a\x85@x",
        r"\x{}@x",
        r"\x{F}@x",  # ASCII has no letter 0F that could be meant
        r"\x{0D}\x{0A}@x",
        r"\x{41}@x",
        r"\x{7F}@x",
        r"\x{85}@x",
        r"\x{00F6}@x",
        r"\x{D800}@x",
        r"\x{110000}@x",
        r"\x{1234567}@x",
        r"\x{F6@x",
        "a@x\n",
    ],
)
def test_no_utf8_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|stands for no character"):
        decode_utf8_address(text)


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cc", "Cs")), min_size=1))
def test_there_and_back(address: str) -> None:
    encoded = encode_utf8_address(address)
    assert encoded.isascii()
    assert not set(encoded) & set(" +=\r\n")
    assert decode_utf8_address(encoded) == address


@given(st.text(max_size=40) | st.from_regex(r"([a-z]|\\x\{[0-9A-F]{1,6}\}|\+[0-9A-F]{2})*", fullmatch=True))
def test_a_value_or_a_value_error(text: str) -> None:
    for decode in (decode_xtext, decode_utf8_address):
        try:
            decoded = decode(text)
        except ValueError:
            continue
        assert decoded.isprintable() or not decoded.isascii()
        assert "\r" not in decoded
        assert "\n" not in decoded


@given(st.text(min_size=1))
def test_an_address_that_is_spelt_in_xtext_is_found_or_is_not_there(address: str) -> None:
    spelt = "".join(f"+{octet:02X}" for octet in address.encode("utf-8", "surrogatepass"))
    found = utf8_in_xtext(spelt)
    assert found == (address if address.isprintable() and not address.isascii() else None)
    if found is not None:
        assert decode_utf8_address(encode_utf8_address(found)) == found


@pytest.mark.parametrize("text", ["", "bob", "+C3", "+C3+28", "+c3+b6", "+C3+B6=", "+C2+85", "+E2+80+AE"])
def test_no_address_is_spelt_there(text: str) -> None:
    assert utf8_in_xtext(text) is None
