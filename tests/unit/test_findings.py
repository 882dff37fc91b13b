"""What `relay check` makes of the facts: one row for each thing that can be seen."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay import finding, findings
from relay.finding import Finding, Level
from relay.findings import Address, Called, DnssecSeen, FolderSeen
from relay.lab.certs import LabCa, Leaf
from relay.policy.chain import Roots, Trust
from relay.policy.override import Override, OverrideLevel, OverrideMode
from relay.settings import DnsSettings, HostPort, TrustAd

OK, WARN, FAIL = Level
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HERE, THERE = (HostPort(host=host, port=53) for host in ("127.0.0.1", "192.0.2.53"))
HOST = HostPort(host="mx.test", port=25)
MIB = 1 << 20
DAY = timedelta(days=1)
CA = LabCa.make(NOW)
ROOTS = Roots(CA.pem)


def said(found: Finding | list[Finding] | None, level: Level, *words: str) -> None:
    """Each of the findings, levels and words alike; the last words are of the remedy where there is one."""
    (one,) = found if isinstance(found, list) else [found]
    assert one is not None
    assert one.level is level
    for word in words:
        assert word in f"{one.text} -> {one.remedy}"


@pytest.mark.parametrize(
    ("now", "level"),
    [(NOW, OK), (datetime(2026, 1, 1, tzinfo=UTC), OK), (datetime(2025, 12, 31, tzinfo=UTC), FAIL)],
)
def test_the_clock(now: datetime, level: Level) -> None:
    said(findings.clock(now), level, f"{now:%Y-%m-%d}")


@pytest.mark.parametrize(
    ("hostname", "words"),
    [("localhost", "not a full name"), ("[192.0.2.1]", "is an address"), ("mail.test", None)],
)
def test_a_name_that_is_none(hostname: str, words: str | None) -> None:
    odd = findings.odd_name(hostname)
    if words is None:
        assert odd is None
    else:
        said(odd, WARN, words, "set hostname")


def address(text: str = "192.0.2.1", refusal: str | None = None, names: tuple[str, ...] | None = ()) -> Address:
    return Address(text, refusal, names)


@pytest.mark.parametrize(
    ("addresses", "levels", "words"),
    [
        ([], [WARN], "has no address"),
        ([address(refusal="192.0.2.1 is a private address")], [WARN], "private address"),
        ([address(names=("mail.test",))], [OK, OK], "mail.test is 192.0.2.1"),
        ([address(names=("other.test", "mail.test"))], [OK, OK], "192.0.2.1 is mail.test"),
        ([address(names=("other.test",))], [OK, WARN], "192.0.2.1 is called other.test"),
        ([address()], [OK, WARN], "192.0.2.1 is called nothing"),
        ([address(names=None)], [OK, WARN], "not known"),
        ([address(names=("mail.test",)), address("10.0.0.1", "private")], [OK, OK], "mail.test is 192.0.2.1, 10.0.0.1"),
    ],
)
def test_our_name(addresses: list[Address], levels: list[Level], words: str) -> None:
    found = findings.name("mail.test", addresses)
    assert [one.level for one in found] == levels
    assert any(words in one.text for one in found)


@pytest.mark.parametrize(
    ("answers", "levels"),
    [
        ([], [FAIL]),
        ([(HERE, None)], [OK]),
        ([(HERE, None), (THERE, "timed out")], [OK, WARN]),
        ([(HERE, "timed out")], [FAIL]),
        ([(HERE, "timed out"), (THERE, "refused")], [FAIL, FAIL]),
    ],
)
def test_resolvers(answers: list[tuple[HostPort, str | None]], levels: list[Level]) -> None:
    assert [one.level for one in findings.resolvers(answers)] == levels


AUTO, YES, NO = (DnsSettings(trust_ad=value) for value in (TrustAd.AUTO, TrustAd.YES, TrustAd.NO))


@pytest.mark.parametrize(
    ("settings", "seen", "level", "words"),
    [
        (AUTO, DnssecSeen((HERE,), True, True, "it vouches"), OK, ("DANE is on: it vouches",)),
        (AUTO, DnssecSeen((HERE,), True, False, "it is silent"), WARN, ("DANE is on, but it is silent", "self_test")),
        (AUTO, DnssecSeen((HERE,), False, True, "no AD"), WARN, ("DANE is off: no AD", "dig +dnssec iana.org")),
        (
            AUTO,
            DnssecSeen((HERE, THERE), False, True, "far"),
            WARN,
            ("DANE is off: far", "between is yours alone"),
        ),
        (AUTO, DnssecSeen((), False, True, "none"), WARN, ("DANE is off: none", "run a validating resolver")),
        (NO, DnssecSeen((HERE,), False, True, "it is no"), WARN, ("DANE is off: it is no", "dns.trust_ad to auto")),
        (YES, DnssecSeen((THERE,), True, True, "it is yes"), OK, ("DANE is on: it is yes",)),
        (YES, DnssecSeen((THERE,), True, True, "it is yes", "DANE is off: no AD"), WARN, ("DANE is off: no AD",)),
    ],
)
def test_dnssec(settings: DnsSettings, seen: DnssecSeen, level: Level, words: tuple[str, ...]) -> None:
    said(findings.dnssec(settings, seen), level, *words)


def seen(parent: str = "/q", is_folder: bool = True, writable: bool = True, free: int = 10_000) -> FolderSeen:
    return FolderSeen(Path("/q"), Path(parent), is_folder, writable, free * MIB, 64 * MIB)


@pytest.mark.parametrize(
    ("folder", "levels", "words"),
    [
        (seen(), [OK, OK], "/q can be written"),
        (seen("/"), [OK, OK], "it is made when"),
        (seen("/", writable=False), [FAIL], "cannot be made: / cannot be written"),
        (seen(writable=False), [FAIL], "/q cannot be written"),
        (seen(is_folder=False), [FAIL], "/q is not a folder"),
        (seen(free=1024), [OK, OK], "1024 MiB"),
        (seen(free=1023), [OK, WARN], "below 64 MiB"),
        (seen(free=64), [OK, WARN], "64 MiB are free"),
        (seen(free=63), [OK, FAIL], "no new mail is taken"),
    ],
)
def test_the_folder(folder: FolderSeen, levels: list[Level], words: str) -> None:
    found = findings.folder(folder)
    assert [one.level for one in found] == levels
    assert any(words in one.text for one in found)


@pytest.mark.parametrize(
    ("versions", "level", "words"),
    [
        ((0, 2), OK, "no mail was ever queued"),
        ((1, 2), OK, "converts to 2"),
        ((2, 2), OK, "schema 2"),
        ("the queue is of a newer version", FAIL, "newer version"),
    ],
)
def test_the_schema(versions: tuple[int, int] | str, level: Level, words: str) -> None:
    said(findings.schema(versions), level, words)


def test_the_service() -> None:
    said(findings.service(None), OK, "does not run")
    said(findings.service(7), OK, "process 7")
    said(findings.service(0), OK, "just begun")
    said(findings.service("no"), WARN, "cannot be seen", "as the user")


@pytest.mark.parametrize(
    ("kind", "name", "now", "expected"),
    [
        (Leaf.GOOD, "mail.test", NOW, [(OK, "good until 2036-11-21")]),
        (Leaf.GOOD, "mail.test", NOW + timedelta(days=3650 - 14), [(OK, "good until")]),
        (Leaf.GOOD, "mail.test", NOW + timedelta(days=3650 - 13), [(WARN, "expires on 2036-11-21")]),
        (Leaf.GOOD, "other.test", NOW, [(WARN, "not other.test")]),
        (Leaf.EXPIRED, "mail.test", NOW, [(FAIL, "expired on 2026-10-25")]),
        (Leaf.NOT_YET_VALID, "mail.test", NOW, [(FAIL, "not valid before 2026-12-24")]),
        (Leaf.MISSING_INTERMEDIATE, "mail.test", NOW, [(WARN, "was not sent")]),
        (Leaf.SELF_SIGNED, "mail.test", NOW, [(WARN, "self-signed")]),
        (Leaf.EXPIRED_INTERMEDIATE, "mail.test", NOW, [(WARN, "authority in the chain expired")]),
        (
            Leaf.SELF_SIGNED,
            "other.test",
            NOW + timedelta(days=3645),
            [(WARN, "expires"), (WARN, "not"), (WARN, "self")],
        ),
    ],
)
def test_certificates(kind: Leaf, name: str, now: datetime, expected: list[tuple[Level, str]]) -> None:
    found = findings.certificate(CA.issue(("mail.test",), kind).chain_der, name, Trust(ROOTS, now))
    assert [one.level for one in found] == [level for level, _ in expected]
    for one, (_, words) in zip(found, expected, strict=True):
        assert words in one.text


def test_a_certificate_that_is_none() -> None:
    said(findings.certificate((b"0\x00",), "mail.test", Trust(ROOTS, NOW)), FAIL, "cannot be read")


def test_authorities_users_and_files() -> None:
    said(findings.authorities(ROOTS), OK, "1 are trusted")
    said(findings.authorities("ca.pem: broken"), FAIL, "ca.pem: broken", "tls.ca_file")
    said(findings.users(3), OK, "3 may log in")
    said(findings.users(0), WARN, "nobody can log in")
    said(findings.users("line 3"), FAIL, "line 3")
    said(findings.open_files(None, 1500), OK, "any number")
    said(findings.open_files(1500, 1500), OK, "1500")
    said(findings.open_files(1499, 1500), WARN, "1499", "LimitNOFILE")


@pytest.mark.parametrize(
    ("error", "level", "words"),
    [
        (None, OK, "is free"),
        (errno.EADDRINUSE, FAIL, "sport = :25"),
        (errno.EACCES, WARN, "AmbientCapabilities"),
        (errno.EADDRNOTAVAIL, FAIL, "ip address"),
    ],
)
def test_addresses_of_listeners(error: int | None, level: Level, words: str) -> None:
    said(findings.bindable(HOST, None if error is None else OSError(error, "cannot listen")), level, words)


def test_a_service_that_does_not_answer() -> None:
    said(findings.answering(HOST, None), OK, "mx.test:25")
    said(findings.answering(HOST, "refused"), FAIL, "refused", "restart")


UP, DOWN, HALF = Called(HOST, ("192.0.2.1",), ()), Called(HOST, (), ("refused",)), Called(HOST, ("::1",), ("no way",))


@pytest.mark.parametrize(
    ("hosts", "levels"),
    [
        ([UP], [OK]),
        ([UP, DOWN], [OK, WARN]),
        ([DOWN, HALF], [WARN, WARN]),
        ([DOWN, DOWN], [FAIL, FAIL]),
    ],
)
def test_hosts_that_were_called(hosts: list[Called], levels: list[Level]) -> None:
    assert [one.level for one in findings.reach("port 25", hosts, "open it")] == levels


FOUND = (
    finding.ok("clock", "noon"),
    finding.warn("dnssec", "DANE is off: no\x1b[1m", "mend it"),
    finding.fail("dns", "nobody answers", "ask"),
)


def test_the_page() -> None:
    assert finding.page(FOUND) == (
        "ok    clock   noon\n"
        "warn  dnssec  DANE is off: no?[1m\n"
        "              -> mend it\n"
        "fail  dns     nobody answers\n"
        "              -> ask\n"
    )


def test_the_object() -> None:
    whole = json.loads(finding.as_json(FOUND))
    assert whole["level"] == "fail"
    assert whole["findings"][0] == {"level": "ok", "subject": "clock", "text": "noon", "remedy": None}
    assert [one["level"] for one in whole["findings"]] == ["ok", "warn", "fail"]


def test_the_worst_level_counts() -> None:
    assert [finding.worst(FOUND[:count]) for count in range(4)] == [OK, OK, WARN, FAIL]


@pytest.mark.parametrize(("level", "remedy"), [(OK, "something"), (WARN, None), (FAIL, None)])
def test_only_what_is_not_well_has_a_remedy(level: Level, remedy: str | None) -> None:
    with pytest.raises(ValueError, match="remedy"):
        Finding(level, "x", "y", remedy)


def override(until: datetime) -> Override:
    return Override(("a.test",), ("mx.b.test",), OverrideLevel.ENCRYPT, OverrideMode.RAISE, "why", "ops", until)


@pytest.mark.parametrize(
    ("until", "level", "text"),
    [
        (
            NOW,
            Level.WARN,
            "a.test, mx.b.test (encrypt, by ops) was in force until 2026-11-24 12:00 UTC, and is no longer",
        ),
        (
            NOW + timedelta(days=14),
            Level.WARN,
            "a.test, mx.b.test (encrypt, by ops) is in force until 2026-12-08 12:00 UTC",
        ),
        (NOW + timedelta(days=15), Level.OK, "1 in force"),
    ],
)
def test_overrides(until: datetime, level: Level, text: str) -> None:
    (found,) = findings.overrides([override(until)], NOW)
    assert (found.level, found.subject, found.text) == (level, "overrides", text)


def test_no_overrides() -> None:
    assert [one.text for one in findings.overrides([], NOW)] == ["there are none"]


def test_memories() -> None:
    assert findings.memories([]).level is Level.OK
    assert findings.memories([Path("/q/sts.sqlite3.damaged")]).text == (
        "moved aside, since damaged: /q/sts.sqlite3.damaged; what was in them is learned anew"
    )


@pytest.mark.parametrize(
    ("held", "rules", "words"),
    [
        (0, 0, []),
        (1, 0, ["1 recipient on hold"]),
        (0, 2, ["new mail is put on hold by 2 hold rules"]),
        (3, 1, ["3 recipients on hold", "new mail is put on hold by 1 hold rule"]),
    ],
)
def test_what_is_kept_back(held: int, rules: int, words: list[str]) -> None:
    found = findings.holding(held, rules)
    assert [one.text for one in found] == words
    assert all(one.level is Level.WARN for one in found)


@pytest.mark.parametrize(
    ("signed", "level", "text"), [(True, Level.OK, "signed"), (False, Level.WARN, "by HTTPS alone")]
)
def test_tls_reports(signed: bool, level: Level, text: str) -> None:
    found = findings.tls_reports("s.test", signed=signed)
    assert (found.subject, found.level) == ("tls reports", level)
    assert text in found.text and "s.test" in found.text
