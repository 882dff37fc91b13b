"""The API over real HTTP: who may ask what, every answer as the document says it, every mistake with its field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from admin_peer import NOW, Running, running
from json_schema import problems

from relay.admin import openapi
from relay.admin.api import MAX_BODY
from relay.admin.tokens import Scope, Tokens, add_token
from relay.app import App
from relay.events import AdminRefused, AdminStarted, DefectFound, Event, FileRefused, QueueAction
from relay.lab.zones import Zones
from relay.mail.address import parse_address
from relay.mail.message import Envelope, InlineBody, MessageId, NewMessage, Notify, RecipientDsn
from relay.mail.outcome import Cause, Deferred, Failed, State
from relay.mail.record import AttemptRecord, HostRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.store import Rest
from relay.settings import Settings

pytestmark = pytest.mark.asyncio

DOCUMENT = openapi.document()
FIRST, SECOND = str(MessageId(1)), str(MessageId(2))


def make_message(number: int, *recipients: str, login: str | None = None) -> NewMessage:
    addresses = tuple(parse_address(text.encode()) for text in recipients)
    dsn = tuple(RecipientDsn(Notify.FAILURE, f"rfc822;{text}") for text in recipients)
    return NewMessage(
        MessageId(number),
        Envelope(parse_address(b"from@sender.example"), addresses, dsn),
        InlineBody(b"Subject: x\r\n\r\nx\r\n"),
        NOW - timedelta(hours=number),
        login=login,
    )


class Client:
    """A client with two tokens."""

    def __init__(self, there: Running, path: Path, tokens: Mapping[str, str]) -> None:
        self.there = there
        self.store = there.store
        self.path = path
        self.tokens = tokens

    async def raw(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method,
                f"http://{self.there.address}{path}",
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(10),
            ) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text else None, response.headers

    async def ask(self, method: str, path: str, body: object = None, token: str = "ops") -> tuple[int, Any]:
        """A request with a token; the answer is compared with the document."""
        octets = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.tokens[token]}"}
        status, found, _ = await self.raw(method, path, body=octets, headers=headers)
        schema = documented(method, path.partition("?")[0])["responses"][str(status)]["content"]["application/json"]
        assert list(problems(found, schema["schema"], DOCUMENT)) == []
        return status, found

    async def get(self, path: str) -> Any:
        status, found = await self.ask("GET", path)
        assert status == 200, found
        return found

    async def act(self, action: str, **more: object) -> Any:
        status, found = await self.ask("POST", "/v1/queue/actions", {"action": action, **more})
        assert status == 200, found
        return found


def documented(method: str, path: str) -> Any:
    """The operation of a path, as the document has it."""
    paths = DOCUMENT["paths"]
    parent, _, last = path.rpartition("/")
    pattern = path if path in paths else f"{parent}/{{{'number' if parent.endswith('hold-rules') else 'id'}}}"
    assert last
    return paths[pattern][method.lower()]


@asynccontextmanager
async def client(folder: Path) -> AsyncIterator[Client]:
    path = folder / "tokens"
    tokens = {"ops": add_token(path, "ops", Scope.WRITE), "watcher": add_token(path, "watcher", Scope.READ)}
    async with running(folder / "queue", Tokens.load(path)) as there:
        yield Client(there, path, tokens)


async def fill(at: Client) -> None:
    """One message for two recipients, one of which was tried, and one of jo's."""
    await at.store.put(
        (make_message(1, "a@example.org", "b@example.net"), make_message(2, "c@example.org", login="jo"))
    )
    claims = await at.store.claim(1, timedelta(minutes=30), NOW, {}, 100)
    (claim,) = claims
    reply = Reply.of(451, ("4.7.1 greylisted",))
    outcome = Deferred(Status(Kind.TEMPORARY, 7, 1), "mx asks us to come again", "mx.example", reply, cause=Cause.OTHER)
    settled = SettledRecipient(
        claim.recipients[0], State.DEFERRED, outcome, NOW + timedelta(hours=1), 0, Cause.GREYLISTING, "wait 1", NOW
    )
    host = HostRecord("mx.example", "192.0.2.1", "nothing", "opportunistic", "TLS 1.3", "greylisted", ("> x",))
    record = AttemptRecord(("MTA-STS: no policy",), (host,))
    await at.store.settle(claim, Settlement((settled,)), (), NOW, record=record, began=NOW)
    await at.store.rest("example.org", Rest(NOW + timedelta(minutes=5), NOW, 1, "4.4.1", "down"))


# who may ask


@pytest.mark.parametrize(
    ("headers", "status", "challenge"),
    [
        ({}, 401, "Bearer"),
        ({"Authorization": "Bearer"}, 401, "Bearer"),
        ({"Authorization": "Basic b3BzOng="}, 401, "Bearer"),
        ({"Authorization": "Bearer relay_wrong"}, 401, 'Bearer error="invalid_token"'),
    ],
)
async def test_without_a_token_nothing_is_answered(
    tmp_path: Path, headers: Mapping[str, str], status: int, challenge: str
) -> None:
    async with client(tmp_path) as at:
        for path in ("/v1/queue", "/v1/queue/stats", "/v1/openapi.json", "/v1/nothing", "/v1/queue/actions"):
            found, body, answered = await at.raw("GET", path, headers=headers)
            assert (found, list(body), answered["WWW-Authenticate"]) == (status, ["error"], challenge)
        assert len([event for event in at.there.events if isinstance(event, AdminRefused)]) == 5
        assert (await at.there.get("/health/live"))[0] == 200


async def test_without_a_tokens_file_the_api_is_shut(tmp_path: Path) -> None:
    async with running(tmp_path / "queue") as there:
        at = Client(there, tmp_path, {"ops": "x"})
        for method, path in (("GET", "/v1/queue"), ("POST", "/v1/queue/actions"), ("GET", "/v1/openapi.json")):
            status, body, _ = await at.raw(method, path, headers={"Authorization": "Bearer x"})
            assert (status, body) == (403, {"error": "there are no tokens: admin.tokens_file is not set"})
        assert (await there.get("/metrics"))[0] == 200


async def test_a_token_to_read_changes_nothing(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        assert (await at.ask("GET", "/v1/queue", token="watcher"))[0] == 200
        for method, path in (
            ("POST", "/v1/queue/actions"),
            ("POST", "/v1/queue/hold-rules"),
            ("DELETE", "/v1/queue/hold-rules/1"),
        ):
            status, body = await at.ask(method, path, {"action": "drop", "all": True}, token="watcher")
            assert (status, body) == (403, {"error": "the token watcher may only read"})
        assert len(await at.store.find(None, history=False)) == 3


async def test_a_changed_file_counts_at_once_and_a_broken_one_is_told(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        kept = at.path.read_text()
        at.path.write_text("")
        headers = {"Authorization": f"bearer {at.tokens['ops']}"}
        assert (await at.raw("GET", "/v1/queue", headers=headers))[0] == 401
        at.path.write_text(kept)
        assert (await at.raw("GET", "/v1/queue", headers=headers))[0] == 200
        at.path.write_text("x")
        assert (await at.raw("GET", "/v1/queue", headers=headers))[0] == 200
        (refused,) = [event for event in at.there.events if isinstance(event, DefectFound | FileRefused)]
        assert isinstance(refused, FileRefused)  # the administrator's mistake, not ours
        assert "line 1" in refused.reason


# reading


async def test_the_list_and_its_pages(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        whole = await at.get("/v1/queue")
        assert [one["recipient"] for one in whole["recipients"]] == ["a@example.org", "b@example.net", "c@example.org"]
        assert whole["next"] is None
        first = await at.get("/v1/queue?limit=2")
        assert len(first["recipients"]) == 2
        second = await at.get(f"/v1/queue?limit=2&cursor={first['next']}")
        assert first["recipients"] + second["recipients"] == whole["recipients"]
        assert second["next"] is None
        assert (await at.get("/v1/queue?limit=3"))["next"] is None


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("domain=example.org", "ac"),
        ("recipient=@example.net", "b"),
        ("login=jo", "c"),
        ("cause=greylisting", "c"),
        ("status=4.7", "c"),
        ("older_than=90m", "c"),
        ("younger_than=90m", "ab"),
        (f"id={FIRST}&id={SECOND}", "abc"),
        ("state=queued", "ab"),
        ("state=queued&state=deferred", "abc"),
        ("sender=%3C%3E", ""),
    ],
)
async def test_filters(tmp_path: Path, query: str, wanted: str) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        found = await at.get(f"/v1/queue?{query}")
        assert "".join(one["recipient"][0] for one in found["recipients"]) == wanted


async def test_one_message_is_explained(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        await at.act("hold", filter={"id": SECOND}, reason="wait")
        found = await at.get(f"/v1/queue/{SECOND}")
        (recipient,) = found["recipients"]
        assert (recipient["state"], recipient["hold"], recipient["cause"]) == ("held", "wait", "greylisting")
        assert found["acts"][0]["who"] == "ops"
        assert found["attempts"][0]["tried"][0]["host"] == "mx.example"
        assert found["resting"][0]["destination"] == "example.org"
        assert await at.ask("GET", f"/v1/queue/{MessageId(9)}") == (
            *(404, {"error": f"no message with the queue id {MessageId(9)} is kept"}),
        )
        assert (await at.ask("GET", "/v1/queue/x"))[0] == 400


async def test_the_notices_of_an_attempt_are_documented(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await at.store.put((make_message(1, "a@example.org"),))
        (claim,) = await at.store.claim(1, timedelta(minutes=30), NOW, {}, 100)
        outcome = Failed(Status(Kind.PERMANENT, 1, 1), "no such user")
        settled = SettledRecipient(claim.recipients[0], State.FAILED, outcome, None, 0)
        notice = replace(make_message(2, "from@sender.example"), notice="failure")
        await at.store.settle(claim, Settlement((settled,)), (notice,), NOW, record=AttemptRecord(), began=NOW)
        found = await at.get(f"/v1/queue/{FIRST}")
        assert found["attempts"][0]["notices"] == [{"id": SECOND, "kind": "failure", "state": "queued"}]


async def test_what_is_asked_without_a_token_is_not_logged_at_any_length(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        assert (await at.raw("GET", f"/v1/queue/{'x' * 5000}"))[0] == 401
        (refused,) = [event for event in at.there.events if isinstance(event, AdminRefused)]
        assert len(refused.request) == 200


async def test_figures(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        found = await at.get("/v1/queue/stats?limit=1")
        assert (found["recipients"], found["messages"]) == (3, 2)
        assert [(one["name"], one["recipients"]) for one in found["destinations"]] == [("example.org", 2)]
        assert [one["destination"] for one in found["resting"]] == ["example.org"]
        assert (await at.get("/v1/queue/stats?login=jo"))["recipients"] == 1


async def test_the_document_is_served(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        assert await at.get("/v1/openapi.json") == json.loads(json.dumps(DOCUMENT))


# acting


async def test_acts_and_what_is_told_of_them(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        tried = await at.act("hold", filter={"domain": "example.org"}, dry_run=True)
        assert (tried["done"], tried["dry_run"]) == (2, True)
        assert await at.act("hold", filter={"domain": "example.org"}) == {**tried, "dry_run": False}
        assert (await at.act("release", filter={"state": ["held"], "limit": 1}))["done"] == 1
        assert (await at.act("retry", all=True))["unfit"] == 1
        assert (await at.act("reroute", filter={"login": "jo"}, to="[2001:DB8::1]:2525"))["done"] == 1
        assert (await at.act("fail", filter={"id": [FIRST]}, reason="too late"))["notices"] == 1
        assert (await at.act("drop", filter={"login": "jo"}))["done"] == 1
        found = (await at.get("/v1/queue?state=failed&state=dropped&state=queued"))["recipients"]
        assert [(one["state"], one["reason"]) for one in found[:3]] == [
            ("failed", "given up by the administrator of this server: too late"),
            ("failed", "given up by the administrator of this server: too late"),
            ("dropped", "dropped by the administrator of this server"),
        ]
        assert (found[2]["route"], found[2]["destination"]) == ("[2001:db8::1]:2525", "route:[2001:db8::1]:2525")
        assert (found[3]["recipient"], found[3]["sender"]) == ("from@sender.example", "")
        told = [event for event in at.there.events if isinstance(event, QueueAction)]
        assert [event.action for event in told] == ["hold", "release", "retry", "reroute", "fail", "drop"]
        assert told[0] == QueueAction("ops", "hold", '{"domain":"example.org"}', 2, 0, None)
        assert (told[2].filter, told[3].detail, told[4].detail) == ("all", "[2001:DB8::1]:2525", "too late")


async def test_hold_rules(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        rule = {"domain": "*.example.org", "sender": "<>", "reason": "odd"}
        status, made = await at.ask("POST", "/v1/queue/hold-rules", rule)
        assert (status, made) == (
            *(201, {"id": 1, **rule, "recipient": None, "login": None, "made": "2030-01-01T12:00:00.000Z"}),
        )
        assert await at.get("/v1/queue/hold-rules") == {"hold_rules": [made]}
        assert await at.ask("DELETE", "/v1/queue/hold-rules/1") == (200, {"removed": 1})
        assert (await at.ask("DELETE", "/v1/queue/hold-rules/1"))[0] == 404
        assert (await at.ask("DELETE", "/v1/queue/hold-rules/x"))[0] == 404
        assert await at.get("/v1/queue/hold-rules") == {"hold_rules": []}


# mistakes


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=9", "status"),
        ("colour=red", "colour"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=x", "cursor"),
        ("after=0000000000001-0", "after"),
        ("domain=a&domain=b", "domain"),
        ("older_than=1y", "older_than"),
    ],
)
async def test_a_wrong_parameter_is_named(tmp_path: Path, query: str, field: str) -> None:
    async with client(tmp_path) as at:
        status, body = await at.ask("GET", f"/v1/queue?{query}")
        assert (status, body["field"]) == (400, field)
        assert body["error"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ("x", None),
        ({}, "action"),
        ({"action": "explode", "all": True}, "action"),
        ({"action": ["drop"], "all": True}, "action"),
        ({"action": "drop"}, "filter"),
        ({"action": "drop", "filter": {}}, "filter"),
        ({"action": "drop", "filter": {}, "all": False}, "filter"),
        ({"action": "drop", "filter": {"domain": "example.org"}, "all": True}, "filter"),
        ({"action": "drop", "filter": "all"}, "filter"),
        ({"action": "drop", "filter": {"colour": "red"}}, "filter.colour"),
        ({"action": "drop", "filter": {"domain": 7}}, "filter.domain"),
        ({"action": "drop", "filter": {"state": []}}, "filter.state"),
        ({"action": "drop", "filter": {"state": ["stuck"]}}, "filter.state"),
        ({"action": "drop", "filter": {"limit": True}}, "filter.limit"),
        ({"action": "drop", "filter": {"after": "0000000000001-0"}}, "filter.after"),
        ({"action": "drop", "all": "yes"}, "all"),
        ({"action": "drop", "all": True, "dry_run": 1}, "dry_run"),
        ({"action": "drop", "all": True, "reason": 1}, "reason"),
        ({"action": "drop", "all": True, "reason": "x" * 1001}, "reason"),
        ({"action": "drop", "all": True, "force": True}, "force"),
        ({"action": "drop", "all": True, "to": "direct"}, "to"),
        ({"action": "reroute", "all": True}, "to"),
        ({"action": "reroute", "all": True, "to": "nowhere"}, "to"),
        ({"action": "reroute", "all": True, "to": "host:0"}, "to"),
    ],
)
async def test_a_wrong_act_names_its_field_and_does_nothing(tmp_path: Path, body: object, field: str | None) -> None:
    async with client(tmp_path) as at:
        await fill(at)
        status, found = await at.ask("POST", "/v1/queue/actions", body)
        assert (status, found["field"]) == (400, field), found
        assert len(await at.store.find(None, history=False)) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"domain": "example.org"}, "reason"),
        ({"domain": "example.org", "reason": ""}, "reason"),
        ({"domain": "example.org", "reason": " "}, "reason"),
        ({"reason": "x"}, None),
        ({"domain": "a b", "reason": "x"}, "domain"),
        ({"login": "", "reason": "x"}, "login"),
        ({"cause": "outage", "reason": "x"}, "cause"),
    ],
)
async def test_a_wrong_rule_names_its_field(tmp_path: Path, body: object, field: str | None) -> None:
    async with client(tmp_path) as at:
        status, found = await at.ask("POST", "/v1/queue/hold-rules", body)
        assert (status, found["field"]) == (400, field), found


async def test_bodies_that_are_none(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        headers = {"Authorization": f"Bearer {at.tokens['ops']}"}
        for octets in (b"", b"{", b"\xff", b"[" * 5000):
            status, body, _ = await at.raw("POST", "/v1/queue/actions", body=octets, headers=headers)
            assert (status, body["error"]) == (400, "the body must be a JSON object")
        status, body, _ = await at.raw("POST", "/v1/queue/actions", body=b" " * (MAX_BODY + 1), headers=headers)
        assert (status, body) == (413, {"error": f"a request has at most {MAX_BODY} octets"})


async def test_what_is_not_there_is_told_in_json(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        headers = {"Authorization": f"Bearer {at.tokens['ops']}"}
        status, body, _ = await at.raw("GET", "/v1/nothing", headers=headers)
        assert (status, body) == (404, {"error": "not found"})
        status, body, answered = await at.raw("PUT", "/v1/queue", headers=headers)
        assert (status, body, answered["Allow"]) == (405, {"error": "method not allowed"}, "GET")


async def test_a_queue_that_cannot_be_read_is_503(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        await at.store.close()
        for method, path, body in (
            ("GET", "/v1/queue", None),
            ("GET", f"/v1/queue/{FIRST}", None),
            ("GET", "/v1/queue/stats", None),
            ("POST", "/v1/queue/actions", {"action": "retry", "all": True}),
            ("GET", "/v1/queue/hold-rules", None),
        ):
            assert (await at.ask(method, path, body))[0] == 503, path


async def test_a_body_that_does_not_come_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.admin.api.BODY_SECONDS", 0.05)
    async with client(tmp_path) as at:
        reader, writer = await asyncio.open_connection(at.there.address.host, at.there.address.port)
        token = at.tokens["ops"]
        writer.write(
            b"POST /v1/queue/actions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            + f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        writer.close()


# the document


async def test_the_document_has_every_route_and_no_other(tmp_path: Path) -> None:
    async with client(tmp_path) as at:
        served = {(method, path) for method, path, _ in at.there.api._routes()}
    listed = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert served == listed


async def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    text = json.dumps(DOCUMENT)
    names = set(DOCUMENT["components"]["schemas"])
    used = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used == names
    operations = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)


# the whole service


@pytest.mark.usefixtures("asyncio_buffers")
async def test_the_running_service_holds_new_mail_by_a_rule_and_gives_it_up(tmp_path: Path) -> None:
    token = add_token(tmp_path / "tokens", "ops", Scope.WRITE)
    zones = Zones({})
    settings = Settings.model_validate(
        {
            "hostname": "relay.test",
            "submission": {"listen": ["127.0.0.1:0"]},
            "dns": {"nameservers": [await zones.start()], "trust_ad": "yes"},
            "admin": {"listen": ["127.0.0.1:0"], "tokens_file": str(tmp_path / "tokens")},
        }
    )
    seen: list[Event] = []
    app = App(settings, tmp_path / "state", "relay.test", emit=seen.append)
    (submission,) = await app.start()
    (started,) = [event for event in seen if isinstance(event, AdminStarted)]

    async def ask(method: str, path: str, body: object = None, token: str = token) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(f"http://{started.address}") as session,
            session.request(method, path, json=body, headers=headers, timeout=aiohttp.ClientTimeout(10)) as response,
        ):
            return await response.json()

    try:
        await ask("POST", "/v1/queue/hold-rules", {"sender": "@sender.test", "reason": "broken into"})
        reader, writer = await asyncio.open_connection(submission.host, submission.port)
        writer.write(
            b"EHLO x\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<b@nowhere.test>\r\nDATA\r\n"
            b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        assert b"250 2.0.0 queued" in await reader.read()
        writer.close()
        (held,) = (await ask("GET", "/v1/queue"))["recipients"]
        assert (held["state"], held["hold"], held["attempts"]) == ("held", "hold rule 1: broken into", 0)
        gone = await ask("POST", "/v1/queue/actions", {"action": "drop", "filter": {"id": held["id"]}})
        assert (gone["done"], (await ask("GET", "/v1/queue"))["recipients"]) == (1, [])
        (told,) = [event for event in seen if isinstance(event, QueueAction)]
        assert (told.who, told.recipients) == ("ops", 1)
        web = add_token(tmp_path / "tokens", "web", Scope.SEND)
        letter = {"from": "a@sender.test", "to": "b@nowhere.test", "text": "x"}
        taken = await ask("POST", "/v1/messages", letter, web)
        (held,) = (await ask("GET", "/v1/queue"))["recipients"]
        assert (held["id"], held["state"], held["login"]) == (taken["id"], "held", "token:web")
    finally:
        await app.stop()
        await zones.stop()
