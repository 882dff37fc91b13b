"""Destinations against the plain thing: a dictionary that is sorted each time."""

from __future__ import annotations

from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from relay.queue.destinations import Destinations, Place

DOMAINS = st.sampled_from(["a", "b", "c", "d"])
PLACES = st.tuples(st.integers(0, 6), st.integers(0, 2))
STEPS = st.one_of(
    st.tuples(st.just("note"), DOMAINS, PLACES),
    st.tuples(st.just("correct"), DOMAINS, st.none() | PLACES),
    st.tuples(st.just("load"), st.dictionaries(DOMAINS, PLACES)),
    st.tuples(st.just("look"), st.none() | st.integers(0, 7), st.sets(DOMAINS), st.integers(0, 4)),
)


def expected(model: dict[str, Place], until: int | None, skip: set[str]) -> list[tuple[Place, str]]:
    return sorted(
        (place, domain)
        for domain, place in model.items()
        if domain not in skip and (until is None or place[0] <= until)
    )


@given(st.lists(STEPS, max_size=200))
def test_it_gives_what_a_sorted_dictionary_gives(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    model: dict[str, Place] = {}
    destinations = Destinations()
    for name, *arguments in steps:
        match name, arguments:
            case "note", [domain, place]:
                destinations.note(domain, place)
                model[domain] = min(place, model.get(domain, place))
            case "correct", [domain, place]:
                destinations.correct(domain, place)
                model.pop(domain, None)
                if place is not None:
                    model[domain] = place
            case "load", [firsts]:
                destinations.load(firsts.items())
                model = dict(firsts)
            case "look", [until, skip, wanted]:
                # Looking, even when given up half way, changes nothing.
                with closing(destinations.in_order(until, skip)) as found:
                    assert [entry for entry, _ in zip(found, range(wanted), strict=False)] == (
                        expected(model, until, skip)[:wanted]
                    )
        assert list(destinations.in_order(None, ())) == expected(model, None, set())


def test_outdated_entries_do_not_pile_up() -> None:
    destinations = Destinations()
    for due in range(10_000):
        destinations.correct("a.example", (due, 1))
    assert list(destinations.in_order(None, ())) == [((9_999, 1), "a.example")]
    assert len(destinations._heap) < 200
