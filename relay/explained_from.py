"""Whether mail of a From domain will pass DMARC, for people and for programs. Values in, text out.

What DNS says comes from strangers: it is cleaned of control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from relay.explain_from import FromExplained
from relay.mail.duration import utc
from relay.policy.alignment import Facts, Kind
from relay.policy.dmarc import Dmarc, DmarcUnknown, NoDmarc
from relay.policy.spf import SpfResult
from relay.show import clean

_LABEL = 11  # columns
_NO_SPF = {SpfResult.NONE: "no record", SpfResult.TEMPERROR: "not known"}
_GOOD = (Kind.PASSES, Kind.NO_POLICY)


def exit_code(found: FromExplained) -> int:
    """0: it will pass, or nobody asks; 1: not, or not everywhere; 2: that is not known."""
    kind = found.found.kind
    return 0 if kind in _GOOD else 2 if kind is Kind.UNKNOWN else 1


def page(found: FromExplained) -> str:
    """Some lines, the verdict and what to do last."""
    facts = found.facts
    lines = [f"mail from {facts.domain}, {utc(found.now)}", "", _line("sender", _sender(facts))]
    lines += _spf(facts)
    lines += [_line("DKIM" if number == 0 else "", text) for number, text in enumerate(_dkim(found))]
    lines += [_line("DMARC", _dmarc(facts.dmarc))]
    lines += ["", _line("verdict", f"{found.found.kind.value}: {found.found.reason}")]
    lines += [_line("to do" if number == 0 else "or", text) for number, text in enumerate(found.found.remedies)]
    return "".join(f"{clean(line)}\n" for line in lines)


def _line(label: str, text: str) -> str:
    return f"{label:{_LABEL}} {text}"


def _sender(facts: Facts) -> str:
    if facts.null_sender:
        return f"none (a notice): SPF is that of our name, {facts.envelope}"
    house = facts.envelope_house
    of = f", of the house {house}" if house not in (None, facts.envelope) else ""
    return f"{facts.envelope}{of}"


def _spf(facts: Facts) -> Iterator[str]:
    if facts.no_addresses is not None:
        yield _line("SPF", facts.no_addresses)
    elif facts.spf:
        yield _line("SPF", facts.spf[0][1].record or _NO_SPF.get(facts.spf[0][1].result, "no record that can be used"))
    for address, spf in facts.spf:
        yield _line("", f"{address}: {spf.result.value}, {spf.reason}")
    for hidden in facts.hidden if facts.spf else ():
        yield _line("", f"{hidden}: not looked at")


def _dkim(found: FromExplained) -> Iterator[str]:
    for key in found.facts.keys:
        weak = f" ({key.weak})" if key.weak not in (None, key.words) else ""
        yield f"{key.selector}._domainkey.{key.domain}, {key.algorithm}: {key.words}{weak}"
    if not found.facts.keys:
        yield f"no key signs for {found.facts.domain}"
    yield from found.unusable_keys


def _dmarc(dmarc: Dmarc | NoDmarc | DmarcUnknown) -> str:
    match dmarc:
        case DmarcUnknown(reason):
            return f"not known: {reason}"
        case NoDmarc():
            return "no record"
        case Dmarc():
            strict = [name for name, is_strict in _modes(dmarc) if is_strict]
            modes = f"{' and '.join(strict)} strict" if strict else "relaxed"
            test = ", as a test" if dmarc.record.testing else ""
            asks = f"asks for {dmarc.request.value}{test}; {modes}, house {dmarc.organizational}"
            return f"{dmarc.record.text} (at _dmarc.{dmarc.at}): {asks}"


def _modes(dmarc: Dmarc) -> tuple[tuple[str, bool], ...]:
    return ("SPF", dmarc.record.strict_spf), ("DKIM", dmarc.record.strict_dkim)


def as_json(found: FromExplained) -> str:
    """One object; docs/alignment.md lists its fields. What is not known is null."""
    return json.dumps(_object(found), indent=2, ensure_ascii=False)


def _object(found: FromExplained) -> dict[str, object]:
    facts = found.facts
    return {
        "from": facts.domain,
        "time": found.now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "sender": None if facts.null_sender else facts.envelope,
        "spf": {
            "domain": facts.envelope,
            "organizational_domain": facts.envelope_house,
            "record": facts.spf[0][1].record if facts.spf else None,
            "addresses": [
                {"address": address, "result": spf.result.value, "reason": spf.reason} for address, spf in facts.spf
            ],
            "problem": facts.no_addresses,
            "not_seen": list(facts.hidden),
        },
        "dkim": [
            {
                "domain": key.domain,
                "selector": key.selector,
                "algorithm": key.algorithm,
                "dns": key.state.value,
                "text": key.words,
                "weak": key.weak,
            }
            for key in facts.keys
        ],
        "unusable_keys": list(found.unusable_keys),
        "dmarc": _dmarc_object(facts.dmarc),
        "verdict": found.found.kind.value,
        "reason": found.found.reason,
        "remedies": list(found.found.remedies),
    }


def _dmarc_object(dmarc: Dmarc | NoDmarc | DmarcUnknown) -> dict[str, object]:
    if not isinstance(dmarc, Dmarc):
        problem = dmarc.reason if isinstance(dmarc, DmarcUnknown) else None
        return {"record": None, "problem": problem}
    return {
        "record": dmarc.record.text,
        "problem": None,
        "at": dmarc.at,
        "organizational_domain": dmarc.organizational,
        "policy": dmarc.request.value,
        "testing": dmarc.record.testing,
        "strict_spf": dmarc.record.strict_spf,
        "strict_dkim": dmarc.record.strict_dkim,
    }
