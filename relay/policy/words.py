"""What is required, seen and decided, in words for a mail engineer: one wording for logs, the queue, explain and trace.

Pure. What hosts say comes from strangers; whoever prints these words cleans them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import assert_never

from relay.mail.status import Kind
from relay.policy.certificate import CertificateSyntaxError, dns_names
from relay.policy.chain import Trust, name_matches, shown_names
from relay.policy.observed import ObservedSession, TlsSeen
from relay.policy.override import Override, OverrideMode
from relay.policy.requirement import Identity, Level, Refuse, Requirement
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsResult, StsUnknown
from relay.policy.tlsa import (
    NoTlsa,
    TlsaLookupFailed,
    TlsaRecord,
    TlsaResult,
    UnusableTlsa,
    UsableTlsa,
    matching_record,
)
from relay.policy.verdict import Allow, Verdict

_WHOLE_OCTETS = 64  # of a TLSA record: a digest is shown whole, a certificate is not
_SHOWN_DIGITS = 40


def of_requirement(need: Requirement | Refuse) -> str:
    """What a session must prove: `TLS 1.2 or newer, a certificate that a TLSA record matches`."""
    if isinstance(need, Refuse):
        return f"not tried, {need.status}: {need.reason}"
    if not need.starttls:
        words = ["clear text: STARTTLS is left alone"]
    elif need.level is Level.ANY:
        words = ["nothing: TLS when it works, clear text otherwise"]
    else:
        words = [f"{need.minimum} or newer"]
    if need.tlsa is not None:
        words.append("a certificate that a TLSA record matches (dane)")
    words += [_of_identity(identity) for identity in need.identities]
    if need.fingerprints:
        words.append("a certificate or key with one of the fingerprints in the settings (override)")
    if need.requiretls:
        words.append("an offer of REQUIRETLS (requiretls)")
    if need.level is Level.ENCRYPTED:
        words.append("no matter whose certificate")
    return ", ".join(words)


def of_reported(need: Requirement | Refuse | None) -> str | None:
    """What is checked and reported beside what is required, if anything is."""
    if need is None or (isinstance(need, Requirement) and need.level is Level.ANY):
        return None if need is None else of_reported(need.reported)
    return of_requirement(need)


def _of_identity(identity: Identity) -> str:
    return f"a certificate of a trusted authority that names {' or '.join(identity.names)} ({identity.rule.value})"


def of_session(seen: ObservedSession) -> str:
    """What the session showed: `TLS 1.3, TLS_AES_256_GCM_SHA384, chain of 2, certificate for mx.example.org`."""
    if seen.tls is not None:
        offers = ", REQUIRETLS offered" if seen.requiretls_offered else ""
        return f"{_of_tls(seen.tls)}{offers}"
    if seen.handshake is not None:
        detail = f": {seen.handshake.detail}" if seen.handshake.detail else ""
        return f"no TLS: {seen.handshake.problem.value}{detail}"
    return "no TLS: STARTTLS was left alone" if seen.starttls_offered else "no TLS: STARTTLS is not offered"


@lru_cache(maxsize=256)
def _of_tls(tls: TlsSeen) -> str:
    names = shown_names(_names(tls.chain))
    return f"{tls.version}, {tls.cipher}, chain of {len(tls.chain)}, certificate for {names}"


def _names(chain: tuple[bytes, ...]) -> tuple[str, ...]:
    """What can be read of the names in the leaf."""
    try:
        return dns_names(chain[0]) if chain else ()
    except CertificateSyntaxError:
        return ()


def of_verdict(verdict: Verdict) -> str:
    """What becomes of mail on this session: `may carry mail, TLS verified`, or why not."""
    if isinstance(verdict, Refuse):
        what = "mail is returned" if verdict.status.kind is Kind.PERMANENT else "mail is kept back"
        return f"{what}, {verdict.status}: {verdict.reason}"
    found = f"; reported, not enforced: {verdict.would_refuse.reason}" if verdict.would_refuse else ""
    return f"may carry mail, TLS {verdict.tls.value}{found}"


def of_proof(need: Requirement, seen: ObservedSession, verdict: Verdict, trust: Trust) -> str | None:
    """Which record, name or fingerprint matched, when something did."""
    if not isinstance(verdict, Allow) or seen.tls is None or not seen.tls.chain:
        return None
    proofs = []
    if need.tlsa is not None:
        record = matching_record(need.tlsa, seen.tls.chain, trust.now)
        if isinstance(record, TlsaRecord):
            proofs.append(f"TLSA record {of_record(record)} at {need.tlsa.base}")
    present = _names(seen.tls.chain)
    for identity in need.identities:
        fitting = [p for p in present if any(name_matches(p, name) for name in identity.names)]
        if fitting:
            proofs.append(f"name {shown_names(fitting)} in the certificate, of a trusted authority")
    if need.fingerprints:
        proofs.append("a fingerprint in the settings")
    return "; ".join(proofs) or None


def of_sts(sts: StsResult, now: datetime) -> str:
    """The MTA-STS policy that holds, and how old it is; or why there is none."""
    match sts:
        case NoSts():
            return "no policy"
        case StsFetchFailed(reason):
            return f"announced, but there is no policy to be had, so it counts as none: {reason}"
        case StsUnknown(reason):
            return f"not known, so mail waits: {reason}"
        case StsFound(policy, policy_id, fetched_at, stale_reason):
            stale = f"; kept from before: {stale_reason}" if stale_reason else ""
            return (
                f"{policy.mode.value}, id {policy_id}, fetched {in_words(now - fetched_at)} ago, good for "
                f"{in_words(policy.max_age)}, mx: {', '.join(policy.mx) or 'none'}{stale}"
            )
    assert_never(sts)


def of_tlsa(tlsa: TlsaResult) -> str:
    """The DANE records that count, or why there are none."""
    match tlsa:
        case NoTlsa(reason):
            return f"no, {reason}"
        case UnusableTlsa(base, records):
            return f"TLSA records at {base}, none of which SMTP can use: {'; '.join(map(of_record, records))}"
        case UsableTlsa(base, names, records):
            shown = "; ".join(map(of_record, records))
            authority = any(record.usage == 2 for record in records)
            return f"TLSA records at {base}: {shown}" + (f" (names: {', '.join(names)})" if authority else "")
        case TlsaLookupFailed(reason):
            return f"not known, so the host is not tried: {reason}"
    assert_never(tlsa)


def of_record(record: TlsaRecord) -> str:
    """A TLSA record as in a zone file, its data cut short."""
    shown = record.data.hex()
    if len(record.data) > _WHOLE_OCTETS:
        shown = f"{shown[:_SHOWN_DIGITS]}... ({len(record.data)} octets)"
    return f"{record.usage} {record.selector} {record.matching_type} {shown}"


def of_override(override: Override) -> str:
    """An override in one line: what it asks, instead of what or beside it, why, who answers for it and until when."""
    how = "in place of what is published" if override.mode is OverrideMode.REPLACE else "beside what is published"
    minimum = f", {override.minimum} or newer" if override.minimum is not None else ""
    return (
        f"{override.level.value}{minimum}, {how}, until {override.until:%Y-%m-%d %H:%M} UTC, "
        f"by {override.owner}: {override.reason}"
    )


def in_words(span: timedelta) -> str:
    """A length of time in one unit, rounded: 40 s, 4 min, 3 h, 2 days. Less than nothing is nothing."""
    seconds = max(0, round(span.total_seconds()))
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"
