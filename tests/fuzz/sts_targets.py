"""MTA-STS: the TXT record and the policy file, held against a second, plain reading of RFC 8461."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from mutation import by_octets
from target import Target

from relay.policy.sts import MAX_AGE_LIMIT, StsMode, StsPolicy, StsSyntaxError, lists, parse_policy, parse_record

_POLICIES = Path(__file__).parents[1] / "data" / "sts_policies"
_BLANKS = b" \t"
_DIGITS = "0123456789"
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + _DIGITS
_NAME = _ALPHANUMERIC + "_-."
_BETWEEN_RECORDS = b"\xff"  # stands for the border of two TXT records; inside one it would be refused anyway


def _check_record(octets: bytes) -> bool:
    texts = tuple(octets.split(_BETWEEN_RECORDS))
    found = parse_record(texts)
    expected = _record_id(texts)
    assert found == expected, f"{found!r} instead of {expected!r}"
    return found is not None


def _record_id(texts: tuple[bytes, ...]) -> str | None:
    """RFC 8461 section 3.1: the id in the one record that begins with the version."""
    ours = [text for text in texts if text.startswith(b"v=STSv1") and text[7:].lstrip(_BLANKS).startswith(b";")]
    if len(ours) != 1 or not ours[0].isascii():
        return None
    fields = ours[0].decode().split(";")
    if not fields[-1].strip(" \t"):
        fields.pop()
    elif fields[-1] != fields[-1].rstrip(" \t"):
        return None  # blanks at the end are part of a semicolon, not of a field
    pairs = [_pair(field.strip(" \t")) for field in fields[1:]]
    if not pairs or None in pairs:
        return None
    ids = [pair[1] for pair in pairs if pair is not None and pair[0] == "id"]
    good = ids and 1 <= len(ids[0]) <= 32 and all(character in _ALPHANUMERIC for character in ids[0])
    return ids[0] if good else None


def _pair(field: str) -> tuple[str, str] | None:
    name, equals, value = field.partition("=")
    good = equals and _is_name(name) and value and all("!" <= octet <= "~" and octet not in "=;" for octet in value)
    return (name, value) if good else None


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 32 and name[0] in _ALPHANUMERIC and all(character in _NAME for character in name)


def _check_policy(octets: bytes) -> bool:
    expected = _policy(octets)
    try:
        found = parse_policy(octets)
    except StsSyntaxError as error:
        assert str(error).isprintable(), "words that are not fit for a log"
        assert expected is None, "refused, and it should not be"
        return False
    assert expected is not None, "accepted, and it should not be"
    assert (found.mode.value, found.mx, found.max_age // timedelta(seconds=1)) == expected
    assert parse_policy(found.raw.encode()) == found, "what the cache keeps is another policy"
    for host in _hosts(found):
        assert lists(found, host) == _is_listed(found, host), f"whether it lists {host!r}"
    return True


def _policy(octets: bytes) -> tuple[str, tuple[str, ...], int] | None:
    """RFC 8461 section 3.2: mode, patterns and seconds; None for a file that is no policy."""
    fields: dict[str, str] = {}
    patterns: list[str] = []
    *ended, last = octets.decode(errors="replace").split("\n")
    for line in [*(one.removesuffix("\r") for one in ended), last]:
        if not line.strip(" \t"):
            continue
        key, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _is_name(key) or not value or any(ord(one) < 32 or ord(one) == 127 for one in value):
            return None
        if key == "mx" and not _is_pattern(value):
            return None
        if key == "mx":
            patterns.append(value.lower())
        elif key not in fields:
            fields[key] = value
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    if fields.get("version") != "STSv1" or mode not in ("enforce", "testing", "none"):
        return None
    if not 1 <= len(age) <= 10 or any(character not in _DIGITS for character in age):
        return None
    if mode != "none" and not patterns:
        return None
    return mode, tuple(patterns), min(int(age), MAX_AGE_LIMIT // timedelta(seconds=1))


def _is_pattern(value: str) -> bool:
    return all(
        label and label[0] in _ALPHANUMERIC and label[-1] in _ALPHANUMERIC and set(label) <= set(_ALPHANUMERIC + "-")
        for label in value.removeprefix("*.").split(".")
    )


def _hosts(policy: StsPolicy) -> list[str]:
    """Host names near those that the policy lists, and some that no one has."""
    hosts = ["", ".", "*", "mx.example.org"]
    for pattern in policy.mx[:4]:
        bare = pattern.removeprefix("*.")
        hosts += [
            pattern,
            bare,
            f"a.{bare}",
            f"a.b.{bare}",
            f".{bare}",
            f"a{bare}",
            f"{bare}.a",
            bare.partition(".")[2],
        ]
    return hosts


def _is_listed(policy: StsPolicy, host: str) -> bool:
    """RFC 8461 section 4.1: label by label; a star is exactly one, which is not empty."""
    labels = host.split(".")
    for pattern in policy.mx:
        wanted = pattern.split(".")
        first = wanted[0] == labels[0] or (wanted[0] == "*" and labels[0] != "")
        if first and wanted[1:] == labels[1:] and host:
            return True
    return False


RECORD = Target(
    "sts-record",
    _check_record,
    (
        b"v=STSv1; id=20160831085700Z;",
        b"v=STSv1;id=1",
        b"v=STSv1 ;\t x-y_z.9=!:<>~ ; id=aB9 ; ",
        b"v=spf1 -all\xffv=STSv1; id=1\xffv=STSv10; id=2",
        b"v=STSv1; id=1; id=2; a=b;",
        b"v=STSv1; id=" + b"a" * 32,
    ),
    by_octets((b"v=STSv1", b";", b" ", b"\t", b"id=", b"id=1", b"=", b"; ", b";;", b"x=y", b"\xff", b"\n", b"a" * 32)),
)
POLICY = Target(
    "sts-policy",
    _check_policy,
    tuple(path.read_bytes() for path in sorted(_POLICIES.rglob("*.txt"))),
    by_octets((
        b"version: STSv1\r\n", b"mode: enforce\n", b"mode: none\r\n", b"mx: *.example.org\r\n", b"mx:a.b\n",
        b"max_age: 86400\r\n", b"max_age:1\n", b"\r", b"\n", b"\r\n", b": ", b":", b"\t", b" ", b"*.", b".", b"-",
        b"\x00", b"\x0b", b"\x1c", b"\x7f", b"9999999999", StsMode.TESTING.value.encode(),
    )),
)  # fmt: skip
