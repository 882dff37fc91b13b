"""POST /v1/messages over real HTTP: the rules of SMTP, all recipients or none, and once for each key."""

from __future__ import annotations

import asyncio
import base64
import email
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from email.policy import SMTP
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from admin_peer import MAX_SIZE, NOW, Running, running
from json_schema import problems

from relay.admin import mail, openapi
from relay.admin.tokens import Scope, Tokens, add_token
from relay.events import AdminRefused, DefectFound, MessageAccepted, SubmissionRefused
from relay.mail.message import MessageDsn, Notify, RecipientDsn, Ret, SmtpUtf8
from relay.queue.store import StoreUnavailable
from relay.settings import Settings

pytestmark = pytest.mark.asyncio

DOCUMENT = openapi.document()
RAW = b"From: me@example.org\r\nTo: a@example.org, B <b@example.net>\r\nBcc: c@example.org\r\nSubject: x\r\n\r\nhi\r\n"
LETTER = {"from": "Me <me@example.org>", "to": ["a@example.org"], "subject": "Hi", "text": "hello\n"}


class Sender:
    """A client with a token of each scope."""

    def __init__(self, there: Running, tokens: Mapping[Scope, str], folder: Path) -> None:
        self.there = there
        self.folder = folder  # of the queue
        self.tokens = tokens

    async def raw(
        self, body: Any, kind: str, query: str = "", key: str | None = None, scope: Scope = Scope.SEND
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.tokens[scope]}", "Content-Type": kind}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://{self.there.address}/v1/messages{query}",
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(20),
            ) as response,
        ):
            found = await response.json()
            responses = DOCUMENT["paths"]["/v1/messages"]["post"]["responses"]
            schema = responses[str(response.status)]["content"]["application/json"]["schema"]
            assert list(problems(found, schema, DOCUMENT)) == []
            return response.status, found

    async def message(self, octets: Any = RAW, query: str = "", key: str | None = None) -> tuple[int, Any]:
        return await self.raw(octets, "message/rfc822", query, key)

    async def letter(self, key: str | None = None, **change: Any) -> tuple[int, Any]:
        return await self.raw(json.dumps({**LETTER, **change}).encode(), "application/json", key=key)

    async def stored(self) -> list[tuple[Any, tuple[str, ...], bytes]]:
        """Each message: a claim of it, its recipients, its octets without our Received line."""
        found: dict[Any, Any] = {}
        for claim in await self.there.store.claim(1000, timedelta(hours=1), NOW + timedelta(days=1), {}, 1000):
            octets = b"".join([chunk async for chunk in self.there.store.read(claim.body)])
            names = [(one.index, str(one.address)) for one in claim.recipients]
            found.setdefault(claim.id, (claim, [], octets))[1].extend(names)
        return [(claim, tuple(name for _, name in sorted(names)), octets) for claim, names, octets in found.values()]


@asynccontextmanager
async def sender(folder: Path, settings: Settings | None = None) -> AsyncIterator[Sender]:
    path = folder / "tokens"
    tokens = {scope: add_token(path, f"t-{scope.value}", scope) for scope in Scope}
    async with running(folder / "queue", Tokens.load(path), settings) as there:
        yield Sender(there, tokens, folder / "queue")


# who may send


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_only_a_token_to_send_sends(tmp_path: Path, scope: Scope) -> None:
    async with sender(tmp_path) as at:
        status, found = await at.raw(RAW, "message/rfc822", scope=scope)
        assert (status, found) == (403, {"error": f"the token t-{scope.value} may only {scope.value}"})
        assert await at.stored() == []
        assert len([event for event in at.there.events if isinstance(event, AdminRefused)]) == 1


async def test_a_token_to_send_does_nothing_else(tmp_path: Path) -> None:
    async with sender(tmp_path) as at, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {at.tokens[Scope.SEND]}"}
        for method, path in (("GET", "/v1/queue"), ("POST", "/v1/queue/actions"), ("GET", "/v1/openapi.json")):
            async with session.request(method, f"http://{at.there.address}{path}", headers=headers) as response:
                assert response.status == 403
                assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]
        async with session.get(f"http://{at.there.address}/v1/messages", headers=headers) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")


def tables(*clients: Mapping[str, Any]) -> Settings:
    return Settings.model_validate({"submission": {"trusted_networks": []}, "client": list(clients)})


async def test_a_table_for_users_must_fit_the_token_by_its_own_name(tmp_path: Path) -> None:
    """A user of the token's name is somebody else."""
    mine = {"name": "web", "users": ["token:t-send"], "recipients": ["example.org"], "senders": ["example.org"]}
    for folder, client, status in (
        ("1", mine, 201),
        ("2", {**mine, "users": ["t-send"]}, 403),
        ("3", {**mine, "listeners": ["submission"]}, 403),
        ("4", {**mine, "listeners": ["api"]}, 201),
        ("5", {**mine, "recipients": ["example.net"]}, 403),
        ("6", {**mine, "senders": ["example.net"]}, 403),
        ("7", {**mine, "header_from": ["example.net"]}, 403),
        ("8", {**mine, "max_message_size": "1k"}, 413),
    ):
        (tmp_path / folder).mkdir()
        async with sender(tmp_path / folder, tables(client)) as at:
            found = await at.letter(text="x\n" * 600)
            assert found[0] == status, (client, found)
            assert len(await at.stored()) == (status == 201)
            assert len([one for one in at.there.events if isinstance(one, SubmissionRefused)]) == (status != 201)


# a message as it is


async def test_a_message_is_in_the_queue_when_it_is_answered(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        status, found = await at.message()
        ((claim, recipients, octets),) = await at.stored()
        (accepted,) = [event for event in at.there.events if isinstance(event, MessageAccepted)]
    everybody = ("a@example.org", "b@example.net", "c@example.org")
    assert (status, found) == (201, {"id": str(claim.id), "recipients": list(everybody)})
    assert recipients == everybody
    assert (str(claim.sender), claim.login) == ("me@example.org", "token:t-send")
    trace, _, rest = octets.partition(b"; Tue, 01 Jan 2030 12:00:00 +0000\r\n")
    assert b" ".join(trace.split()) == b"Received: from [127.0.0.1] ([127.0.0.1]) by relay.test with HTTP id %b" % (
        str(claim.id).encode()
    )
    assert b"Bcc" not in rest
    assert rest.endswith(b"\r\nSubject: x\r\n\r\nhi\r\n")
    assert (accepted.login, accepted.recipients) == ("token:t-send", 3)


async def test_the_envelope_may_be_another_than_the_header_says(tmp_path: Path) -> None:
    query = "?from=&to=x@example.org&to=j%C3%B6rg@example.org&notify=success,delay&ret=hdrs&envid=a%2Bb"
    async with sender(tmp_path) as at:
        assert (await at.message(query=query))[0] == 201
        ((claim, recipients, _),) = await at.stored()
    assert (claim.sender, recipients) == (None, ("x@example.org", "jörg@example.org"))
    assert claim.dsn == MessageDsn(Ret.HDRS, "a+2Bb")
    assert claim.recipients[0].dsn == RecipientDsn(Notify.SUCCESS | Notify.DELAY)
    assert claim.smtputf8 is SmtpUtf8.NEEDED


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_it_may_come_in_any_pieces(tmp_path: Path, size: int) -> None:
    octets = RAW + b"line\r\n" * (20 if size < 100 else 20_000) + b"no end"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(octets), size):
            yield octets[start : start + size]

    async with sender(tmp_path) as at:
        assert (await at.message(pieces()))[0] == 201
        ((_, _, stored),) = await at.stored()
    assert stored.endswith(octets.partition(b"Subject")[2] + b"\r\n")


@pytest.mark.parametrize(
    ("octets", "query", "status", "found"),
    [
        (RAW, "?nosuch=1", 400, {"field": "nosuch"}),
        (RAW, "?from=a@b@c", 400, {"field": "from"}),
        (RAW, "?from=a@b.example&from=c@d.example", 400, {"field": "from"}),
        (RAW, "?to=postmaster", 400, {"field": "to"}),
        (RAW, "?notify=maybe", 400, {"field": "notify"}),
        (RAW, "?ret=some", 400, {"field": "ret"}),
        (RAW, "?envid=", 400, {"field": "envid"}),
        (b"Subject: x\r\n\r\nTo: a@example.org\r\n", "", 400, {"field": "from"}),
        (b"From: a@example.org\r\n\r\nTo: a@example.org\r\n", "", 400, {"field": "to"}),
        (b"From: a@example.org, b@example.org\r\nTo: c@example.org\r\n\r\n", "", 400, {"field": "from"}),
        (b"From: a@example.org\r\nTo: John Doe\r\n\r\n", "", 400, {"field": "to"}),
        (b"", "", 400, {"field": "from"}),
        (RAW + b"a\nb\r\n", "", 422, {"status": "5.6.0"}),
        (RAW + b"a\rb\r\n", "", 422, {"status": "5.6.0"}),
        (RAW + b"a\r", "", 422, {"status": "5.6.0"}),
        (RAW + b"a\0b\r\n", "", 422, {"status": "5.6.0"}),
        (RAW.replace(b"\r\n", b"\n"), "", 422, {"status": "5.6.0"}),
        (b"Received: x\r\n" * 101 + RAW, "", 422, {"status": "5.4.6"}),
        (RAW + b"x" * 70 + b"\r\n" * MAX_SIZE, "", 413, {"status": "5.3.4"}),
    ],
)
async def test_what_is_not_taken(tmp_path: Path, octets: bytes, query: str, status: int, found: dict[str, str]) -> None:
    async with sender(tmp_path) as at:
        answered, answer = await at.message(octets, query)
        assert (answered, {name: answer.get(name) for name in found}) == (status, found), answer
        assert await at.stored() == []


async def test_all_recipients_or_none(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        status, found = await at.message(query="?to=a@example.org&to=b@no.example&to=c@no.example")
        assert (status, found) == (
            403,
            {
                "error": "not there",
                "status": "5.7.1",
                "recipients": [
                    {"recipient": "b@no.example", "status": "5.7.1", "error": "not there"},
                    {"recipient": "c@no.example", "status": "5.7.1", "error": "not there"},
                ],
            },
        )
        assert await at.stored() == []


async def test_too_many_recipients_are_so_for_good(tmp_path: Path) -> None:
    """RCPTs that come one by one hear 452 from some point on; to a program 503 would say: send just that again."""
    async with sender(tmp_path) as at:
        status, found = await at.letter(to=[f"a{number}@example.org" for number in range(1001)])
        words = "Too many recipients, 1000 at most: send several messages"
        assert (status, found) == (422, {"error": words, "status": "5.5.3"})
        assert await at.stored() == []
        assert (await at.letter(to=[f"a{number}@example.org" for number in range(1000)]))[0] == 201


@pytest.mark.parametrize("full", [False, True])
async def test_a_queue_that_cannot_be_written(tmp_path: Path, full: bool) -> None:
    async with sender(tmp_path) as at:
        at.there.put_error = StoreUnavailable("the path of the queue", full=full)
        status, found = await at.message(key="k")
        assert (status, found["status"]) == (503, "4.3.1" if full else "4.3.0")
        assert "path" not in found["error"]


async def test_a_service_that_is_not_there_yet_or_no_more(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        at.there.intake.serving = False
        status, found = await at.message(key="k")
        assert (status, found["status"]) == (503, "4.3.2")
        at.there.intake.serving = True
        assert (await at.message(key="k"))[0] == 201


async def test_the_content_type_must_be_said(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        assert (await at.raw(RAW, "text/plain"))[0] == 415
        assert await at.stored() == []


async def test_a_message_that_stops_coming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "CHUNK_SECONDS", 0.05)
    forever = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield RAW
        await forever.wait()

    async with sender(tmp_path) as at:
        status, found = await at.message(half())
        assert (status, found["error"]) == (408, "a message must come within 600 s, and not pause for 0.05 s")
        forever.set()
        assert await at.stored() == []
        assert list((tmp_path / "queue" / "incoming").iterdir()) == []


# a letter


async def test_a_letter_in_json(tmp_path: Path) -> None:
    png = base64.b64encode(b"\x89PNG\0").decode()
    async with sender(tmp_path) as at:
        status, found = await at.letter(
            to="Jörg <j@example.org>",
            cc=["b@example.org"],
            bcc=["c@example.org", "b@example.org"],
            html="<img src='cid:p'>",
            headers={"X-A": "ü", "List-Unsubscribe": "<https://example.org/>"},
            attachments=[
                {"name": "p.png", "type": "image/png", "content": png, "cid": "p"},
                {"name": "x", "content": ""},
            ],
            envelope_from="bounces@example.org",
            notify=["FAILURE"],
        )
        ((claim, recipients, octets),) = await at.stored()
    assert (status, found["recipients"]) == (201, ["j@example.org", "b@example.org", "c@example.org"])
    assert recipients == tuple(found["recipients"])
    assert str(claim.sender) == "bounces@example.org"
    assert claim.recipients[0].dsn.notify is Notify.FAILURE
    assert not claim.eight_bit and claim.smtputf8 is SmtpUtf8.ASKED
    message = email.message_from_bytes(octets, policy=SMTP)
    assert (message["From"], message["Subject"], message["X-A"]) == ("Me <me@example.org>", "Hi", "ü")
    assert message["To"] == "Jörg <j@example.org>"
    assert message["Bcc"] is None
    assert message["Message-ID"].endswith("@relay.test>")
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/octet-stream",
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"nosuch": 1}, "nosuch"),
        ({"from": None}, "from"),
        ({"from": "a@b, c@d"}, "from"),
        ({"from": "x\r\nBcc: y@z <a@b.example>"}, "from"),
        ({"to": []}, "to"),
        ({"to": [1]}, "to"),
        ({"to": {"a": 1}}, "to"),
        ({"to": "John Doe"}, "to"),
        ({"cc": "a@b@c"}, "cc"),
        ({"subject": 1}, "subject"),
        ({"subject": "a\nBcc: b@example.org"}, "subject"),
        ({"text": "\ud800"}, "text"),
        ({"headers": []}, "headers"),
        ({"headers": {"X-A": 1}}, "headers.X-A"),
        ({"headers": {"Bcc": "a@b"}}, "headers.Bcc"),
        ({"headers": {"X-A": "a\r\nb: c"}}, "headers.X-A"),
        ({"attachments": {}}, "attachments"),
        ({"attachments": [1]}, "attachments"),
        ({"attachments": [{"name": "x"}]}, "attachments[0].content"),
        ({"attachments": [{"name": "x", "content": "***"}]}, "attachments[0].content"),
        ({"attachments": [{"name": "x", "content": "", "nosuch": 1}]}, "attachments[0].nosuch"),
        ({"attachments": [{"name": "x", "content": "", "type": "message/rfc822"}]}, "attachments"),
        ({"envelope_from": "a"}, "envelope_from"),
        ({"notify": "NEVER"}, "notify"),
        ({"notify": ["NEVER", "SUCCESS"]}, "notify"),
        ({"ret": "ALL"}, "ret"),
        ({"envid": "ö"}, "envid"),
        ({"priority": 10}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"priority": True}, "priority"),
        ({"hold_until": "tomorrow"}, "hold_until"),
        ({"hold_until": "2030-01-02T00:00:00"}, "hold_until"),
        ({"hold_until": 5}, "hold_until"),
    ],
)
async def test_a_mistake_in_a_letter_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    async with sender(tmp_path) as at:
        status, found = await at.letter(**change)
        assert (status, found["field"]) == (400, field), found
        assert await at.stored() == []


async def test_time_and_rank(tmp_path: Path) -> None:
    evening = NOW.replace(hour=18)
    async with sender(tmp_path) as at:
        assert (await at.letter(hold_until="2030-01-01T20:00:00+02:00", priority=5))[0] == 201
        assert (await at.message(query="?hold_until=2030-01-01T18:00:00Z&priority=-9"))[0] == 201
        found = {(claim.release, claim.priority) for claim, _, _ in await at.stored()}
        assert found == {(evening, 5), (evening, -9)}
        status, answer = await at.letter(hold_until="2031-01-01T00:00:00Z")
        assert (status, answer["status"]) == (422, "5.5.4"), answer


async def test_what_is_no_letter(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        for body in (b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff"):
            assert (await at.raw(body, "application/json"))[0] == 400
        assert (await at.raw(json.dumps(LETTER).encode(), "application/json", "?to=a@b.example"))[0] == 400
        large = {"name": "x", "content": base64.b64encode(bytes(MAX_SIZE)).decode()}
        status, found = await at.letter(attachments=[large])
        assert (status, found) == (413, {"error": f"the request has more than {MAX_SIZE + (64 << 10)} octets"})
        some = {"name": "x", "content": base64.b64encode(bytes(MAX_SIZE * 3 // 4)).decode()}
        status, found = await at.letter(attachments=[some])
        assert (status, found["status"]) == (413, "5.3.4")
        assert await at.stored() == []


async def test_few_large_letters_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "LARGE_OCTETS", 500)
    async with sender(tmp_path) as at:
        at.there.may_accept.clear()
        large = [asyncio.create_task(at.letter(text="x" * 500)) for _ in range(5)]
        assert (await at.letter(to="a@no.example"))[0] == 403  # a small one does not wait
        await asyncio.wait(large, timeout=0.2)
        assert at.there.accepted == mail.LARGE_AT_ONCE
        at.there.may_accept.set()
        assert [status for status, _ in await asyncio.gather(*large)] == [201] * 5


# once for each key


async def test_the_same_request_with_the_same_key_is_stored_once(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        first = await at.message(key="k1")
        assert first[0] == 201
        assert await at.message(key="k1") == first
        letter = await at.letter(key="k2")
        assert letter[0] == 201
        assert await at.letter(key="k2") == letter
        assert (await at.message(key="k3"))[1] != first[1]
        assert (await at.message())[1] != first[1]
        assert len(await at.stored()) == 4


async def test_another_request_with_the_same_key_is_refused(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        assert (await at.message(key="k"))[0] == 201
        for octets, query in ((RAW + b"x\r\n", ""), (RAW, "?to=a@example.org")):
            status, found = await at.message(octets, query, "k")
            assert (status, found["field"]) == (409, "Idempotency-Key")
        assert (await at.letter(key="k"))[0] == 409
        assert len(await at.stored()) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ö"])
async def test_what_is_no_key(tmp_path: Path, key: str) -> None:
    async with sender(tmp_path) as at:
        status, found = await at.message(key=key)
        assert (status, found["field"]) == (400, "Idempotency-Key")


async def test_two_at_once_with_one_key(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        at.there.may_accept.clear()
        first = asyncio.create_task(at.message(key="k"))
        await at.there.accepting.wait()
        others = [asyncio.create_task(at.message(key="k")) for _ in range(3)]
        other = asyncio.create_task(at.message(RAW + b"x\r\n", key="k"))
        await asyncio.wait(others, timeout=0.05)
        at.there.may_accept.set()
        answers = await asyncio.gather(first, *others)
        assert answers[0][0] == 201
        assert all(answer == answers[0] for answer in answers)
        assert (await other)[0] == 409
        assert len(await at.stored()) == 1


async def test_a_refusal_is_not_remembered(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        assert (await at.message(query="?to=b@no.example", key="k"))[0] == 403
        assert (await at.message(RAW + b"\0", key="k"))[0] == 422
        assert (await at.message(key="k"))[0] == 201


async def test_keys_belong_to_their_tokens(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        path = tmp_path / "tokens"
        first = await at.message(key="k")
        other = Sender(at.there, {Scope.SEND: add_token(path, "other", Scope.SEND)}, at.folder)
        assert (await other.message(RAW + b"x\r\n", key="k"))[0] == 201
        again = Sender(at.there, {Scope.SEND: add_token(path, "t-send", Scope.SEND)}, at.folder)
        assert await again.message(key="k") == first


# clients that do not do as they should


async def exchange(at: Sender, octets: bytes, hang_up: bool) -> bytes:
    """A request as it is on the wire; the answer, if the client waits for it."""
    host, port = at.there.address.host, at.there.address.port
    reader, writer = await asyncio.open_connection(host, port)
    lines = (
        b"POST /v1/messages HTTP/1.1",
        b"Host: x",
        b"Authorization: Bearer " + at.tokens[Scope.SEND].encode(),
        b"Content-Type: message/rfc822",
        b"Connection: close",
    )
    writer.write(b"\r\n".join(lines) + b"\r\n" + octets)
    await writer.drain()
    if hang_up:
        while not list((at.folder / "incoming").iterdir()):  # it is being written
            await asyncio.sleep(0)
        writer.transport.abort()
        return b""
    answer = await reader.read()
    writer.close()
    return answer


async def test_who_hangs_up_leaves_nothing(tmp_path: Path) -> None:
    async with sender(tmp_path) as at:
        await exchange(at, b"Content-Length: 190000\r\n\r\n" + RAW + b"x\r\n" * 30_000, hang_up=True)
        while list((at.folder / "incoming").iterdir()):
            await asyncio.sleep(0)
        assert await at.stored() == []
        assert not [event for event in at.there.events if isinstance(event, DefectFound)]


@pytest.mark.parametrize(
    "octets",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\nno gzip at",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_a_body_that_cannot_be_read(tmp_path: Path, octets: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with sender(tmp_path) as at:
        assert b" 400 " in (await exchange(at, octets, hang_up=False)).split(b"\r\n")[0]
        assert await at.stored() == []
        assert not [event for event in at.there.events if isinstance(event, DefectFound)]
    assert caplog.records == []
