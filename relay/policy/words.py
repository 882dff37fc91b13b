"""What is required, seen and decided, in words for a mail engineer: one wording for logs, the queue, explain and trace.

Pure. What hosts say comes from strangers; whoever prints these words cleans them.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import assert_never

from relay.mail.outcome import TlsUsed
from relay.mail.status import Kind
from relay.policy.certificate import CertificateSyntaxError, dns_names
from relay.policy.chain import Trust, name_matches, shown_names
from relay.policy.memory import TlsMemory
from relay.policy.observed import ObservedSession, TlsSeen
from relay.policy.override import Override, OverrideMode
from relay.policy.requirement import Identity, Level, Refuse, Requirement
from relay.policy.routing import Hop
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsResult, StsUnknown
from relay.policy.tlsa import (
    NoTlsa,
    TlsaLookupFailed,
    TlsaRecord,
    TlsaResult,
    UnusableTlsa,
    UsableTlsa,
    matching_record,
    why_unusable,
)
from relay.policy.verdict import Allow, Verdict

_WHOLE_OCTETS = 64  # of a TLSA record: a digest is shown whole, a certificate is not
_SHOWN_DIGITS = 40
_SHOWN_RECORDS = 6


def of_requirement(need: Requirement | Refuse) -> str:
    """What a session must prove, and which rule asks for it: `TLS 1.2 or newer, a certificate that ... (dane)`."""
    if isinstance(need, Refuse):
        return f"not called, {need.status}: {need.reason} ({need.rule.value})"
    if not need.starttls:
        return f"clear text: STARTTLS is left alone ({need.rule.value})"
    if need.level is Level.ANY:
        return f"nothing: TLS when it works, clear text otherwise ({need.rule.value})"
    parts = [f"{need.minimum} or newer"]
    if need.level is Level.ENCRYPTED:
        parts.append(f"no matter whose certificate ({need.rule.value})")
    if need.tlsa is not None:
        parts.append("a certificate that a TLSA record matches (dane)")
    parts += [_of_identity(identity) for identity in need.identities]
    for pinned in need.fingerprints:
        parts.append(f"a certificate or key with one of the fingerprints in the settings ({pinned.rule.value})")
    if need.requiretls:
        parts.append("an offer of REQUIRETLS (requiretls)")
    return ", ".join(parts)


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


def of_hop(hop: Hop) -> str:
    """Where a route leads: `smart: smart1.example.net:587, then smart2.example.net:25, as us`."""
    places = ", then ".join(map(str, hop.places))
    return f"{hop.name}: {places}{' by its MX records' if hop.mx else ''}{f', as {hop.user}' if hop.user else ''}"


def of_verdict(verdict: Verdict) -> str:
    """What becomes of mail on this session: `may carry mail, TLS verified`, or why not."""
    if isinstance(verdict, Refuse):
        what = "mail is returned" if verdict.status.kind is Kind.PERMANENT else "mail is kept back"
        return f"{what}, {verdict.status}: {verdict.reason}"
    found = f"; reported, not enforced: {verdict.would_refuse.reason}" if verdict.would_refuse else ""
    how = "in clear text" if verdict.tls is TlsUsed.NONE else f"TLS {verdict.tls.value}"
    return f"may carry mail, {how}{found}"


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
            return f"TLSA records at {base}, none of which SMTP can use: {_of_unusable(records)}"
        case UsableTlsa(base, names, records, others):
            authority = any(record.usage == 2 for record in records)
            allowed = f" (names: {', '.join(names)})" if authority else ""
            useless = f"; of no use: {_of_unusable(others)}" if others else ""
            return f"TLSA records at {base}: {_some([of_record(record) for record in records])}{allowed}{useless}"
        case TlsaLookupFailed(reason):
            return f"not known, so the host is not tried: {reason}"
    assert_never(tlsa)


def _of_unusable(records: tuple[TlsaRecord, ...]) -> str:
    return _some([f"{of_record(record)} ({why_unusable(record)})" for record in records])


def _some(texts: list[str]) -> str:
    more = f"; and {len(texts) - _SHOWN_RECORDS} more" if len(texts) > _SHOWN_RECORDS else ""
    return "; ".join(texts[:_SHOWN_RECORDS]) + more


def of_record(record: TlsaRecord) -> str:
    """A TLSA record as in a zone file, its data cut short."""
    shown = record.data.hex()
    if len(record.data) > _WHOLE_OCTETS:
        shown = f"{shown[:_SHOWN_DIGITS]}... ({len(record.data)} octets)"
    return f"{record.usage} {record.selector} {record.matching_type} {shown}"


def of_memory(memory: TlsMemory, now: datetime) -> str:
    """What is remembered of a host's TLS."""
    by = f"proven by {memory.authenticated_by}" if memory.authenticated_by else "not proven by anything"
    lost = f"; NONE since {memory.lost_at:%Y-%m-%d %H:%M} UTC" if memory.lost_at is not None else ""
    return f"TLS since {memory.since:%Y-%m-%d}, last {in_words(now - memory.last)} ago, {by}{lost}"


def of_override(override: Override) -> str:
    """An override in one line: what it asks, instead of what or beside it, why, who answers for it and until when."""
    how = "in place of what is published" if override.mode is OverrideMode.REPLACE else "beside what is published"
    minimum = f", {override.minimum} or newer" if override.minimum is not None else ""
    return (
        f"{override.level.value}{minimum}, {how}, until {of_end(override.until)}, "
        f"by {override.owner}: {override.reason}"
    )


def of_end(until: datetime) -> str:
    """The end of something, as it is written in the settings: a last day, or a time."""
    if until == datetime.combine(until.date(), time(), until.tzinfo):
        return f"the end of {until - timedelta(days=1):%Y-%m-%d} (UTC)"
    return f"{until:%Y-%m-%d %H:%M} UTC"


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
