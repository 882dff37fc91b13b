"""Whether mail of a From domain, sent by us, will pass DMARC: from what DNS says to a verdict and what to do. Pure.

A receiver lets mail pass when SPF passes for the envelope domain, or DKIM for that of a signature, and that domain is
aligned with the one in From. RFC 9989 sections 4.4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from relay.policy.dmarc import Dmarc, DmarcUnknown, NoDmarc
from relay.policy.spf import Spf, SpfResult


class Kind(Enum):
    """What will become of the mail; the value is what metrics call it."""

    PASSES = "passes"
    PARTLY = "partly"  # at some receivers, or from some of our addresses
    FAILS = "fails"
    NO_POLICY = "no-policy"  # the domain has no DMARC record, and the mail is proven by SPF or DKIM
    UNPROVEN = "unproven"  # the domain has no DMARC record, and neither SPF nor DKIM would pass
    UNKNOWN = "unknown"
    SIGNED_BY_SENDER = "signed-by-sender"  # it came with a signature that is aligned


WARNED = (Kind.PARTLY, Kind.FAILS, Kind.UNPROVEN)


class KeyState(Enum):
    """Whether DNS has a key that will sign."""

    MATCHES = "matches"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KeySeen:
    """A key that signs mail of the From domain, and what DNS says of it, in words.

    `house`: the organizational domain of `domain`; None: not known. `weak`: why it does not count everywhere.
    """

    domain: str
    selector: str
    algorithm: str
    state: KeyState
    words: str
    remedy: str | None = None
    house: str | None = None
    weak: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the verdict follows from. Domains in lower-case A-labels.

    `domain`: that of From. `envelope`: that of MAIL FROM, or our name in EHLO for the null sender. `envelope_house`:
    its organizational domain; None: not known. `spf`: by each of our addresses. `no_addresses`: why there is none,
    `hidden`: what is said of addresses that others cannot see us with.
    """

    domain: str
    envelope: str
    null_sender: bool
    dmarc: Dmarc | NoDmarc | DmarcUnknown
    envelope_house: str | None = None
    spf: tuple[tuple[str, Spf], ...] = ()
    no_addresses: str | None = None
    hidden: tuple[str, ...] = ()
    keys: tuple[KeySeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Alignment:
    """The verdict: `reason` in clauses for a person, `remedies` what to do, each enough by itself.

    `certain_loss`: receivers are asked to keep such mail from its readers.
    """

    kind: Kind
    reason: str
    remedies: tuple[str, ...] = ()
    certain_loss: bool = False


_SEE_DNS = "see whether the resolver answers, and whether the domain's own DNS servers do"


class _Aligned(Enum):
    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


def is_aligned(dmarc: Dmarc | NoDmarc, domain: str) -> bool:
    """Whether a signature of `domain` counts for mail of this From domain, as far as names tell."""
    if isinstance(dmarc, NoDmarc) or dmarc.record.strict_dkim:
        return domain == dmarc.domain
    return f".{domain}".endswith(f".{dmarc.organizational}")


def judge(facts: Facts) -> Alignment:
    """The verdict."""
    if isinstance(facts.dmarc, DmarcUnknown):
        return Alignment(Kind.UNKNOWN, f"the DMARC record is not known: {facts.dmarc.reason}", (_SEE_DNS,))
    by_spf, by_dkim = _by_spf(facts), _by_dkim(facts)
    proofs = " and ".join(one.name for one in (by_spf, by_dkim) if one.passes)
    if by_spf.passes or by_dkim.passes:
        kind = Kind.NO_POLICY if isinstance(facts.dmarc, NoDmarc) else Kind.PASSES
        return Alignment(kind, f"{proofs} will pass")
    if by_spf.sometimes or by_dkim.sometimes:
        kind = Kind.NO_POLICY if isinstance(facts.dmarc, NoDmarc) else Kind.PARTLY
        return Alignment(kind, _reasons(by_spf, by_dkim), (*by_spf.remedies, *by_dkim.remedies))
    reason, remedies = _reasons(by_spf, by_dkim), (*by_spf.remedies, *by_dkim.remedies)
    if by_spf.in_doubt or by_dkim.in_doubt:
        return Alignment(Kind.UNKNOWN, reason, remedies)
    if isinstance(facts.dmarc, NoDmarc):
        return Alignment(Kind.UNPROVEN, f"there is no DMARC record; {reason}", remedies)
    return Alignment(
        Kind.FAILS, reason, remedies, certain_loss=facts.dmarc.enforced and not _passes_by_old_rules(facts)
    )


def _passes_by_old_rules(facts: Facts) -> bool:
    """Whether receivers with a list of public suffixes (RFC 7489 section 3.2) may see one house where we see two."""
    proven = [key.domain for key in facts.keys if key.state is not KeyState.DIFFERS and not _strict(facts, dkim=True)]
    if any(spf.result is SpfResult.PASS for _, spf in facts.spf) and not _strict(facts, dkim=False):
        proven.append(facts.envelope)
    parents = {".".join(facts.domain.split(".")[at:]) for at in range(len(facts.domain.split(".")) - 1)}
    return any(f".{domain}".endswith(f".{parent}") for domain in proven for parent in parents)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What one of the two ways comes to: always, at times, perhaps; if none of these, never."""

    name: str
    reason: str
    passes: bool = False
    sometimes: bool = False
    in_doubt: bool = False
    remedies: tuple[str, ...] = ()


def _reasons(by_spf: _Proof, by_dkim: _Proof) -> str:
    return f"SPF: {by_spf.reason}; DKIM: {by_dkim.reason}"


def _by_spf(facts: Facts) -> _Proof:
    aligned = _aligned(facts, facts.envelope, facts.envelope_house, strict=_strict(facts, dkim=False))
    if aligned is _Aligned.NO:
        return _Proof("SPF", _apart(facts), remedies=tuple(_use_the_domain(facts)))
    if facts.no_addresses is not None:
        return _Proof("SPF", facts.no_addresses, in_doubt=True, remedies=("set delivery.public_addresses",))
    good = [address for address, spf in facts.spf if spf.result is SpfResult.PASS]
    doubts = [_doubt(spf) for _, spf in facts.spf if _is_in_doubt(spf)]
    bad = [(address, spf) for address, spf in facts.spf if spf.result is not SpfResult.PASS and not _is_in_doubt(spf)]
    if aligned is _Aligned.UNKNOWN:
        return _Proof("SPF", f"whether {facts.envelope} belongs to {facts.domain} is not known", in_doubt=True)
    if doubts:
        return _Proof("SPF", "; ".join(dict.fromkeys(doubts)), in_doubt=True)
    if good and not bad:
        return _Proof("SPF", f"passes for {', '.join(good)}", passes=True)
    reason = "; ".join(f"{address}: {spf.result.value}, {spf.reason}" for address, spf in bad)
    return _Proof("SPF", reason, sometimes=bool(good), remedies=tuple(_publish(facts, bad)))


def _is_in_doubt(spf: Spf) -> bool:
    return spf.result is SpfResult.TEMPERROR or (spf.by_mailbox and spf.result is not SpfResult.PASS)


def _doubt(spf: Spf) -> str:
    return (
        spf.reason if spf.result is SpfResult.TEMPERROR else f"it depends on the mailbox of the sender ({spf.reason})"
    )


def _apart(facts: Facts) -> str:
    if facts.null_sender:
        return f"a message without a sender is judged by our name, {facts.envelope}, which is not of {facts.domain}"
    how = "is not" if _strict(facts, dkim=False) else "does not belong to"
    return f"the envelope domain {facts.envelope} {how} {facts.domain}"


def _use_the_domain(facts: Facts) -> Iterator[str]:
    if not facts.null_sender:
        yield f"send with an envelope sender in {facts.domain} that SPF lets pass"


def _publish(facts: Facts, bad: Iterable[tuple[str, Spf]]) -> Iterator[str]:
    results = {spf.result for _, spf in bad}
    terms = " ".join(f"ip{ip_address(address).version}:{address}" for address, _ in bad)
    domain = facts.envelope
    if SpfResult.PERMERROR in results:
        yield f"mend the SPF record of {domain}"
    elif results == {SpfResult.NONE}:
        yield f'publish SPF of {domain}, a TXT record "v=spf1 {terms} ~all"'
    else:
        yield f"add {terms} to the SPF record of {domain}"


def _by_dkim(facts: Facts) -> _Proof:
    make = f"make a key: relay dkim keygen --domain {facts.domain}"
    if not facts.keys:
        return _Proof("DKIM", f"no key signs for {facts.domain}", remedies=(make,))
    strict = _strict(facts, dkim=True)
    aligned = [(key, _aligned(facts, key.domain, key.house, strict=strict)) for key in facts.keys]
    near = [key for key, how in aligned if how is _Aligned.YES]
    good = [key for key in near if key.state is KeyState.MATCHES]
    if any(key.weak is None for key in good):
        return _Proof("DKIM", "passes", passes=True)
    if good:
        weak = "; ".join(f"{key.selector}: {key.weak}" for key in good)
        remedies = tuple(dict.fromkeys(key.remedy or f"{make}, of RSA" for key in good))
        return _Proof("DKIM", weak, sometimes=True, remedies=remedies)
    doubts = [key.words for key in near if key.state is KeyState.UNKNOWN]
    if any(how is _Aligned.UNKNOWN for _, how in aligned):
        doubts.append(f"whether the keys belong to {facts.domain} is not known")
    if doubts:
        return _Proof("DKIM", "; ".join(doubts), in_doubt=True)
    if not near:
        key = facts.keys[0]
        return _Proof("DKIM", f"the key of {key.domain} is not aligned with {facts.domain}", remedies=(make,))
    words = "; ".join(f"{key.selector}._domainkey.{key.domain}: {key.words}" for key in near)
    remedies = tuple(dict.fromkeys(key.remedy for key in near if key.remedy is not None))
    return _Proof("DKIM", words, remedies=remedies)


def _strict(facts: Facts, *, dkim: bool) -> bool:
    if not isinstance(facts.dmarc, Dmarc):
        return False
    return facts.dmarc.record.strict_dkim if dkim else facts.dmarc.record.strict_spf


def _aligned(facts: Facts, domain: str, house: str | None, *, strict: bool) -> _Aligned:
    """RFC 9989 section 4.4: the same domain; or, unless strict, domains of one house.

    Without a DMARC record nobody asks, and any proof is one.
    """
    if domain == facts.domain or not isinstance(facts.dmarc, Dmarc):
        return _Aligned.YES
    if strict:
        return _Aligned.NO
    if house is None:
        return _Aligned.UNKNOWN
    return _Aligned.YES if house == facts.dmarc.organizational else _Aligned.NO
