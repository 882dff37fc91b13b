"""The order of hosts, and what a recipient is told when none of them took the message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.outcome import Deferred, Failed
from relay.mail.status import Kind, Reply, Status
from relay.policy.mx import DestinationLookupFailed, MxHost, conclude, nearer, order

DOWN = Deferred(Status(Kind.TEMPORARY, 4, 1), "connection refused", "mx1")
DOWN_TOO = Deferred(Status(Kind.TEMPORARY, 4, 1), "connection timed out", "mx2")
UNTRUSTED = Deferred(Status(Kind.TEMPORARY, 7, 5), "the certificate expired", "mx1")
UNLISTED = Deferred(Status(Kind.TEMPORARY, 4, 8), "not in the policy", "mx3")
BUSY = Deferred(Status(Kind.TEMPORARY, 3, 2), "busy", "mx1", Reply.of(451, ("4.3.2 busy",)))
GREYLISTED = Deferred(Status(Kind.TEMPORARY, 7, 1), "come again", "mx2", Reply.of(451, ("4.7.1 greylisted",)))
OVERLOADED = Deferred(Status(Kind.TEMPORARY, 3, 8), "overloaded", "mx2")
TOO_LARGE = Failed(Status(Kind.PERMANENT, 3, 4), "too large", "mx1")
NO_REQUIRETLS = Failed(Status(Kind.PERMANENT, 7, 30), "no REQUIRETLS", "mx2")


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ([DOWN], DOWN),
        ([DOWN, DOWN_TOO], DOWN),  # the most preferred host's
        ([DOWN, UNTRUSTED], UNTRUSTED),  # a policy tells more than a broken connection
        ([DOWN, UNLISTED], UNLISTED),
        ([UNTRUSTED, GREYLISTED], GREYLISTED),  # a server's own words tell most
        ([UNTRUSTED, BUSY], BUSY),
        ([BUSY, GREYLISTED], BUSY),  # of servers' words the most preferred host's, whatever they are about
        ([GREYLISTED, BUSY], GREYLISTED),
        ([UNLISTED, UNTRUSTED], UNLISTED),
        ([DOWN, OVERLOADED], DOWN),  # 4.4.1 and 4.3.8 are not a policy's
        ([TOO_LARGE], TOO_LARGE),
        ([TOO_LARGE, DOWN], DOWN),  # soft while another host may yet take it
        ([TOO_LARGE, NO_REQUIRETLS], NO_REQUIRETLS),
    ],
)
def test_conclude(notes: list[Deferred | Failed], told: Deferred | Failed) -> None:
    assert conclude(notes) is told


def test_nothing_to_conclude_from_is_a_defect() -> None:
    with pytest.raises(ValueError):
        conclude([])


def test_nothing_is_known_of_a_host_but_what_is_said() -> None:
    assert MxHost("mx.a.test") == MxHost(
        "mx.a.test", preference=0, mx_secure=False, addresses=(), expanded="", secure=False, alias_secure=False
    )
    assert not DestinationLookupFailed("a.test", "SERVFAIL").bogus


def test_every_host_needs_a_number() -> None:
    with pytest.raises(ValueError):
        order([MxHost("a"), MxHost("b")], [0.1])


def test_order_by_preference_then_by_chance() -> None:
    hosts = [MxHost("c", 20), MxHost("a", 10), MxHost("b", 10)]
    assert [host.name for host in order(hosts, [0.1, 0.9, 0.2])] == ["b", "a", "c"]
    assert [host.name for host in order(hosts, [0.1, 0.2, 0.9])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("own_name", "left"),
    [(None, "abcd"), ("x", "abcd"), ("a", ""), ("b", ""), ("c", "ab"), ("d", "abc")],
)
def test_only_hosts_that_are_nearer_than_we_are(own_name: str | None, left: str) -> None:
    """RFC 5321 section 5.1; those of our own preference are no better than we."""
    hosts = [MxHost("a", 10), MxHost("b", 10), MxHost("c", 20), MxHost("d", 30)]
    assert "".join(host.name for host in nearer(hosts, own_name)) == left


def test_of_two_places_in_the_list_the_better_is_ours() -> None:
    hosts = [MxHost("a", 10), MxHost("us", 20), MxHost("b", 30), MxHost("us", 40)]
    assert nearer(hosts, "us") == (MxHost("a", 10),)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=8))
def test_order_keeps_every_host_once_and_sorts(drawn: list[tuple[int, float]]) -> None:
    hosts = [MxHost(f"mx{index}", preference) for index, (preference, _) in enumerate(drawn)]
    ordered = order(hosts, [chance for _, chance in drawn])
    assert sorted(host.name for host in ordered) == sorted(host.name for host in hosts)
    assert [host.preference for host in ordered] == sorted(host.preference for host in hosts)
