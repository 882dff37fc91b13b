"""What is asked and seen, for tests of what is decided and told: builders with a happy default, and strategies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from relay.lab.certs import LabCa, Leaf, tlsa_data
from relay.mail.message import TlsDemand
from relay.policy.chain import Roots, Trust
from relay.policy.memory import MemoryRules, OnTlsLoss, Remembered, TlsMemory
from relay.policy.mx import MxHost
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsSeen, TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsMode, StsPolicy, StsResult, StsUnknown
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, TlsaResult, UnusableTlsa, UsableTlsa
from relay.policy.verdict import Evidence

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HOST = "mx.good.test"
CA = LabCa.make(NOW)
TRUST = Trust(Roots(CA.pem), NOW)
GOOD = CA.issue((HOST,)).chain_der
WILDCARD = CA.issue(("*.good.test",)).chain_der
OTHER_NAME = CA.issue(("other.good.test",)).chain_der
EXPIRED = CA.issue((HOST,), Leaf.EXPIRED).chain_der
SELF_SIGNED = CA.issue((HOST,), Leaf.SELF_SIGNED).chain_der
CN_ONLY = CA.issue((HOST,), Leaf.CN_ONLY).chain_der


def tlsa(chain: tuple[bytes, ...] = GOOD) -> UsableTlsa:
    return UsableTlsa(HOST, (HOST, "good.test"), (TlsaRecord(3, 1, 1, tlsa_data(chain[0], 1, 1)),))


UNUSABLE = UnusableTlsa(HOST, (TlsaRecord(1, 1, 1, bytes(32)),))
NO_TLSA = NoTlsa("securely absent")
TLSA_FAILED = TlsaLookupFailed("SERVFAIL", bogus=True)


def sts(mode: StsMode = StsMode.ENFORCE, *mx: str) -> StsFound:
    return StsFound(StsPolicy(mode, mx or (HOST,), timedelta(days=1), ""), "1", NOW)


def evidence(
    tlsa: TlsaResult = NO_TLSA,
    sts: StsResult = NoSts(),  # noqa: B008  (a frozen value)
    demand: TlsDemand = TlsDemand.DEFAULT,
    override: Override | None = None,
    mx_secure: bool = False,
) -> Evidence:
    return Evidence("good.test", MxHost(HOST, mx_secure=mx_secure), tlsa, sts, demand, override)


def session(
    chain: tuple[bytes, ...] = GOOD,
    version: TlsVersion = TlsVersion.TLS_1_3,
    path_verified: bool = False,
    requiretls: bool = False,
) -> ObservedSession:
    seen = TlsSeen(version, "TLS_AES_256_GCM_SHA384", chain, path_verified)
    return ObservedSession(HOST, "192.0.2.1", True, requiretls, seen)


CLEAR = ObservedSession(HOST, "192.0.2.1", starttls_offered=False)


def broken(problem: HandshakeProblem, verify_code: int | None = None) -> ObservedSession:
    return ObservedSession(HOST, "192.0.2.1", True, handshake=HandshakeFailure(problem, "as seen", verify_code))


def override(
    level: OverrideLevel,
    mode: OverrideMode = OverrideMode.REPLACE,
    minimum: TlsVersion | None = None,
    names: tuple[str, ...] = (),
    chain: tuple[bytes, ...] = (),
) -> Override:
    """`chain`: its fingerprint and that of its key are given."""
    prints = tuple(hashlib.sha256(octets).digest() for octets in chain[:1])
    return Override(("good.test",), (), level, mode, "because", "ops", NOW + timedelta(days=9), minimum, names, prints)


RAISE = OverrideMode.RAISE


DAY = timedelta(days=1)


def had_tls(on_loss: OnTlsLoss, days: int = 8, lost: timedelta | None = None) -> Remembered:
    """For so many days, until an hour ago; `lost`: how long ago it was first seen without."""
    last = NOW - timedelta(hours=1) - (lost or timedelta(0))
    memory = TlsMemory(last - days * DAY, last, "dane", NOW - lost if lost is not None else None)
    return Remembered(memory, MemoryRules(on_loss, after=7 * DAY, defer_for=DAY))


chains = st.sampled_from([GOOD, WILDCARD, OTHER_NAME, EXPIRED, SELF_SIGNED, CN_ONLY, ()])
USABLE = [tlsa(), tlsa(SELF_SIGNED), UsableTlsa("b.test", ("b.test",), tlsa(EXPIRED).records)]
tlsas: st.SearchStrategy[TlsaResult] = st.sampled_from([NO_TLSA, TLSA_FAILED, UNUSABLE, *USABLE])
FOUND = {mode: [sts(mode, pattern) for pattern in (HOST, "*.good.test", "x.test")] for mode in StsMode}
policies: st.SearchStrategy[StsResult] = st.sampled_from(
    [NoSts(), StsFetchFailed("404"), StsUnknown("bogus"), *(found for mode in StsMode for found in FOUND[mode])]
)
demands = st.sampled_from(TlsDemand)
raises = st.builds(
    override,
    st.sampled_from(OverrideLevel),
    st.just(RAISE),
    st.none() | st.sampled_from(TlsVersion),
    st.sampled_from([(), (HOST,), ("other.good.test",)]),
    st.sampled_from([GOOD, EXPIRED]),
)
replaces = st.builds(lambda one: replace(one, mode=OverrideMode.REPLACE), raises)
overrides = st.none() | raises | replaces
memories = st.none() | st.builds(had_tls, st.sampled_from(OnTlsLoss), st.integers(6, 8), st.none() | st.just(2 * DAY))


def evidences_of(
    tlsas: st.SearchStrategy[TlsaResult] = tlsas,
    policies: st.SearchStrategy[StsResult] = policies,
    demands: st.SearchStrategy[TlsDemand] = demands,
    overrides: st.SearchStrategy[Override | None] = overrides,
) -> st.SearchStrategy[Evidence]:
    """Of a kind from the start: to make any and throw most away takes long."""
    host = st.just(MxHost(HOST))
    return st.builds(Evidence, st.just("good.test"), host, tlsas, policies, demands, overrides, memories)


evidences = evidences_of()
unwaived = st.sampled_from([TlsDemand.DEFAULT, TlsDemand.REQUIRED])
handshakes = st.builds(
    HandshakeFailure, st.sampled_from(HandshakeProblem), st.text(max_size=5), st.none() | st.integers(0, 99)
)
tls_seen = st.builds(TlsSeen, st.sampled_from(TlsVersion), st.just("cipher"), chains)
sessions = st.one_of(
    st.builds(ObservedSession, st.just(HOST), st.just("192.0.2.1"), st.booleans(), st.booleans()),
    st.builds(ObservedSession, st.just(HOST), st.just("192.0.2.1"), st.just(True), st.booleans(), tls_seen),
    st.builds(
        ObservedSession, st.just(HOST), st.just("192.0.2.1"), st.just(True), st.booleans(), st.none(), handshakes
    ),
)
many = settings(max_examples=250, suppress_health_check=[HealthCheck.filter_too_much])
