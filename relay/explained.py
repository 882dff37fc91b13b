"""An explanation for people, to be pasted into a ticket, and for programs. Values in, text out.

What hosts say comes from strangers: it is cleaned of control characters.
"""

from __future__ import annotations

import json
from typing import assert_never

from relay.policy.certificate import CertificateSyntaxError, dns_names
from relay.policy.explanation import Explanation, HostExplained, SessionExplained
from relay.policy.mx import MxHost
from relay.policy.override import Level
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsResult, StsUnknown
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaResult, UnusableTlsa, UsableTlsa
from relay.policy.verdict import Allow, Refuse, Requirement, Verdict
from relay.show import in_words


def as_json(found: Explanation) -> str:
    """One object. What is not known is null."""
    hosts = [
        {
            "name": one.host.name,
            "preference": one.host.preference,
            "mx_signed": one.host.mx_secure,
            "address_signed": one.host.secure,
            "addresses": list(one.host.addresses),
            "problem": one.problem,
            "dane": None if one.tlsa is None else _dane(one.tlsa),
            "requirement": None if one.need is None else _need(one.need),
            "sessions": [
                {"address": session.address, "seen": _seen(session), "verdict": _verdict(session)}
                for session in one.sessions
            ],
        }
        for one in found.hosts
    ]
    whole = {
        "domain": found.domain,
        "time": found.now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "dnssec": found.resolver,
        "mta_sts": _sts(found.sts, found),
        "problem": found.problem,
        "hosts": hosts,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False)


def page(found: Explanation) -> str:
    """Some lines for each host, in the order of trying."""
    lines = [f"{found.domain}, {found.now:%Y-%m-%d %H:%M:%S} UTC"]
    lines += [f"  {found.resolver}", f"  MTA-STS: {_sts(found.sts, found)}"]
    if found.problem is not None:
        lines.append(f"  No mail goes there: {found.problem}")
    for one in found.hosts:
        lines += ["", *_host(one)]
    if found.hosts and not found.connected:
        lines += ["", "No host was called; --connect calls each of them, and sends nothing."]
    return "".join(f"{_clean(line)}\n" for line in lines)


def _host(one: HostExplained) -> list[str]:
    host = one.host
    lines = [f"{host.preference:>5} {host.name}  ({_signed(host)})"]
    if one.problem is not None:
        lines.append(f"      {one.problem}")
    if host.addresses:
        lines.append(f"      addresses: {', '.join(host.addresses)}")
    if one.tlsa is not None:
        lines.append(f"      DANE: {_dane(one.tlsa)}")
    if one.need is not None:
        lines.append(f"      required: {_need(one.need)}")
    for session in one.sessions:
        lines += [f"      {session.address}: {_seen(session)}", f"        {_verdict(session)}"]
    return lines


def _signed(host: MxHost) -> str:
    named = "signed" if host.mx_secure else "not signed"
    if not host.addresses:
        return f"MX {named}"
    alias = f", alias of {host.expanded}" if host.expanded not in ("", host.name) else ""
    return f"MX {named}, address {'signed' if host.secure else 'not signed'}{alias}"


def _sts(sts: StsResult, found: Explanation) -> str:
    match sts:
        case NoSts():
            return "no policy"
        case StsFetchFailed(reason):
            return f"announced, but there is no policy to be had, so it counts as none: {reason}"
        case StsUnknown(reason):
            return f"not known, so mail waits: {reason}"
        case StsFound(policy, policy_id, fetched_at, stale_reason):
            age = in_words(found.now - fetched_at)
            stale = f"; kept from before: {stale_reason}" if stale_reason else ""
            return (
                f"{policy.mode.value}, id {policy_id}, fetched {age} ago, good for {in_words(policy.max_age)}, "
                f"mx: {', '.join(policy.mx) or 'none'}{stale}"
            )
    assert_never(sts)


def _dane(tlsa: TlsaResult) -> str:
    match tlsa:
        case NoTlsa(reason):
            return f"no, {reason}"
        case UnusableTlsa(base, records):
            shown = "; ".join(map(str, records))
            return f"TLSA records at {base}, none of which SMTP can use: {shown}"
        case UsableTlsa(base, names, records):
            shown = "; ".join(map(str, records))
            return f"TLSA records at {base}: {shown} (names for usage 2: {', '.join(names)})"
        case TlsaLookupFailed(reason):
            return f"not known, so the host is not tried: {reason}"
    assert_never(tlsa)


def _need(need: Requirement | Refuse) -> str:
    if isinstance(need, Refuse):
        return f"not tried, {need.status}: {need.reason} (rule {need.rule.value})"
    if need.level is Level.ANY:
        words = ["nothing: TLS when it works, clear text otherwise"]
    else:
        words = [f"{need.minimum} or newer"]
    if need.tlsa is not None:
        words.append("a certificate that a TLSA record matches")
    if need.webpki_name is not None:
        words.append(f"a certificate of a trusted authority that names {need.webpki_name}")
    if need.testing is not None:
        words.append("an MTA-STS policy in testing mode is checked and reported")
    return f"{', '.join(words)} (rule {need.rule.value})"


def _seen(session: SessionExplained) -> str:
    seen = session.seen
    if seen is None:
        return session.problem or "no session"
    if seen.handshake is not None:
        return f"STARTTLS failed: {seen.handshake.problem.value}: {seen.handshake.detail}"
    if seen.tls is None:
        return "no STARTTLS"
    try:
        names = dns_names(seen.tls.chain[0]) if seen.tls.chain else ()
    except CertificateSyntaxError:
        names = ()
    offers = ", REQUIRETLS offered" if seen.requiretls_offered else ""
    return (
        f"{seen.tls.version}, {seen.tls.cipher}, chain of {len(seen.tls.chain)}, "
        f"certificate for {', '.join(names) or 'no name'}{offers}"
    )


def _verdict(session: SessionExplained) -> str:
    verdict: Verdict | None = session.verdict
    if isinstance(verdict, Refuse):
        return f"mail would wait, {verdict.status}: {verdict.reason} (rule {verdict.rule.value})"
    if isinstance(verdict, Allow):
        found = f"; in enforce mode it would not: {verdict.would_refuse.reason}" if verdict.would_refuse else ""
        return f"mail would go out, TLS {verdict.tls.value} (rule {verdict.rule.value}){found}"
    return "mail would go on to the next address, or wait"


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
