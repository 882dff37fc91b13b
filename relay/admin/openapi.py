"""The OpenAPI 3.1 document of `/v1/`, as data. Compared with the routes and with real answers by tests.

Written by hand: it says what clients may rely on, and changes only when that does.
"""

from __future__ import annotations

from typing import Any

from relay import __version__
from relay.admin.mail import KEY
from relay.admin.requests import DEFAULT_PAGE, LARGEST_PAGE
from relay.admin.schemas import NUMBER, TEXT, Schema, list_of, ref, schemas
from relay.queue.selection import FIELDS, MANY


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Relay",
            "version": __version__,
            "description": "A Relay: it takes mail, and shows what waits, why, and what operators do with it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made by `relay admin token`"}
            },
            "schemas": schemas(),
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/v1/queue": {
            "get": _operation(
                "listQueue",
                "The recipients that fit, by arrival, a page at a time.",
                "RecipientPage",
                parameters=[*_filters(_PAGED), _parameter("cursor", "where to go on: `next` of the page before")],
                errors=(400,),
            )
        },
        "/v1/queue/{id}": {
            "get": _operation(
                "showMessage",
                "All that is known of one message: why each recipient waits, every attempt, what operators did.",
                "Message",
                parameters=[_parameter("id", "the queue id", place="path")],
                errors=(400, 404),
            )
        },
        "/v1/queue/stats": {
            "get": _operation(
                "queueStats",
                "What waits, in figures, by destination, by cause and by sender.",
                "Stats",
                parameters=_filters(f"the largest so many of each, {DEFAULT_PAGE} unless given"),
                errors=(400,),
            )
        },
        "/v1/queue/actions": {
            "post": _taking(
                "Action",
                _operation(
                    "act",
                    "Do something with all mail that fits a filter, or count what would be done.",
                    "Tally",
                    errors=(400, 408, 413),
                ),
            )
        },
        "/v1/queue/hold-rules": {
            "get": _operation("listHoldRules", "The rules by which new mail is held.", "HoldRules"),
            "post": _taking(
                "NewHoldRule",
                _operation(
                    "addHoldRule",
                    "Hold new mail that fits all that is given.",
                    "HoldRule",
                    errors=(400, 408, 413),
                    status=201,
                ),
            ),
        },
        "/v1/queue/hold-rules/{number}": {
            "delete": _operation(
                "removeHoldRule",
                "Hold no more what the rule says; what it has held stays held.",
                "Removed",
                parameters=[_parameter("number", "of the rule", place="path")],
                errors=(404,),
            )
        },
        "/v1/messages": {"post": _send()},
        "/v1/openapi.json": {"get": _operation("document", "This document.", "Document")},
    }


def _send() -> Schema:
    operation = _operation(
        "send",
        "Take a message, for all its recipients or for none; it is on disk when this is answered.",
        "Taken",
        parameters=[
            {**_parameter(KEY, _KEY_MEANING, place="header"), "schema": {**TEXT, "minLength": 1, "maxLength": 255}},
            _parameter("from", f"envelope sender, empty for none; else Sender or From of the header; {_RAW_ONLY}"),
            {
                **_parameter("to", f"recipients; else To, Cc, Bcc of the header; {_RAW_ONLY}"),
                "schema": list_of(TEXT),
            },
            _parameter("notify", f"NEVER, or some of SUCCESS, FAILURE and DELAY with commas; {_RAW_ONLY}"),
            _parameter("ret", f"FULL or HDRS; {_RAW_ONLY}"),
            _parameter("envid", f"an envelope id; {_RAW_ONLY}"),
            _parameter("hold_until", f"not tried before this time; {_RAW_ONLY}"),
            _parameter("priority", f"from -9 to 9, 0 unless given; {_RAW_ONLY}"),
        ],
        errors=(400, 408, 409, 413, 415, 422, 429),
        status=201,
    )
    content = {**_content("Letter"), "message/rfc822": {"schema": {"type": "string", "format": "binary"}}}
    return {**operation, "requestBody": {"required": True, "content": content}}


_RAW_ONLY = "with message/rfc822 only"
_KEY_MEANING = "the same request with the same key again stores nothing, and is answered as the first was"
_PAGED = f"most recipients on a page, {DEFAULT_PAGE} unless given, at most {LARGEST_PAGE}"
_ERRORS = {
    400: "The request is wrong; `field` says where.",
    401: "There is no token, or one that is not known.",
    403: "The token may not do this, or the server has no tokens; or the client's table in the settings forbids it.",
    404: "There is no such thing.",
    408: "The request did not come in time.",
    409: "The key came before, with another request.",
    413: "The request is too large.",
    415: "The content type is neither application/json nor message/rfc822.",
    422: "The message is refused for good.",
    429: "More than the client may send now.",
    503: "The queue cannot be read or written now.",
}


def _operation(
    name: str,
    summary: str,
    answer: str,
    *,
    parameters: list[Schema] | None = None,
    errors: tuple[int, ...] = (),
    status: int = 200,
) -> Schema:
    codes = (401, 403, 503, *errors)
    found: Schema = {
        "operationId": name,
        "summary": summary,
        "responses": {
            str(status): {"description": "It is so.", "content": _content(answer)},
            **{str(code): {"description": _ERRORS[code], "content": _content("Error")} for code in sorted(codes)},
        },
    }
    if parameters:
        found["parameters"] = parameters
    return found


def _taking(request: str, operation: Schema) -> Schema:
    """An operation that takes a body."""
    return {**operation, "requestBody": {"required": True, "content": _content(request)}}


def _content(schema: str) -> Schema:
    return {"application/json": {"schema": ref(schema)}}


def _filters(limit: str) -> list[Schema]:
    return [_parameter(name, limit if name == "limit" else meaning) for name, meaning in FIELDS.items()]


def _parameter(name: str, meaning: str, place: str = "query") -> Schema:
    many = place == "query" and name in MANY
    schema: Schema = {"type": "array", "items": TEXT} if many else NUMBER if name == "limit" else TEXT
    return {"name": name, "in": place, "required": place == "path", "description": meaning, "schema": schema}
