"""From what DNS says to the verdict: will mail of this From domain pass DMARC, and what is to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.policy.alignment import Alignment, Facts, KeySeen, KeyState, Kind, is_aligned, judge
from relay.policy.dmarc import Dmarc, DmarcUnknown, NoDmarc, parse_record
from relay.policy.spf import Spf, SpfResult

V4, V6 = "192.0.2.1", "2001:db8::1"
NO_KEY = "DKIM: no key signs for example.org"
MAKE = "make a key: relay dkim keygen --domain example.org"


def dmarc(tags: str = "p=reject", house: str = "example.org") -> Dmarc:
    record = parse_record(f"v=DMARC1; {tags}".encode())
    assert record is not None
    return Dmarc("example.org", house, record, "example.org", record.request)


def spf(result: SpfResult, domain: str = "example.org", **more: bool) -> Spf:
    return Spf(result, domain, "because", None, **more)


def key(state: KeyState = KeyState.MATCHES, domain: str = "example.org", **more: str | None) -> KeySeen:
    return KeySeen(domain, "s1", "rsa-sha256", state, "words", **more)


PASS, FAIL, NONE, BAD = spf(SpfResult.PASS), spf(SpfResult.FAIL), spf(SpfResult.NONE), spf(SpfResult.PERMERROR)
LATE, BY_MAILBOX = spf(SpfResult.TEMPERROR), spf(SpfResult.FAIL, by_mailbox=True)
NOTHING = Facts("example.org", "example.org", False, dmarc(), spf=((V4, FAIL),))
APART = replace(NOTHING, envelope="bounce.test", envelope_house="bounce.test")
BELOW = replace(NOTHING, envelope="bounce.example.org", envelope_house="example.org", spf=((V4, PASS),))


@pytest.mark.parametrize(
    ("facts", "kind", "reason", "remedies"),
    [
        (replace(NOTHING, spf=((V4, PASS), (V6, PASS))), Kind.PASSES, "SPF will pass", ()),
        (replace(NOTHING, keys=(key(),)), Kind.PASSES, "DKIM will pass", ()),
        (replace(NOTHING, spf=((V4, PASS),), keys=(key(),)), Kind.PASSES, "SPF and DKIM will pass", ()),
        (replace(APART, keys=(key(KeyState.DIFFERS), key())), Kind.PASSES, "DKIM will pass", ()),
        (BELOW, Kind.PASSES, "SPF will pass", ()),
        (
            NOTHING,
            Kind.FAILS,
            f"SPF: {V4}: fail, because; {NO_KEY}",
            (f"add ip4:{V4} to the SPF record of example.org", MAKE),
        ),
        (
            replace(NOTHING, spf=((V4, NONE), (V6, NONE))),
            Kind.FAILS,
            f"SPF: {V4}: none, because; {V6}: none, because; {NO_KEY}",
            (f'publish SPF of example.org, a TXT record "v=spf1 ip4:{V4} ip6:{V6} ~all"', MAKE),
        ),
        (
            replace(NOTHING, spf=((V4, BAD),)),
            Kind.FAILS,
            f"SPF: {V4}: permerror, because; {NO_KEY}",
            ("mend the SPF record of example.org", MAKE),
        ),
        (
            replace(APART, spf=((V4, PASS),)),
            Kind.FAILS,
            f"SPF: the envelope domain bounce.test does not belong to example.org; {NO_KEY}",
            ("send with an envelope sender in example.org that SPF lets pass", MAKE),
        ),
        (
            replace(BELOW, dmarc=dmarc("p=reject; aspf=s")),
            Kind.FAILS,
            f"SPF: the envelope domain bounce.example.org is not example.org; {NO_KEY}",
            ("send with an envelope sender in example.org that SPF lets pass", MAKE),
        ),
        (
            replace(APART, envelope="mx.test", null_sender=True),
            Kind.FAILS,
            f"SPF: a message without a sender is judged by our name, mx.test, which is not of example.org; {NO_KEY}",
            (MAKE,),
        ),
        (
            replace(APART, keys=(key(KeyState.DIFFERS, remedy="do this"),)),
            Kind.FAILS,
            "SPF: the envelope domain bounce.test does not belong to example.org; "
            "DKIM: s1._domainkey.example.org: words",
            ("send with an envelope sender in example.org that SPF lets pass", "do this"),
        ),
        (
            replace(APART, dmarc=dmarc("p=reject; adkim=s"), keys=(key(domain="org", house="org"),)),
            Kind.FAILS,
            "SPF: the envelope domain bounce.test does not belong to example.org; "
            "DKIM: the key of org is not aligned with example.org",
            ("send with an envelope sender in example.org that SPF lets pass", MAKE),
        ),
        (
            replace(NOTHING, spf=((V4, PASS), (V6, FAIL))),
            Kind.PARTLY,
            f"SPF: {V6}: fail, because; {NO_KEY}",
            (f"add ip6:{V6} to the SPF record of example.org", MAKE),
        ),
        (
            replace(APART, keys=(key(weak="of Ed25519"),)),
            Kind.PARTLY,
            "SPF: the envelope domain bounce.test does not belong to example.org; DKIM: s1: of Ed25519",
            ("send with an envelope sender in example.org that SPF lets pass", f"{MAKE}, of RSA"),
        ),
        (replace(NOTHING, dmarc=NoDmarc("example.org"), keys=(key(),)), Kind.NO_POLICY, "DKIM will pass", ()),
        (replace(APART, dmarc=NoDmarc("example.org"), spf=((V4, PASS),)), Kind.NO_POLICY, "SPF will pass", ()),
        (
            replace(NOTHING, dmarc=NoDmarc("example.org")),
            Kind.UNPROVEN,
            f"there is no DMARC record; SPF: {V4}: fail, because; {NO_KEY}",
            (f"add ip4:{V4} to the SPF record of example.org", MAKE),
        ),
        (replace(NOTHING, spf=((V4, LATE),)), Kind.UNKNOWN, f"SPF: because; {NO_KEY}", (MAKE,)),
        (
            replace(NOTHING, spf=((V4, BY_MAILBOX),)),
            Kind.UNKNOWN,
            f"SPF: it depends on the mailbox of the sender (because); {NO_KEY}",
            (MAKE,),
        ),
        (
            replace(NOTHING, spf=(), no_addresses="no address"),
            Kind.UNKNOWN,
            f"SPF: no address; {NO_KEY}",
            ("set delivery.public_addresses", MAKE),
        ),
        (
            replace(BELOW, envelope_house=None),
            Kind.UNKNOWN,
            f"SPF: whether bounce.example.org belongs to example.org is not known; {NO_KEY}",
            (MAKE,),
        ),
        (
            replace(NOTHING, keys=(key(KeyState.UNKNOWN),)),
            Kind.UNKNOWN,
            f"SPF: {V4}: fail, because; DKIM: words",
            (f"add ip4:{V4} to the SPF record of example.org",),
        ),
        (
            replace(NOTHING, keys=(key(domain="org"),)),
            Kind.UNKNOWN,
            f"SPF: {V4}: fail, because; DKIM: whether the keys belong to example.org is not known",
            (f"add ip4:{V4} to the SPF record of example.org",),
        ),
        (
            replace(NOTHING, dmarc=DmarcUnknown("no answer")),
            Kind.UNKNOWN,
            "the DMARC record is not known: no answer",
            ("see whether the resolver answers, and whether the domain's own DNS servers do",),
        ),
    ],
)
def test_verdicts(facts: Facts, kind: Kind, reason: str, remedies: tuple[str, ...]) -> None:
    found = judge(facts)
    assert (found.kind, found.reason, found.remedies) == (kind, reason, remedies)
    assert found.certain_loss is (kind is Kind.FAILS)


@pytest.mark.parametrize("tags", ["p=none", "p=reject; t=y"])
def test_a_loss_that_nobody_asks_for(tags: str) -> None:
    found = judge(replace(NOTHING, dmarc=dmarc(tags)))
    assert found == replace(judge(NOTHING), certain_loss=False) and found.kind is Kind.FAILS


@pytest.mark.parametrize(
    ("facts", "certain"),
    [
        (replace(APART, spf=((V4, PASS),)), True),
        (replace(BELOW, envelope_house="bounce.example.org"), False),
        (replace(BELOW, envelope_house="bounce.example.org", spf=((V4, FAIL),)), True),
        (replace(BELOW, dmarc=dmarc("p=reject; aspf=s")), True),
        (replace(APART, domain="a.example.org", keys=(key(domain="example.org", house="other.test"),)), False),
        (replace(APART, domain="a.org", keys=(key(domain="org", house="org"),)), True),
    ],
)
def test_what_a_list_of_suffixes_may_see_otherwise_is_not_certain(facts: Facts, certain: bool) -> None:
    found = judge(facts)
    assert (found.kind, found.certain_loss) == (Kind.FAILS, certain)


def test_a_proof_is_never_lost_by_another() -> None:
    """Whatever else is so, mail with a good aligned key passes; it is the one law that must hold in a refusal."""
    for result in SpfResult:
        for envelope in (NOTHING, APART, BELOW):
            facts = replace(envelope, spf=((V4, spf(result)),), keys=(key(),))
            assert judge(facts).kind is Kind.PASSES
            assert isinstance(judge(facts), Alignment)


@pytest.mark.parametrize(
    ("policy", "domain", "aligned"),
    [
        (dmarc(), "example.org", True),
        (dmarc(), "mail.example.org", True),
        (dmarc(), "org", False),
        (dmarc(), "badexample.org", False),
        (dmarc("adkim=s"), "mail.example.org", False),
        (dmarc("adkim=s"), "example.org", True),
        (dmarc(house="org"), "org", True),
        (NoDmarc("example.org"), "mail.example.org", False),
        (NoDmarc("example.org"), "example.org", True),
    ],
)
def test_signatures_of_the_sender(policy: Dmarc | NoDmarc, domain: str, aligned: bool) -> None:
    assert is_aligned(policy, domain) is aligned
