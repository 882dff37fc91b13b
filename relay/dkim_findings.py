"""What `relay check` and `relay dkim check` say of the keys that sign mail: facts in, findings out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from relay.finding import Finding, fail, ok, warn
from relay.lookup.dkim import Checked
from relay.lookup.resolver import LookupFailed
from relay.policy.clients import ANY
from relay.policy.dkim_match import Comparison, in_words, is_match, may_verify, what_to_do
from relay.settings import ClientSettings
from relay.signing.keys import GOOD_RSA_BITS, SigningKey

SUBJECT = "dkim"
NOT_KNOWN = "not-known"
_INSIDE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def keys(checked: Sequence[Checked], unusable: Sequence[str] = ()) -> list[Finding]:
    """A finding for each key, and for each file of no use (`unusable`: why), with which the service does not start.

    Without its record DMARC may have all mail of the key's domain refused: that is a failure too.
    """
    remedy = "mend it; `relay dkim keygen` makes a key; the service's user must be able to read it"
    found = [*(fail(SUBJECT, reason, remedy) for reason in unusable), *map(_of, checked)]
    return found or [ok(SUBJECT, "no key is set: mail is not signed")]


def exposed(file: Path) -> Finding:
    """A key that every user of this machine can read, and so sign with."""
    return warn(SUBJECT, f"every user of this machine can read the key in {file}", f"chmod o= {file}")


def short(keys: Iterable[SigningKey]) -> list[Finding]:
    """Those that will be too short some day, or are so already for some."""
    few = f"and some receivers take none below {GOOD_RSA_BITS}"
    remedy = "make a new one with `relay dkim keygen`"
    return [
        warn(SUBJECT, f"{key.record_name}: an RSA key of {key.bits} bits, {few}", remedy)
        for key in keys
        if key.is_short
    ]


def any_author(clients: Iterable[ClientSettings], keys: Iterable[SigningKey]) -> list[Finding]:
    """Clients that are held to some senders, but not to authors: DMARC passes for whatever their From names."""
    found = []
    for client in clients:
        if not client.senders or client.header_from or ANY in client.senders:
            continue
        domains = dict.fromkeys(key.domain for key in keys if key.domain not in client.senders)
        if domains:
            text = f"the client {client.name} may name anyone in From, and is signed for as {', '.join(domains)}"
            found.append(warn(SUBJECT, text, "give it header_from, as it has senders"))
    return found


def as_json(checked: Sequence[Checked]) -> str:
    """A list of objects, in the order of the settings. `remedy` is null where all is well."""
    listed = []
    for one in checked:
        finding = _of(one)
        listed.append(
            {
                "domain": one.key.domain,
                "selector": one.key.selector,
                "name": one.key.record_name,
                "result": _name(one.found),
                "level": finding.level.value,
                "text": _text(one.found),
                "remedy": finding.remedy,
            }
        )
    return json.dumps(listed, indent=2, ensure_ascii=False)


def exit_code(checked: Sequence[Checked]) -> int:
    """0: DNS has every key; 1: it has not; 2: of those that could be asked for it has all."""
    known = [one.found for one in checked if not isinstance(one.found, LookupFailed)]
    if not all(map(is_match, known)):
        return 1
    return 0 if len(known) == len(checked) else 2


def _of(one: Checked) -> Finding:
    text = f"{one.key.record_name}: {_text(one.found)}"
    if isinstance(one.found, LookupFailed):
        return warn(SUBJECT, text, "see whether the resolver answers, and whether the domain's own DNS servers do")
    remedy = what_to_do(one.found, one.key.domain, one.key.selector)
    if remedy is None:
        return ok(SUBJECT, text)
    return (warn if may_verify(one.found) else fail)(SUBJECT, text, remedy)


def _text(found: Comparison | LookupFailed) -> str:
    return f"what DNS has is not known: {found.reason}" if isinstance(found, LookupFailed) else in_words(found)


def _name(found: Comparison | LookupFailed) -> str:
    """For programs: matches, trial, other-key, not-known and so on."""
    return NOT_KNOWN if isinstance(found, LookupFailed) else _INSIDE.sub("-", type(found).__name__).lower()
