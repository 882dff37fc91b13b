"""The issuer's keys: when they are fetched, how long they serve, and that nobody makes us hammer the issuer."""

from __future__ import annotations

import asyncio

import pytest
from token_issuer import jwk, jwks

from relay.submission.bearer import Key
from relay.submission.https import Answer
from relay.submission.jwks import IssuerKeys

pytestmark = pytest.mark.asyncio
OLD, NEW = jwks(jwk("Ed25519", "old")), jwks(jwk("Ed25519", "old"), jwk("P-256", "new"))
DAY = 86_400.0


class Issuer:
    """What is to be answered, how often it was asked, and the time."""

    def __init__(self, answer: Answer | str) -> None:
        self.answer = answer
        self.asked = 0
        self.now = 1000.0
        self.told: list[str | None] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.keys = IssuerKeys(self.fetch, lambda: self.now, self.told.append)

    async def fetch(self) -> Answer | str:
        self.asked += 1
        await self.may_answer.wait()
        return self.answer

    async def ids(self, id: str | None = "old") -> list[str | None] | None:
        found = await self.keys.having(id)
        return None if found is None else [key.id for key in found]


async def test_keys_are_kept_as_long_as_their_host_says() -> None:
    for max_age, seconds in ((None, 3600.0), (600, 600.0), (0, 300.0), (10 * 86_400, DAY)):
        issuer = Issuer(Answer(200, OLD, max_age))
        assert await issuer.ids() == ["old"]
        issuer.answer = Answer(200, NEW)
        issuer.now += seconds - 1
        assert await issuer.ids() == ["old"]
        assert issuer.asked == 1
        issuer.now += 1
        assert await issuer.ids() == ["old", "new"]
        assert (issuer.asked, issuer.told) == (2, [None, None])


async def test_an_unknown_key_is_looked_for_once_in_a_minute() -> None:
    issuer = Issuer(Answer(200, OLD))
    await issuer.ids()
    issuer.answer = Answer(200, NEW)
    for number in range(100):
        assert await issuer.ids(f"made-up-{number}") == ["old"]
    assert issuer.asked == 1
    issuer.now += 60
    assert await issuer.ids("new") == ["old", "new"]
    for number in range(100):
        await issuer.ids(f"made-up-{number}")
    assert issuer.asked == 2


BAD: list[tuple[Answer | str, str]] = [
    ("no connection to it could be made", "the issuer's keys could not be fetched: no connection to it could be made"),
    (Answer(503, OLD), "the issuer's keys could not be fetched: the answer was 503"),
    (Answer(302, OLD), "the issuer's keys could not be fetched: the answer was 302"),
    (Answer(200, b"<html>"), "the issuer shows no key that can be used"),
    (Answer(200, b'{"keys": []}'), "the issuer shows no key that can be used"),
    (Answer(200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'), "the issuer shows no key that can be used"),
]


@pytest.mark.parametrize(("answer", "reason"), BAD)
async def test_old_keys_serve_for_a_week_while_new_ones_cannot_be_had(answer: Answer | str, reason: str) -> None:
    issuer = Issuer(Answer(200, OLD))
    await issuer.ids()
    issuer.answer = answer
    issuer.now += 7 * DAY - 1
    assert await issuer.ids() == ["old"]
    assert issuer.told == [None, reason]
    issuer.now += 1
    assert await issuer.ids() is None
    assert issuer.asked == 2
    issuer.now += 60
    issuer.answer = Answer(200, NEW)
    assert await issuer.ids("new") == ["old", "new"]


@pytest.mark.parametrize(("answer", "reason"), BAD)
async def test_no_keys_from_the_beginning(answer: Answer | str, reason: str) -> None:
    issuer = Issuer(answer)
    for _ in range(100):
        assert await issuer.ids() is None
    assert (issuer.asked, issuer.told) == (1, [reason])


async def test_one_fetch_for_all_who_wait_even_when_the_first_of_them_leaves() -> None:
    issuer = Issuer(Answer(200, OLD))
    issuer.may_answer.clear()
    waiting = [asyncio.create_task(issuer.keys.having("old")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()
    issuer.may_answer.set()
    found: list[tuple[Key, ...] | None] = await asyncio.gather(*waiting[1:])
    assert all(keys is not None and [key.id for key in keys] == ["old"] for keys in found)
    assert waiting[0].cancelled()
    assert issuer.asked == 1


async def test_closing_gives_up_a_fetch() -> None:
    issuer = Issuer(Answer(200, OLD))
    issuer.may_answer.clear()
    waiting = asyncio.create_task(issuer.keys.having("old"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await issuer.keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await issuer.keys.close()
