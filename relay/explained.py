"""An explanation for people, to be pasted into a ticket, and for programs. Values in, text out.

What hosts say comes from strangers: it is cleaned of control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from relay.mail.duration import utc
from relay.policy import words
from relay.policy.certificate import CertificateSyntaxError, dns_names
from relay.policy.chain import described
from relay.policy.explanation import Explanation, HostExplained, SessionExplained
from relay.policy.mx import MxHost
from relay.policy.requirement import Refuse, Requirement
from relay.policy.sts import StsFound
from relay.policy.tlsa import NoTlsa
from relay.policy.verdict import Allow, Verdict
from relay.show import clean

_LABEL = 11  # columns
_NOT_BELIEVED = "NOT believed, so DANE is off"


def page(found: Explanation) -> str:
    """Some lines for the domain, and for each host in the order of trying."""
    lines = [f"{found.domain}, {utc(found.now)}", ""]
    lines += [_line(0, "DNSSEC", f"{'believed' if found.dnssec else _NOT_BELIEVED}: {found.dnssec_reason}")]
    number = 0
    for way in (found, *found.more):
        lines += ["", *_way(way)] if number else _way(way)
        for one in way.hosts:
            number += 1
            lines += ["", f"{number}. {one.host.name}, {_place(one.host, way)}", *_host(one, way)]
    if number and not found.connected:
        lines += ["", "No host was called; --connect calls each of them, and sends nothing."]
    return "".join(f"{clean(line)}\n" for line in lines)


def _line(depth: int, label: str, text: str) -> str:
    return f"{' ' * depth}{label:{_LABEL}} {text}"


def _way(found: Explanation) -> Iterator[str]:
    if found.route is not None:
        policies = f"; the policies of {found.policy_domain} hold" if found.hosts else ""
        yield _line(0, "route", f"{found.route}{policies}")
    if found.route is None or found.hosts:
        yield _line(0, "MTA-STS", f"{words.of_sts(found.sts.found, found.now)}{_source(found)}")
    if found.problem is not None:
        yield _line(0, "mail", f"{'waits' if found.problem.startswith('4') else 'goes nowhere'}: {found.problem}")
    elif not found.hosts:
        yield _line(0, "mail", "goes nowhere: there is no mail host")


def _source(found: Explanation) -> str:
    fetched = ""
    if isinstance(found.sts.found, StsFound):
        fetched = " (fetched just now)" if found.sts.fetched_now else " (from the cache)"
    if found.sts.last_failure is None:
        return fetched
    when, why = found.sts.last_failure
    return f"{fetched}; the last fetch, {words.in_words(found.now - when)} ago, failed: {why}"


def _place(host: MxHost, found: Explanation) -> str:
    port = "" if found.port == 25 else f", port {found.port}"
    if found.route is not None and host.name == found.policy_domain:
        return f"a host of the route{port}"
    if found.domain.startswith("["):
        return f"the address itself{port}"
    if host.name == found.policy_domain and not host.preference:
        return f"the domain itself{port}"
    return f"preference {host.preference}{port}"


def _host(one: HostExplained, found: Explanation) -> Iterator[str]:
    yield _line(3, "DNS", _signed(one.host))
    if one.problem is not None:
        yield _line(3, "problem", one.problem)
    if one.host.addresses:
        yield _line(3, "addresses", ", ".join(one.host.addresses))
    if one.tlsa is not None:
        yield _line(3, "DANE", words.of_tlsa(one.tlsa))
    if one.override is not None:
        yield _line(3, "override", words.of_override(one.override))
    if one.memory is not None:
        yield _line(3, "memory", words.of_memory(one.memory, found.now))
    if one.need is not None:
        yield _line(3, "required", words.of_requirement(one.need))
    reported = words.of_reported(one.need.reported) if isinstance(one.need, Requirement) else None
    if reported is not None:
        yield _line(3, "reported", f"{reported}; checked and told, never a reason to refuse")
    for session in one.sessions:
        yield ""
        yield f"   {session.address}"
        yield from _session(session)


def _signed(host: MxHost) -> str:
    states = [f"MX {'signed' if host.mx_secure else 'not signed'}"]
    if host.addresses:
        states.append(f"address {'signed' if host.secure else 'not signed'}")
    if host.expanded not in ("", host.name):
        zone = ", the name's own zone signed" if host.alias_secure and not host.secure else ""
        states.append(f"an alias of {host.expanded}{zone}")
    return ", ".join(states)


def _session(session: SessionExplained) -> Iterator[str]:
    if session.override is not None:
        yield _line(5, "override", words.of_override(session.override))
    if session.seen is None and session.verdict is not None:
        yield _line(5, "verdict", f"{words.of_verdict(session.verdict)} (rule {session.verdict.rule.value})")
        return
    if session.seen is None:
        yield _line(5, "problem", session.problem or "no session")
        yield _line(5, "verdict", "mail goes on to the next address or host, or waits")
        return
    if session.ehlo:
        yield _line(5, "EHLO", ", ".join(session.ehlo))
    tls = session.seen.tls or session.shown
    yield _line(
        5, "TLS", words.of_session(session.seen) if tls is None or session.shown else f"{tls.version}, {tls.cipher}"
    )
    for depth, certificate in enumerate(tls.chain if tls is not None else ()):
        yield _line(5, "chain" if depth == 0 else "", described(certificate))
        if depth == 0:
            yield _line(5, "names", ", ".join(_names(certificate)) or "none")
    if session.proof is not None:
        yield _line(5, "matched", session.proof)
    if session.verdict is not None:
        yield _line(5, "verdict", f"{words.of_verdict(session.verdict)} (rule {session.verdict.rule.value})")


def _names(certificate: bytes) -> tuple[str, ...]:
    try:
        return dns_names(certificate)
    except CertificateSyntaxError:
        return ()


def as_json(found: Explanation) -> str:
    """One object; docs/explain.md lists its fields. What is not known is null."""
    return json.dumps(_object(found), indent=2, ensure_ascii=False)


def _object(found: Explanation) -> dict[str, object]:
    failure = found.sts.last_failure
    return {
        "domain": found.domain,
        "time": _time(found),
        "dnssec": {"believed": found.dnssec, "reason": found.dnssec_reason},
        "route": found.route,
        "policy_domain": found.policy_domain,
        "mta_sts": {
            "text": words.of_sts(found.sts.found, found.now),
            "fetched_now": found.sts.fetched_now,
            "last_failure": None if failure is None else failure[1],
        },
        "problem": found.problem,
        "port": found.port,
        "hosts": [_host_object(one, found) for one in found.hosts],
        "more": [_object(one) for one in found.more],
    }


def _time(found: Explanation) -> str:
    return found.now.isoformat(timespec="seconds").replace("+00:00", "Z")


def _host_object(one: HostExplained, found: Explanation) -> dict[str, object]:
    need = one.need
    refusal = need if isinstance(need, Refuse) else None
    return {
        "name": one.host.name,
        "preference": one.host.preference,
        "mx_signed": one.host.mx_secure,
        "address_signed": one.host.secure,
        "alias_of": one.host.expanded if one.host.expanded not in ("", one.host.name) else None,
        "addresses": list(one.host.addresses),
        "problem": one.problem,
        "dane": None if one.tlsa is None else words.of_tlsa(one.tlsa),
        "dane_applies": one.tlsa is not None and not isinstance(one.tlsa, NoTlsa),
        "override": None if one.override is None else words.of_override(one.override),
        "memory": None if one.memory is None else words.of_memory(one.memory, found.now),
        "required": None if need is None else words.of_requirement(need),
        "reported": words.of_reported(need.reported) if isinstance(need, Requirement) else None,
        "rule": None if need is None else need.rule.value,
        "status": None if refusal is None else str(refusal.status),
        "sessions": [_session_object(session) for session in one.sessions],
    }


def _session_object(session: SessionExplained) -> dict[str, object]:
    seen = session.seen
    tls = seen.tls or session.shown if seen is not None else None
    return {
        "address": session.address,
        "problem": session.problem,
        "override": None if session.override is None else words.of_override(session.override),
        "ehlo": list(session.ehlo),
        "seen": None if seen is None else words.of_session(seen),
        "tls_version": None if tls is None else str(tls.version),
        "cipher": None if tls is None else tls.cipher,
        "chain": [] if tls is None else [described(certificate) for certificate in tls.chain],
        "names": [] if tls is None or not tls.chain else list(_names(tls.chain[0])),
        "matched": session.proof,
        **_verdict_object(session.verdict),
    }


def _verdict_object(verdict: Verdict | None) -> dict[str, object]:
    if verdict is None:
        return {"verdict": None, "allowed": None, "rule": None, "status": None, "tls": None}
    return {
        "verdict": words.of_verdict(verdict),
        "allowed": isinstance(verdict, Allow),
        "rule": verdict.rule.value,
        "status": None if isinstance(verdict, Allow) else str(verdict.status),
        "tls": verdict.tls.value if isinstance(verdict, Allow) else None,
    }
