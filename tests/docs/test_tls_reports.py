"""docs/tls-reports.md says what the code counts: each row of its table is tried."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from judged import (
    CLEAR,
    EXPIRED,
    GOOD,
    HOST,
    OTHER_NAME,
    SELF_SIGNED,
    TLSA_FAILED,
    TRUST,
    UNUSABLE,
    broken,
    evidence,
    override,
    session,
    sts,
    tlsa,
)

from relay.lab.certs import tlsa_data
from relay.policy.observed import HandshakeProblem, ObservedSession, TlsVersion
from relay.policy.override import OverrideLevel
from relay.policy.requirement import Evidence, Refuse, require
from relay.policy.sts import StsFetchFailed, StsMode, StsProblem, StsUnknown
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import PolicyType, Tally, of_bogus_answer, of_host, of_policy, of_session
from relay.policy.tlsa import TlsaRecord, UsableTlsa

PAGE = (Path(__file__).parents[2] / "docs" / "tls-reports.md").read_text()
TESTING = StsMode.TESTING
EACH = "each that applies"


def rows() -> dict[str, tuple[str, str]]:
    section = PAGE.partition("## What is counted\n")[2].partition("\n## ")[0]
    cells = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", section, re.M)]
    return {fact: (policy, result) for fact, policy, result in cells}


def called(known: Evidence, seen: ObservedSession) -> tuple[Tally, ...]:
    return of_session(known, seen, None, TRUST)


def not_called(known: Evidence) -> tuple[Tally, ...]:
    refuse = require(known)
    assert isinstance(refuse, Refuse)
    return of_host(known, refuse)


def of_authority(chain: tuple[bytes, ...]) -> Evidence:
    return evidence(UsableTlsa(HOST, (HOST,), (TlsaRecord(2, 0, 1, tlsa_data(chain[1], 0, 1)),)))


def under_each(seen: ObservedSession) -> tuple[Tally, ...]:
    return (*called(evidence(tlsa(), sts(TESTING)), seen), *called(evidence(UNUSABLE), seen))


def with_none(seen: ObservedSession) -> tuple[Tally, ...]:
    return (*under_each(seen), *called(evidence(), seen))


def unfetched(problem: StsProblem) -> tuple[Tally, ...]:
    older = replace(sts(), stale_reason="why", stale_problem=problem)
    return (*of_policy("good.test", StsFetchFailed("why", problem)), *of_policy("good.test", older))


P = HandshakeProblem
REFUSALS = (CLEAR, broken(P.REFUSED), broken(P.DEFERRED))
FAILURES = [broken(one) for one in P if one not in (P.CERTIFICATE, P.REFUSED, P.DEFERRED)]
FACTS: dict[str, tuple[Tally, ...]] = {
    "the chain matches a TLSA record": called(evidence(tlsa()), session()),
    "the chain matches no TLSA record": called(evidence(tlsa()), session(EXPIRED)),
    "the authority in a TLSA record issued it, and it is out of date": called(of_authority(EXPIRED), session(EXPIRED)),
    "the authority in a TLSA record issued it, for another name": called(of_authority(GOOD), session(OTHER_NAME)),
    "TLSA records, none of which SMTP can use, and TLS": called(evidence(UNUSABLE), session()),
    "TLSA records that fail DNSSEC, or cannot be had": not_called(evidence(TLSA_FAILED)),
    "no TLSA records, and an override demands them": not_called(evidence(override=override(OverrideLevel.DANE_ONLY))),
    "a certificate as MTA-STS wants it": called(evidence(sts=sts()), session()),
    "a certificate that is out of date": called(evidence(sts=sts()), broken(P.CERTIFICATE, 10)),
    "a certificate for another name": called(evidence(sts=sts(TESTING)), session(OTHER_NAME)),
    "a certificate that is not trusted for any other reason": called(evidence(sts=sts(TESTING)), session(SELF_SIGNED)),
    "a host that the policy does not list": not_called(evidence(sts=sts(StsMode.ENFORCE, "x.test"))),
    "a policy whose host does not answer, or not with a policy": unfetched(StsProblem.FETCH),
    "a policy whose host has a bad certificate": unfetched(StsProblem.CERTIFICATE),
    "a policy that is not valid": unfetched(StsProblem.INVALID),
    "a policy record that fails DNSSEC": of_policy("good.test", StsUnknown("bogus", bogus=True)),
    "TLS, and nothing is published": called(evidence(), session(SELF_SIGNED)),
    "mail hosts, or the address of one, that fail DNSSEC": (of_bogus_answer("good.test", "bogus", HOST),),
    "no STARTTLS, or it is refused": tuple(tally for seen in REFUSALS for tally in with_none(seen)),
    "a handshake that fails": tuple(tally for seen in FAILURES for tally in with_none(seen)),
    "TLS older than 1.2, and something is published": under_each(session(version=TlsVersion.TLS_1_1)),
}


def test_the_page_lists_these_facts() -> None:
    assert list(rows()) == list(FACTS)


@pytest.mark.parametrize("fact", FACTS)
def test_what_the_page_says_of_a_fact(fact: str) -> None:
    policy, result = rows()[fact]
    tallies = FACTS[fact]
    assert tallies
    assert {"good" if one.fault is None else one.fault.result.value for one in tallies} == {result}
    found = {one.policy.type.value for one in tallies}
    assert found == {policy} or (policy == EACH and found >= {PolicyType.TLSA.value, PolicyType.STS.value})


def test_the_page_has_every_result_and_policy() -> None:
    said = {cell for row in rows().values() for cell in row}
    assert said == {*(one.value for one in ReportResult), *(one.value for one in PolicyType), "good", EACH}
