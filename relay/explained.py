"""An explanation for people, to be pasted into a ticket, and for programs. Values in, text out.

What hosts say comes from strangers: it is cleaned of control characters.
"""

from __future__ import annotations

import json

from relay.policy import words
from relay.policy.explanation import Explanation, HostExplained, SessionExplained
from relay.policy.mx import MxHost
from relay.policy.verdict import Refuse, Requirement


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
            "dane": None if one.tlsa is None else words.of_tlsa(one.tlsa),
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
        "mta_sts": words.of_sts(found.sts, found.now),
        "problem": found.problem,
        "hosts": hosts,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False)


def page(found: Explanation) -> str:
    """Some lines for each host, in the order of trying."""
    lines = [f"{found.domain}, {found.now:%Y-%m-%d %H:%M:%S} UTC"]
    lines += [f"  {found.resolver}", f"  MTA-STS: {words.of_sts(found.sts, found.now)}"]
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
        lines.append(f"      DANE: {words.of_tlsa(one.tlsa)}")
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


def _seen(session: SessionExplained) -> str:
    return session.problem or "no session" if session.seen is None else words.of_session(session.seen)


def _verdict(session: SessionExplained) -> str:
    if session.verdict is None:
        return "mail would go on to the next address, or wait"
    return f"{words.of_verdict(session.verdict)} (rule {session.verdict.rule.value})"


def _need(need: Requirement | Refuse) -> str:
    return f"{words.of_requirement(need)} (rule {need.rule.value})"


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
