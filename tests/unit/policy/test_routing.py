"""Which way mail goes: which route takes it, what a destination stands for, and what moves to the fallback."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address, parse_address
from relay.mail.message import Claim, InlineBody, MessageId, Recipient, TlsDemand
from relay.mail.outcome import Cause, Deferred, Delivered, Dropped, Failed, Outcome, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.override import OverrideLevel
from relay.policy.retry import Schedule, Schedules, settle
from relay.policy.routing import (
    DIRECT,
    FALLBACK,
    NEXT_HOP,
    RESERVED_NAMES,
    Direct,
    Discard,
    Entry,
    Hop,
    Place,
    Reject,
    Routes,
    Unknown,
    parse_place,
)

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SMART = Place("smart.example.net", 587)
NEXT = Place("192.0.2.1", 25)
BACKUP = Place("backup.example.net", 25)


def hop(name: str) -> Hop:
    return Hop(name, (SMART,))


def to(*domains: str) -> Entry:
    return Entry("r", hop("r"), recipient_domains=domains)


def sent_by(*domains: str) -> Entry:
    return Entry("r", hop("r"), sender_domains=domains)


def under(*logins: str) -> Entry:
    return Entry("r", hop("r"), logins=logins)


NOTHING = Entry("r", hop("r"))
ALL_THREE = Entry("r", hop("r"), ("b.test", ".b.test"), ("a.test",), ("ann", "bob"))

# The route, whether it takes the mail, and of whom, to whom, and under which login it is.
MATCHES: list[tuple[Entry, bool, str, str, str | None]] = [
    (to("b.test"), True, "x@a.test", "y@b.test", None),
    (to("b.test"), True, "x@a.test", "y@B.TEST", None),
    (to("b.test"), True, "", "y@b.test", "ann"),
    (to("b.test"), False, "x@a.test", "y@sub.b.test", None),
    (to("b.test"), False, "x@a.test", "y@bb.test", None),
    (to("b.test"), False, "x@b.test", "y@a.test", None),
    (to("b.test"), False, "x@a.test", "b.test@c.test", None),
    (to(".b.test"), True, "x@a.test", "y@sub.b.test", None),
    (to(".b.test"), True, "x@a.test", "y@far.down.sub.b.test", None),
    (to(".b.test"), False, "x@a.test", "y@b.test", None),
    (to(".b.test"), False, "x@a.test", "y@ab.test", None),
    (to(".test"), True, "x@a.test", "y@b.test", None),
    (to("b.test", ".b.test"), True, "x@a.test", "y@b.test", None),
    (to("b.test", ".b.test"), True, "x@a.test", "y@sub.b.test", None),
    (to("xn--bcher-kva.test"), True, "x@a.test", "y@bücher.test", None),
    (to("*"), True, "x@a.test", "y@b.test", None),
    (to("*"), True, "", "y@b.test", None),
    (to("*"), True, "x@a.test", "y@[192.0.2.1]", None),
    (to("*"), True, "x@a.test", "y@[IPv6:2001:db8::1]", None),
    (to("*"), True, "x@a.test", "postmaster", None),
    (to("b.test"), False, "x@a.test", "postmaster", None),
    (to("b.test"), False, "x@a.test", "y@[192.0.2.1]", None),
    (to(".1"), False, "x@a.test", "y@[192.0.2.1]", None),
    (sent_by("a.test"), True, "x@a.test", "y@b.test", None),
    (sent_by("a.test"), True, "x@A.test", "y@b.test", None),
    (sent_by("a.test"), False, "x@b.test", "y@a.test", None),
    (sent_by("a.test"), False, "", "y@a.test", None),
    (sent_by(".a.test"), True, "x@sub.a.test", "y@b.test", None),
    (sent_by(".a.test"), False, "x@a.test", "y@b.test", None),
    (sent_by(".a.test"), False, "", "y@b.test", None),
    (sent_by("<>"), True, "", "y@b.test", None),
    (sent_by("<>"), False, "x@a.test", "y@b.test", None),
    (sent_by("a.test", "<>"), True, "", "y@b.test", None),
    (sent_by("a.test", "<>"), True, "x@a.test", "y@b.test", None),
    (sent_by("*"), True, "x@a.test", "y@b.test", None),
    (sent_by("*"), True, "", "y@b.test", None),
    (under("ann"), True, "x@a.test", "y@b.test", "ann"),
    (under("ann"), False, "x@a.test", "y@b.test", "bob"),
    (under("ann"), False, "x@a.test", "y@b.test", "Ann"),
    (under("ann"), False, "ann@ann", "ann@ann", None),
    (under("ann", "bob"), True, "x@a.test", "y@b.test", "bob"),
    (under("*"), True, "x@a.test", "y@b.test", "anybody"),
    (under("*"), False, "x@a.test", "y@b.test", None),
    (under("*"), True, "", "y@b.test", "*"),
    (NOTHING, False, "x@a.test", "y@b.test", "ann"),
    (NOTHING, False, "", "y@b.test", None),
    (ALL_THREE, True, "x@a.test", "y@b.test", "ann"),
    (ALL_THREE, True, "x@a.test", "y@sub.b.test", "bob"),
    (ALL_THREE, False, "x@sub.a.test", "y@b.test", "ann"),
    (ALL_THREE, False, "x@a.test", "y@c.test", "ann"),
    (ALL_THREE, False, "x@a.test", "y@b.test", None),
    (ALL_THREE, False, "", "y@b.test", "ann"),
]


def address(text: str) -> Address | None:
    return parse_address(text.encode()) if text else None


def recipient_of(text: str) -> Address:
    return parse_address(text.encode())


@pytest.mark.parametrize(("entry", "takes", "sender", "recipient", "login"), MATCHES)
def test_which_mail_a_route_takes(entry: Entry, takes: bool, sender: str, recipient: str, login: str | None) -> None:
    whom = recipient_of(recipient)
    found = Routes((entry,)).destination(address(sender), login, whom)
    assert found == ("route:r" if takes else whom.domain)


PARTNER = Entry("partner", hop("partner"), ("partner.test",))
OWN = Entry("own", Direct(), ("own.test",))
SPAM = Entry("spam", Discard("spam"), ("spam.test",))
SHUT = Entry("shut", Reject("shut", "not from here"), ("shut.test",))
MARKETING = Entry("marketing", hop("marketing"), (), ("news.test",))
EVERYTHING = Entry("everything", hop("everything"), ("*",))
LADDER = (OWN, PARTNER, SPAM, SHUT, MARKETING, EVERYTHING)

ORDER: list[tuple[tuple[Entry, ...], Place | None, str, str, str]] = [
    (LADDER, None, "x@a.test", "y@own.test", "own.test"),
    (LADDER, None, "x@news.test", "y@own.test", "own.test"),
    (LADDER, None, "x@a.test", "y@partner.test", "route:partner"),
    (LADDER, None, "x@news.test", "y@partner.test", "route:partner"),
    (LADDER[::-1], None, "x@news.test", "y@partner.test", "route:everything"),
    (LADDER, None, "x@a.test", "y@spam.test", "route:spam"),
    (LADDER, None, "x@a.test", "y@shut.test", "route:shut"),
    (LADDER, None, "x@news.test", "y@b.test", "route:marketing"),
    (LADDER, None, "x@a.test", "y@b.test", "route:everything"),
    (LADDER, NEXT, "x@a.test", "y@b.test", "route:everything"),
    (LADDER[:-1], NEXT, "x@a.test", "y@b.test", "route:next-hop"),
    (LADDER[:-1], None, "x@a.test", "y@b.test", "b.test"),
    (LADDER, NEXT, "x@a.test", "y@own.test", "own.test"),
    ((), None, "x@a.test", "y@b.test", "b.test"),
    ((), NEXT, "x@a.test", "y@b.test", "route:next-hop"),
    ((), None, "x@a.test", "y@[192.0.2.1]", "[192.0.2.1]"),
    ((), NEXT, "x@a.test", "y@[192.0.2.1]", "route:next-hop"),
    ((NOTHING,), NEXT, "x@a.test", "y@b.test", "route:next-hop"),
]


@pytest.mark.parametrize(("entries", "next_hop", "sender", "recipient", "destination"), ORDER)
def test_the_first_that_fits_takes_it(
    entries: tuple[Entry, ...], next_hop: Place | None, sender: str, recipient: str, destination: str
) -> None:
    assert Routes(entries, next_hop).destination(address(sender), None, recipient_of(recipient)) == destination


CHOSEN = [
    ("direct", "partner.test"),
    ("everything", "route:everything"),
    ("next-hop", "route:next-hop"),
    ("fallback", "route:fallback"),
    ("gone", "route:gone"),
    ("192.0.2.9:2525", "route:192.0.2.9:2525"),
]


@pytest.mark.parametrize(("chosen", "destination"), CHOSEN)
def test_what_was_chosen_counts_whatever_the_settings_say(chosen: str, destination: str) -> None:
    assert Routes(LADDER, NEXT).destination(None, None, recipient_of("y@partner.test"), chosen) == destination


ROUTES = Routes(LADDER, NEXT, BACKUP)
WAYS = [
    ("b.test", Direct()),
    ("", Direct()),
    ("[192.0.2.1]", Direct()),
    ("[IPv6:2001:db8::1]", Direct()),
    ("route:partner", PARTNER.way),
    ("route:own", Direct()),
    ("route:spam", Discard("spam")),
    ("route:shut", Reject("shut", "not from here")),
    ("route:next-hop", Hop("next-hop", (NEXT,))),
    ("route:fallback", Hop("fallback", (BACKUP,))),
    ("route:gone", Unknown("gone")),
    ("route:", Unknown("")),
    ("route:direct", Unknown("direct")),
    ("route:192.0.2.9:2525", Hop("192.0.2.9:2525", (Place("192.0.2.9", 2525),))),
    ("route:Smart.Example.:25", Hop("Smart.Example.:25", (Place("smart.example", 25),))),
    ("route:[2001:DB8::1]:25", Hop("[2001:DB8::1]:25", (Place("2001:db8::1", 25),))),
    ("route:smart.example:70000", Unknown("smart.example:70000")),
]


@pytest.mark.parametrize(("destination", "way"), WAYS)
def test_what_a_destination_stands_for(destination: str, way: object) -> None:
    assert ROUTES.way(destination) == way


def test_without_next_hop_and_fallback_their_names_are_unknown() -> None:
    assert Routes().way("route:next-hop") == Unknown("next-hop")
    assert Routes().way("route:fallback") == Unknown("fallback")


def test_every_destination_that_is_given_out_is_understood() -> None:
    for recipient in ("y@own.test", "y@partner.test", "y@spam.test", "y@shut.test", "y@b.test", "y@[192.0.2.1]"):
        assert not isinstance(ROUTES.way(ROUTES.destination(None, None, recipient_of(recipient))), Unknown)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("smart.example:25", Place("smart.example", 25)),
        ("192.0.2.1:65535", Place("192.0.2.1", 65535)),
        ("[::1]:1", Place("::1", 1)),
        ("bücher.example:25", Place("xn--bcher-kva.example", 25)),
        ("smart.example", None),
        ("smart.example:", None),
        ("smart.example:0", None),
        ("smart.example:65536", None),
        ("[abc]:25", None),
        ("smart.example:x", None),
        ("::1:25", None),
        ("[192.0.2.1]:25", Place("192.0.2.1", 25)),
        ("[smart.example]:25", None),
        ("[::g]:25", None),
        ("192.0.2:25", None),
        ("a b:25", None),
        (":25", None),
    ],
)
def test_places(text: str, place: Place | None) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place("smart.example", 25), "smart.example:25"),
        (Place("192.0.2.1", 587), "192.0.2.1:587"),
        (Place("2001:db8::1", 25), "[2001:db8::1]:25"),
    ],
)
def test_a_place_in_words(place: Place, text: str) -> None:
    assert str(place) == text


def test_the_names_that_no_route_of_the_settings_may_have() -> None:
    assert set(RESERVED_NAMES) == {DIRECT, NEXT_HOP, FALLBACK} == {"direct", "next-hop", "fallback"}


def test_the_hops_are_the_ways_to_hosts() -> None:
    assert [one.name for one in ROUTES.hops] == ["partner", "marketing", "everything", "next-hop", "fallback"]
    assert not any(one.mx for one in ROUTES.hops)


@given(st.builds(Place, st.sampled_from(["smart.example", "192.0.2.1", "2001:db8::1"]), st.integers(1, 65535)))
def test_a_place_comes_back_from_its_text(place: Place) -> None:
    assert parse_place(str(place)) == place


@given(st.text(st.sampled_from("abc019.:[]-_ é\n"), max_size=12))
def test_any_text_is_a_place_or_none(text: str) -> None:
    place = parse_place(text)
    assert place is None or parse_place(str(place)) == place


def test_a_rejecting_route_says_what_the_client_is_told() -> None:
    assert ROUTES.refusal(None, None, recipient_of("y@shut.test")) == "not from here"
    for other in ("y@own.test", "y@spam.test", "y@b.test"):
        assert ROUTES.refusal(None, None, recipient_of(other)) is None


LATER = Status(Kind.TEMPORARY, 4, 1)
KEPT_BACK = Status(Kind.TEMPORARY, 7, 5)


def said(words: str) -> Reply:
    return Reply.of(450, (words,))


REPLY = said("4.7.1 come again")
OUTAGE = Deferred(LATER, "no connection", cause=Cause.OUTAGE)

# What moves after the third attempt.
MOVED: list[tuple[str, bool, Outcome]] = [
    ("nobody answers", True, OUTAGE),
    ("the host says later", True, Deferred(LATER, "later", reply=REPLY)),
    ("the host says later, with a code of policies", True, Deferred(KEPT_BACK, "later", reply=said("4.7.5 later"))),
    ("the host says later, for our reputation", True, Deferred(LATER, "later", reply=said("4.7.1 blocked: spamhaus"))),
    ("DNS does not answer", True, Deferred(Status(Kind.TEMPORARY, 4, 3), "no answer", cause=Cause.DNS)),
    ("throttled", True, Deferred(LATER, "slow down", reply=REPLY, cause=Cause.THROTTLING)),
    ("a policy", False, Deferred(KEPT_BACK, "not verified", cause=Cause.TLS_POLICY)),
    ("a policy, no cause given", False, Deferred(KEPT_BACK, "not verified")),
    ("a policy, by its cause alone", False, Deferred(LATER, "x", cause=Cause.TLS_POLICY)),
    ("DNSSEC is broken", False, Deferred(KEPT_BACK, "bogus", cause=Cause.DNS)),
    ("not in the MTA-STS policy", False, Deferred(Status(Kind.TEMPORARY, 4, 8), "not listed")),
    ("this machine", False, Deferred(Status(Kind.TEMPORARY, 3, 0), "no files", cause=Cause.LOCAL)),
    ("it may have arrived", False, Deferred(Status(Kind.TEMPORARY, 4, 2), "lost", cause=Cause.UNKNOWN)),
    ("the mailbox is full", False, Deferred(Status(Kind.TEMPORARY, 2, 2), "full", reply=said("4.2.2 mailbox full"))),
    ("failed", False, Failed(Status(Kind.PERMANENT, 1, 1), "no such user")),
    ("delivered", False, Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("OK",)), "h", TlsUsed.NONE)),
    ("dropped", False, Dropped("by a route")),
]


def claim(destination: str = "b.test", attempts: int = 3, demand: TlsDemand = TlsDemand.DEFAULT) -> Claim:
    whom = Recipient(0, recipient_of("y@b.test"), attempts)
    body = InlineBody(b"")
    return Claim(MessageId(1), None, destination, (whom,), body, NOW, 1, NOW + timedelta(hours=1), demand=demand)


def moved(routes: Routes, one: Claim, outcome: Outcome) -> str | None:
    return routes.moved(one, one.recipients[0], outcome)


@pytest.mark.parametrize(("moves", "outcome"), [row[1:] for row in MOVED], ids=[row[0] for row in MOVED])
def test_what_moves_to_the_fallback(moves: bool, outcome: Outcome) -> None:
    routes = Routes(fallback=BACKUP)
    assert moved(routes, claim(), outcome) == ("fallback" if moves else None)
    assert moved(Routes(), claim(), outcome) is None
    assert moved(routes, claim(attempts=2), outcome) is None
    assert moved(Routes(fallback=BACKUP, fallback_after=4), claim(), outcome) is None
    for other in ("route:fallback", "route:partner", "route:gone", "route:192.0.2.1:25"):
        assert moved(routes, claim(other), outcome) is None


def test_what_moves_is_tried_at_once_and_the_rest_stays_as_it_was() -> None:
    whom = [Recipient(index, recipient_of(f"{index}@b.test"), attempts) for index, attempts in enumerate((3, 2, 3, 3))]
    kept_back, dropped = Deferred(KEPT_BACK, "not verified"), Dropped("by a route")
    outcomes: dict[int, Outcome] = {0: OUTAGE, 1: OUTAGE, 2: kept_back, 3: dropped}
    one = replace(claim(), recipients=tuple(whom))
    schedules = Schedules(Schedule((timedelta(minutes=5),), timedelta(days=5)))
    settled = settle(one, outcomes, schedules, NOW, 0.5)
    found = Routes(fallback=BACKUP).with_fallback(one, settled, NOW, free=True)
    rule = "delivery.fallback_after = 3: to the route fallback"
    assert found.recipients[0] == replace(settled.recipients[0], route="fallback", next_attempt=NOW, rule=rule)
    assert found.recipients[1:] == settled.recipients[1:]
    assert Routes().with_fallback(one, settled, NOW, free=True) == settled


def test_mail_with_requiretls_does_not_move() -> None:
    """The fallback may not offer it, and then it would come back; where it is, it can still arrive."""
    assert moved(Routes(fallback=BACKUP), claim(demand=TlsDemand.REQUIRED), OUTAGE) is None
    assert moved(Routes(fallback=BACKUP), claim(demand=TlsDemand.WAIVED), OUTAGE) == "fallback"


def test_the_fallback_may_be_a_route_of_the_settings() -> None:
    """One that names no mail takes this mail alone."""
    login = Hop("backup", (BACKUP,), tls=OverrideLevel.VERIFY, user="us")
    routes = Routes((Entry("backup", login),), fallback="backup")
    assert routes.destination(None, None, recipient_of("y@b.test")) == "b.test"
    chosen = moved(routes, claim(), OUTAGE)
    assert chosen == "backup"
    assert routes.way(routes.destination(None, None, recipient_of("y@b.test"), chosen)) == login


DOMAINS = st.sampled_from(["a.test", ".a.test", "b.test", "*", ".test"])
ENTRIES = st.builds(
    Entry,
    st.just("r"),
    st.just(hop("r")),
    st.lists(DOMAINS, max_size=2).map(tuple),
    st.lists(DOMAINS | st.just("<>"), max_size=2).map(tuple),
    st.lists(st.sampled_from(["ann", "*"]), max_size=1).map(tuple),
)


@given(
    st.lists(ENTRIES, max_size=4),
    st.sampled_from([None, "x@a.test", "x@sub.a.test", "x@b.test"]),
    st.sampled_from([None, "ann", "bob"]),
    st.sampled_from(["y@a.test", "y@sub.a.test", "y@b.test", "y@[192.0.2.1]"]),
)
def test_a_longer_list_only_takes_more(
    entries: list[Entry], sender: str | None, login: str | None, recipient: str
) -> None:
    """What one list takes, no route put behind it changes."""
    whom, source = recipient_of(recipient), address(sender or "")
    named = [replace(entry, name=f"r{number}", way=hop(f"r{number}")) for number, entry in enumerate(entries)]
    found = [Routes(tuple(named[:length])).destination(source, login, whom) for length in range(len(named) + 1)]
    taken = [one for one in found if one != whom.domain]
    assert found[0] == whom.domain
    assert len(set(taken)) <= 1
    assert found == [whom.domain] * (len(found) - len(taken)) + taken


def test_hosts_of_which_something_is_required_keep_their_mail() -> None:
    """Who blocks the way to them would have the mail go by the fallback, where nobody asks for their policy."""
    one = claim()
    settled = settle(one, {0: OUTAGE}, Schedules(Schedule((timedelta(minutes=5),), timedelta(days=5))), NOW, 0.5)
    assert Routes(fallback=BACKUP).with_fallback(one, settled, NOW, free=False) == settled
