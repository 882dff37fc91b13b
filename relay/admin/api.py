"""The queue over HTTP, `/v1/`: what `relay queue` does, for programs. docs/admin-api.md.

Every request needs a token of `admin.tokens_file`; without that file nothing is answered but 403. Answers are JSON,
mistakes too: `{"error": ...}`, and `field` where one field is to blame. relay.admin.openapi describes all of it, and a
test compares the two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from relay.admin import openapi
from relay.admin.mail import UNREADABLE, Answer, Mail, MailDesk
from relay.admin.requests import FieldError, page_filter, read_action, read_rule, stats_filter
from relay.admin.tokens import Scope, Token, Tokens
from relay.events import AdminRefused, Emit, FileRefused, QueueAction
from relay.mail.message import MessageId
from relay.queue.control import Act
from relay.queue.controls import Controls
from relay.queue.giving_up import composer
from relay.queue.objects import Object, of_entry, of_hold_rule, of_message, of_stats, of_tally
from relay.queue.selection import Cursor, QueueFilter, read_id
from relay.queue.store import StoreUnavailable

PREFIX = "/v1/"
MESSAGES = "/v1/messages"
MAX_BODY = 64 << 10  # octets of a request
BODY_SECONDS = 10.0
_LOGGED = 200  # characters of what somebody without a token asked for
_HEADERS = {"Server": "Relay", "Cache-Control": "no-store"}
_TOKEN = web.RequestKey("token", Token)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the API works with. `tokens`: None where no file is set.

    `route_of` turns where a reroute goes into a chosen route (None: as the settings say). It raises ValueError, in
    words that go after the name of the field. `hostname`: our name in notices.
    """

    tokens: Tokens | None
    controls: Controls
    route_of: Callable[[str], str | None]
    hostname: str
    new_id: Callable[[], MessageId]
    clock: Callable[[], datetime]
    emit: Emit
    mail: Mail


class Api:
    """The handlers; `add_to` puts them where they belong."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._mail = MailDesk(desk.mail)

    def add_to(self, application: web.Application) -> None:
        """Add every route under `/v1/`, and what guards them."""
        application.middlewares.append(self._guarded)
        for method, path, handler in self._routes():
            application.router.add_route(method, path, _answering(handler))

    def _routes(self) -> tuple[tuple[str, str, Callable[[web.Request], Awaitable[Answer]]], ...]:
        """Method, path and handler. What is no GET needs a token that may write, or send."""
        return (
            ("GET", "/v1/queue", self._list),
            ("GET", "/v1/queue/stats", self._stats),
            ("POST", "/v1/queue/actions", self._act),
            ("GET", "/v1/queue/hold-rules", self._hold_rules),
            ("POST", "/v1/queue/hold-rules", self._add_hold_rule),
            ("DELETE", "/v1/queue/hold-rules/{number}", self._remove_hold_rule),
            ("GET", "/v1/queue/{id}", self._message),
            ("POST", MESSAGES, self._send),
            ("GET", "/v1/openapi.json", self._document),
        )

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Who asks, before anything else; and mistakes as JSON."""
        if not request.path.startswith(PREFIX):
            return await handler(request)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            if request.path != MESSAGES:  # where what comes may be large
                await _come(request)  # before a handler waits for anything else
            return await handler(request)
        except FieldError as error:
            return _json(400, {"error": str(error), "field": error.field})
        except StoreUnavailable as error:
            return _json(503, {"error": str(error)})
        except TimeoutError:
            return _json(408, {"error": f"the request did not come within {BODY_SECONDS:g} s"})
        except web.HTTPRequestEntityTooLarge:
            return _json(413, {"error": f"a request has at most {MAX_BODY} octets"})
        except web.HTTPException as error:
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _json(error.status, {"error": error.reason.lower()}, headers)

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Why this request is not answered; None: it is, and its token is noted."""
        tokens = self._desk.tokens
        if tokens is None:
            return self._refuse(request, 403, "there are no tokens: admin.tokens_file is not set")
        problem = tokens.refresh()
        if problem is not None:
            self._desk.emit(FileRefused(problem))
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            return self._refuse(request, 401, "a token is needed: Authorization: Bearer TOKEN", "Bearer")
        token = tokens.find(text.strip())
        if token is None:  # RFC 6750 section 3.1
            return self._refuse(request, 401, "the token is not known", 'Bearer error="invalid_token"')
        needed = _needed(request)
        if not token.scope.covers(needed):
            wanted = f'Bearer error="insufficient_scope", scope="{needed.value}"'
            return self._refuse(request, 403, f"the token {token.name} may only {token.scope.value}", wanted)
        request[_TOKEN] = token
        return None

    def _refuse(self, request: web.Request, status: int, reason: str, challenge: str | None = None) -> web.Response:
        self._desk.emit(AdminRefused(request.remote or "", f"{request.method} {request.path}"[:_LOGGED], reason))
        headers = {} if challenge is None else {"WWW-Authenticate": challenge}
        return _json(status, {"error": reason}, headers)

    async def _list(self, request: web.Request) -> Answer:
        wanted = page_filter(_query(request), self._desk.clock())
        limit = wanted.limit or 1
        found = await self._desk.controls.select(replace(wanted, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = None if last is None else str(Cursor(last.id.number, last.number))
        return 200, {"recipients": [of_entry(entry) for entry in found[:limit]], "next": following}

    async def _message(self, request: web.Request) -> Answer:
        try:
            id = read_id(request.match_info["id"])
        except ValueError as error:
            raise FieldError("id", str(error)) from None
        trace, rests = await self._desk.controls.message(id)
        if trace is None:
            return 404, {"error": f"no message with the queue id {id} is kept"}
        return 200, of_message(trace, rests)

    async def _stats(self, request: web.Request) -> Answer:
        now = self._desk.clock()
        selection, top = stats_filter(_query(request), now)
        return 200, of_stats(await self._desk.controls.stats(selection, now, top))

    async def _act(self, request: web.Request) -> Answer:
        desk, now, body = self._desk, self._desk.clock(), await _body(request)
        action, to = read_action(body, request[_TOKEN].name, now)
        if to is not None:
            action = replace(action, route=self._route_of(to))
        tally = await desk.controls.perform(action, now, composer(desk.hostname, desk.new_id, now))
        if not action.dry_run:
            wanted = "all" if action.selection == QueueFilter() else json.dumps(body["filter"], separators=(",", ":"))
            detail = to if action.act is Act.REROUTE else action.reason
            desk.emit(QueueAction(action.who, action.act.value, wanted, tally.done, tally.under_way, detail))
        return 200, of_tally(action, tally)

    def _route_of(self, to: str) -> str | None:
        try:
            return self._desk.route_of(to)
        except ValueError as error:
            raise FieldError("to", str(error)) from None

    async def _hold_rules(self, _: web.Request) -> Answer:
        return 200, {"hold_rules": [of_hold_rule(rule) for rule in await self._desk.controls.hold_rules()]}

    async def _add_hold_rule(self, request: web.Request) -> Answer:
        rule = read_rule(await _body(request), self._desk.clock())
        number = await self._desk.controls.add_hold_rule(rule)
        return 201, of_hold_rule(replace(rule, id=number))

    async def _remove_hold_rule(self, request: web.Request) -> Answer:
        text = request.match_info["number"]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
        if not await self._desk.controls.remove_hold_rule(number):
            return 404, {"error": f"there is no hold rule {text}"}
        return 200, {"removed": number}

    async def _send(self, request: web.Request) -> Answer:
        return await self._mail.take(request, request[_TOKEN].name)

    async def _document(self, _: web.Request) -> Answer:
        return 200, openapi.document()


def _needed(request: web.Request) -> Scope:
    if request.path == MESSAGES:
        return Scope.SEND
    return Scope.READ if request.method in ("GET", "HEAD") else Scope.WRITE


def _query(request: web.Request) -> dict[str, list[str]]:
    return {field: request.query.getall(field) for field in request.query}


async def _come(request: web.Request) -> None:
    """Wait for the body. Raises FieldError, TimeoutError and web.HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await request.read()
    except UNREADABLE:
        raise FieldError(None, "the request cannot be read to its end") from None


async def _body(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise FieldError(None, "the body must be a JSON object") from None


def _answering(handler: Callable[[web.Request], Awaitable[Answer]]) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert _TOKEN in request  # noqa: S101  (nothing is answered to somebody who was not asked for one)
        return _json(*await handler(request))

    return answer


def _json(status: int, body: Object, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers={**_HEADERS, **(headers or {})})
