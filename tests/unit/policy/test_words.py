"""The exact sentences in which logs, the queue, `relay explain` and `relay trace` tell of TLS."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.lab.certs import LabCa, Leaf, tlsa_data
from relay.mail.outcome import TlsUsed
from relay.mail.status import Kind, Status
from relay.policy import words
from relay.policy.chain import Roots, Trust
from relay.policy.memory import TlsMemory
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsSeen, TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode
from relay.policy.requirement import Identity, Level, Pinned, Refuse, Requirement, Rule
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsMode, StsPolicy, StsResult, StsUnknown
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, TlsaResult, UnusableTlsa, UsableTlsa
from relay.policy.verdict import Allow, Verdict

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOST = "mx.good.test"
CA = LabCa.make(NOW)
TRUST = Trust(Roots(CA.pem), NOW)
CHAIN = CA.issue((HOST, "*.good.test", "x.test")).chain_der
NAMELESS = CA.issue((HOST,), Leaf.CN_ONLY).chain_der
ODD = (b"not a certificate",)

MATCHING = TlsaRecord(3, 1, 1, tlsa_data(CHAIN[0], 1, 1))
AUTHORITY = TlsaRecord(2, 0, 1, tlsa_data(CHAIN[1], 0, 1))
AA = TlsaRecord(3, 1, 1, b"\xaa" * 32)
SHOWN_AA = f"3 1 1 {'aa' * 32}"

ANY = Requirement(HOST, HOST, Level.ANY, Rule.OPPORTUNISTIC)
ENCRYPTED = Requirement(HOST, HOST, Level.ENCRYPTED, Rule.OVERRIDE, minimum=TlsVersion.TLS_1_2)
PROVEN = replace(ENCRYPTED, level=Level.AUTHENTICATED)
OF_STS = Identity((HOST,), Rule.STS)
LATER = Refuse(Status(Kind.TEMPORARY, 7, 5), "it expired", Rule.STS)
NEVER = Refuse(Status(Kind.PERMANENT, 7, 30), "it does not offer REQUIRETLS", Rule.REQUIRETLS)

REQUIREMENTS = [
    (LATER, "not called, 4.7.5: it expired (sts)"),
    (ANY, "nothing: TLS when it works, clear text otherwise (opportunistic)"),
    (replace(ANY, starttls=False), "clear text: STARTTLS is left alone (opportunistic)"),
    (ENCRYPTED, "TLS 1.2 or newer, no matter whose certificate (override)"),
    (
        replace(PROVEN, tlsa=UsableTlsa(HOST, (HOST,), (AA,))),
        "TLS 1.2 or newer, a certificate that a TLSA record matches (dane)",
    ),
    (
        replace(PROVEN, identities=(OF_STS, Identity(("a.test", "b.test"), Rule.OVERRIDE)), minimum=TlsVersion.TLS_1_3),
        "TLS 1.3 or newer, a certificate of a trusted authority that names mx.good.test (sts), "
        "a certificate of a trusted authority that names a.test or b.test (override)",
    ),
    (
        replace(PROVEN, fingerprints=(Pinned((bytes(32),), Rule.OVERRIDE),), requiretls=True),
        "TLS 1.2 or newer, a certificate or key with one of the fingerprints in the settings (override), "
        "an offer of REQUIRETLS (requiretls)",
    ),
]


@pytest.mark.parametrize(("need", "sentence"), REQUIREMENTS)
def test_of_requirement(need: Requirement | Refuse, sentence: str) -> None:
    assert words.of_requirement(need) == sentence


@pytest.mark.parametrize(
    ("need", "sentence"),
    [
        (None, None),
        (ANY, None),
        (ENCRYPTED, "TLS 1.2 or newer, no matter whose certificate (override)"),
        (LATER, "not called, 4.7.5: it expired (sts)"),
        (
            replace(ANY, reported=ENCRYPTED),
            "TLS 1.2 or newer, no matter whose certificate (override)",
        ),
        (replace(ANY, reported=replace(ANY, reported=LATER)), "not called, 4.7.5: it expired (sts)"),
        (replace(ENCRYPTED, reported=LATER), "TLS 1.2 or newer, no matter whose certificate (override)"),
    ],
)
def test_of_reported(need: Requirement | Refuse | None, sentence: str | None) -> None:
    assert words.of_reported(need) == sentence


CLEAR = ObservedSession(HOST, "192.0.2.1", starttls_offered=False)


def session(chain: tuple[bytes, ...] = CHAIN, requiretls: bool = False) -> ObservedSession:
    return ObservedSession(HOST, "192.0.2.1", True, requiretls, TlsSeen(TlsVersion.TLS_1_3, "TLS_AES", chain))


def broken(detail: str) -> ObservedSession:
    return replace(CLEAR, starttls_offered=True, handshake=HandshakeFailure(HandshakeProblem.RESET, detail))


SESSIONS = [
    (session(), "TLS 1.3, TLS_AES, chain of 2, certificate for mx.good.test, *.good.test, x.test"),
    (session(NAMELESS), "TLS 1.3, TLS_AES, chain of 2, certificate for no host"),
    (session(ODD), "TLS 1.3, TLS_AES, chain of 1, certificate for no host"),
    (session(()), "TLS 1.3, TLS_AES, chain of 0, certificate for no host"),
    (session((), requiretls=True), "TLS 1.3, TLS_AES, chain of 0, certificate for no host, REQUIRETLS offered"),
    (CLEAR, "no TLS: STARTTLS is not offered"),
    (replace(CLEAR, starttls_offered=True), "no TLS: STARTTLS was left alone"),
    (broken(""), "no TLS: the connection was closed during the TLS handshake"),
    (broken("EOF"), "no TLS: the connection was closed during the TLS handshake: EOF"),
]


@pytest.mark.parametrize(("seen", "sentence"), SESSIONS)
def test_of_session(seen: ObservedSession, sentence: str) -> None:
    assert words.of_session(seen) == sentence


ALLOWED = Allow(TlsUsed.VERIFIED, Rule.STS)


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (LATER, "mail is kept back, 4.7.5: it expired"),
        (NEVER, "mail is returned, 5.7.30: it does not offer REQUIRETLS"),
        (ALLOWED, "may carry mail, TLS verified"),
        (
            Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC, would_refuse=LATER),
            "may carry mail, in clear text; reported, not enforced: it expired",
        ),
    ],
)
def test_of_verdict(verdict: Verdict, sentence: str) -> None:
    assert words.of_verdict(verdict) == sentence


def dane(*records: TlsaRecord) -> Requirement:
    return replace(PROVEN, tlsa=UsableTlsa("real.good.test", (HOST,), records))


BY_NAME = replace(PROVEN, identities=(OF_STS,))
BY_FINGERPRINT = replace(PROVEN, fingerprints=(Pinned((hashlib.sha256(CHAIN[0]).digest(),), Rule.OVERRIDE),))
OF_NAMES = "name mx.good.test, *.good.test in the certificate, of a trusted authority"
PROOFS = [
    (ENCRYPTED, CHAIN, None),
    (dane(AA, MATCHING), CHAIN, f"TLSA record 3 1 1 {MATCHING.data.hex()} at real.good.test"),
    (dane(AUTHORITY), CHAIN, f"TLSA record 2 0 1 {AUTHORITY.data.hex()} at real.good.test"),
    (dane(AA), CHAIN, None),
    (BY_NAME, CHAIN, OF_NAMES),
    (
        replace(PROVEN, identities=(Identity(("a.test", "x.test"), Rule.OVERRIDE),)),
        CHAIN,
        "name x.test in the certificate, of a trusted authority",
    ),
    (BY_NAME, ODD, None),
    (BY_FINGERPRINT, CHAIN, "a fingerprint in the settings"),
    (replace(BY_FINGERPRINT, identities=(OF_STS,)), CHAIN, f"{OF_NAMES}; a fingerprint in the settings"),
    # a name that cannot be read does not keep the rest from being told
    (replace(BY_FINGERPRINT, identities=(OF_STS, OF_STS)), ODD, "a fingerprint in the settings"),
    (BY_FINGERPRINT, (), None),
]


@pytest.mark.parametrize(("need", "chain", "sentence"), PROOFS)
def test_of_proof(need: Requirement, chain: tuple[bytes, ...], sentence: str | None) -> None:
    assert words.of_proof(need, session(chain), ALLOWED, TRUST) == sentence


def test_nothing_proves_a_host_that_was_refused_or_spoken_to_in_clear_text() -> None:
    assert words.of_proof(BY_NAME, session(), LATER, TRUST) is None
    assert words.of_proof(BY_NAME, CLEAR, ALLOWED, TRUST) is None


def policy(*mx: str) -> StsPolicy:
    return StsPolicy(StsMode.ENFORCE, mx, timedelta(days=7), "")


@pytest.mark.parametrize(
    ("sts", "sentence"),
    [
        (NoSts(), "no policy"),
        (StsFetchFailed("404"), "announced, but there is no policy to be had, so it counts as none: 404"),
        (StsUnknown("bogus"), "not known, so mail waits: bogus"),
        (
            StsFound(policy("a.test", "*.b.test"), "2026x", NOW - timedelta(hours=3)),
            "enforce, id 2026x, fetched 3 h ago, good for 7 days, mx: a.test, *.b.test",
        ),
        (
            StsFound(policy(), "1", NOW, "404"),
            "enforce, id 1, fetched 0 s ago, good for 7 days, mx: none; kept from before: 404",
        ),
    ],
)
def test_of_sts(sts: StsResult, sentence: str) -> None:
    assert words.of_sts(sts, NOW) == sentence


@pytest.mark.parametrize(
    ("tlsa", "sentence"),
    [
        (NoTlsa("the zone is not signed"), "no, the zone is not signed"),
        (TlsaLookupFailed("SERVFAIL"), "not known, so the host is not tried: SERVFAIL"),
        (
            UnusableTlsa(HOST, (TlsaRecord(1, 0, 1, b"\1"), TlsaRecord(0, 0, 1, b"\2"))),
            "TLSA records at mx.good.test, none of which SMTP can use: "
            "1 0 1 01 (usage 1 is not for SMTP); 0 0 1 02 (usage 0 is not for SMTP)",
        ),
        (
            UsableTlsa(HOST, (HOST,), (AA,), (TlsaRecord(3, 1, 1, b"\1"),)),
            f"TLSA records at mx.good.test: {SHOWN_AA}; of no use: 3 1 1 01 (the digest has 1 octets, not 32)",
        ),
        (UsableTlsa(HOST, (HOST, "good.test"), (AA,)), f"TLSA records at mx.good.test: {SHOWN_AA}"),
        (  # names count where an authority is named
            UsableTlsa(HOST, (HOST, "good.test"), (AA, replace(AA, usage=2))),
            f"TLSA records at mx.good.test: {SHOWN_AA}; 2 1 1 {'aa' * 32} (names: mx.good.test, good.test)",
        ),
    ],
)
def test_of_tlsa(tlsa: TlsaResult, sentence: str) -> None:
    assert words.of_tlsa(tlsa) == sentence


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(32, "ab" * 32), (64, "ab" * 64), (65, f"{'ab' * 20}... (65 octets)")],  # digests are shown whole
)
def test_of_record(octets: int, shown: str) -> None:
    assert words.of_record(TlsaRecord(3, 0, 2, b"\xab" * octets)) == f"3 0 2 {shown}"


OVERRIDE = Override(("a.test",), (), OverrideLevel.VERIFY, OverrideMode.RAISE, "audit", "ops", NOW)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (OVERRIDE, "verify, beside what is published, until 2026-11-24 12:00 UTC, by ops: audit"),
        (
            replace(OVERRIDE, mode=OverrideMode.REPLACE, minimum=TlsVersion.TLS_1_3),
            "verify, TLS 1.3 or newer, in place of what is published, until 2026-11-24 12:00 UTC, by ops: audit",
        ),
    ],
)
def test_of_override(override: Override, sentence: str) -> None:
    assert words.of_override(override) == sentence


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (1.6, "2 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5950, "99 min"),
        (5999, "100 min"),
        (6000, "2 h"),
        (47.5 * 3600 - 1, "47 h"),
        (47.5 * 3600 + 1, "48 h"),
        (48 * 3600 - 1, "48 h"),
        (48 * 3600, "2 days"),
        (1000.5 * 86400 - 1, "1000 days"),
        (1000.5 * 86400 + 1, "1001 days"),
    ],
)
def test_in_words(seconds: float, shown: str) -> None:
    assert words.in_words(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        (
            TlsMemory(NOW - timedelta(days=30), NOW - timedelta(hours=3), "dane"),
            "TLS since 2026-10-25, last 3 h ago, proven by dane",
        ),
        (
            TlsMemory(NOW - timedelta(days=30), NOW - timedelta(days=3), None, NOW - timedelta(days=2)),
            "TLS since 2026-10-25, last 3 days ago, not proven by anything; NONE since 2026-11-22 12:00 UTC",
        ),
    ],
)
def test_of_memory(memory: TlsMemory, sentence: str) -> None:
    assert words.of_memory(memory, NOW) == sentence


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        (datetime(2027, 4, 1, tzinfo=UTC), "the end of 2027-03-31 (UTC)"),
        (datetime(2027, 4, 1, 0, 0, 1, tzinfo=UTC), "2027-04-01 00:00 UTC"),
        (datetime(2027, 3, 31, 18, tzinfo=UTC), "2027-03-31 18:00 UTC"),
    ],
)
def test_of_end(until: datetime, shown: str) -> None:
    assert words.of_end(until) == shown


@pytest.mark.parametrize(("records", "more"), [(6, ""), (7, "; and 1 more"), (100, "; and 94 more")])
def test_many_records(records: int, more: str) -> None:
    assert words.of_tlsa(UsableTlsa(HOST, (HOST,), (AA,) * records)) == (
        f"TLSA records at mx.good.test: {'; '.join([SHOWN_AA] * 6)}{more}"
    )
