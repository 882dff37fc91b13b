"""The OpenAPI 3.1 document of `/v1/`, as data. Compared with the routes and with real answers by tests.

Written by hand: it says what clients may rely on, and changes only when that does.
"""

from __future__ import annotations

from typing import Any, Final

from relay import __version__
from relay.admin.mail import KEY
from relay.admin.requests import DEFAULT_PAGE, LARGEST_PAGE, MAX_WORDS
from relay.mail.message import TlsDemand
from relay.mail.outcome import Cause, State, TlsUsed
from relay.queue.control import Act
from relay.queue.objects import AGE_NAMES
from relay.queue.selection import FIELDS, MANY

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_STATE: Final[Schema] = {"type": "string", "enum": [state.value for state in State]}
_MAYBE_CAUSE: Final[Schema] = {"type": ["string", "null"], "enum": [*(cause.value for cause in Cause), None]}
_TLS: Final[Schema] = {"type": "string", "enum": [tls.value for tls in TlsUsed]}


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
            "schemas": _schemas(),
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
            {**_parameter(KEY, _KEY_MEANING, place="header"), "schema": {**_TEXT, "minLength": 1, "maxLength": 255}},
            _parameter("from", f"envelope sender, empty for none; else Sender or From of the header; {_RAW_ONLY}"),
            {
                **_parameter("to", f"recipients; else To, Cc, Bcc of the header; {_RAW_ONLY}"),
                "schema": _list(_TEXT),
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
    return {"application/json": {"schema": _ref(schema)}}


def _filters(limit: str) -> list[Schema]:
    return [_parameter(name, limit if name == "limit" else meaning) for name, meaning in FIELDS.items()]


def _parameter(name: str, meaning: str, place: str = "query") -> Schema:
    many = place == "query" and name in MANY
    schema: Schema = {"type": "array", "items": _TEXT} if many else _NUMBER if name == "limit" else _TEXT
    return {"name": name, "in": place, "required": place == "path", "description": meaning, "schema": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _fields(fields: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """An object with exactly these properties."""
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _schemas() -> dict[str, Schema]:
    return {**_answers(), **_letter(), **_queue(), **_history(), **_control()}


def _letter() -> dict[str, Schema]:
    addresses: Schema = {"type": ["string", "array", "null"], "items": _TEXT}
    values: Schema = {"type": ["string", "array"], "items": _TEXT}
    fields = {
        "from": {**_TEXT, "description": "`a@example.org` or `Name <a@example.org>`"},
        "to": addresses,
        "cc": addresses,
        "bcc": addresses,
        "reply_to": addresses,
        "subject": _MAYBE_TEXT,
        "text": _MAYBE_TEXT,
        "html": _MAYBE_TEXT,
        "headers": {"type": ["object", "null"], "additionalProperties": values},
        "attachments": {"type": ["array", "null"], "items": _ref("Attachment")},
        "envelope_from": {**_MAYBE_TEXT, "description": "else the address of `from`; empty: none, for notices"},
        "notify": {"type": ["array", "null"], "items": {"enum": ["NEVER", "SUCCESS", "FAILURE", "DELAY"]}},
        "ret": {"type": ["string", "null"], "enum": ["FULL", "HDRS", None]},
        "envid": _MAYBE_TEXT,
        "hold_until": {**_MAYBE_TIME, "description": "not tried before"},
        "priority": {"type": ["integer", "null"], "minimum": -9, "maximum": 9},
    }
    attachment = {
        "name": _TEXT,
        "type": {**_MAYBE_TEXT, "description": "its media type, application/octet-stream unless given"},
        "content": {**_TEXT, "contentEncoding": "base64"},
        "cid": {**_MAYBE_TEXT, "description": "by which `html` shows it: `<img src='cid:...'>`"},
    }
    return {
        "Letter": _fields(fields, optional=tuple(name for name in fields if name != "from")),
        "Attachment": _fields(attachment, optional=("type", "cid")),
    }


def _answers() -> dict[str, Schema]:
    return {
        "Error": _fields(
            {"error": _TEXT, "field": _MAYBE_TEXT, "status": _TEXT, "recipients": _list(_ref("RefusedRecipient"))},
            optional=("field", "status", "recipients"),
        ),
        "RefusedRecipient": _fields({"recipient": _TEXT, "status": _TEXT, "error": _TEXT}),
        "Taken": _fields({"id": _TEXT, "recipients": _list(_TEXT)}),
        "Document": {"type": "object"},
        "Removed": _fields({"removed": _NUMBER}),
        "RecipientPage": _fields({"recipients": _list(_ref("Recipient")), "next": _MAYBE_TEXT}),
        "HoldRules": _fields({"hold_rules": _list(_ref("HoldRule"))}),
    }


def _queue() -> dict[str, Schema]:
    group = {
        "name": _TEXT,
        "recipients": _NUMBER,
        "messages": _NUMBER,
        "held": _NUMBER,
        "under_way": _NUMBER,
        "oldest": _TIME,
        "next_attempt": _MAYBE_TIME,
        "rests_until": _MAYBE_TIME,
        "ages": _fields(dict.fromkeys((*AGE_NAMES, "older"), _NUMBER)),
    }
    states = {"type": "object", "additionalProperties": _NUMBER}
    return {
        "Recipient": _fields(
            {
                "id": _TEXT,
                "message_id": _MAYBE_TEXT,
                "sender": _TEXT,
                "recipient": _TEXT,
                "domain": _TEXT,
                "destination": _TEXT,
                "route": _MAYBE_TEXT,
                "login": _MAYBE_TEXT,
                "size": _NUMBER,
                "state": _STATE,
                "under_way": _FLAG,
                "attempts": _NUMBER,
                "cause": _MAYBE_CAUSE,
                "status": _MAYBE_TEXT,
                "reply": _MAYBE_TEXT,
                "reason": _MAYBE_TEXT,
                "host": _MAYBE_TEXT,
                "tls": _TLS,
                "rule": _MAYBE_TEXT,
                "hold": _MAYBE_TEXT,
                "notify": {"type": ["array", "null"], "items": {"enum": ["NEVER", "SUCCESS", "FAILURE", "DELAY"]}},
                "orcpt": _MAYBE_TEXT,
                "priority": _NUMBER,
                "release": _MAYBE_TIME,
                "deliver_by": _MAYBE_TIME,
                "deliver_mode": _MAYBE_TEXT,
                "arrived": _TIME,
                "changed": _TIME,
                "next_attempt": _MAYBE_TIME,
                "review": _MAYBE_TIME,
            }
        ),
        "Stats": _fields(
            {
                "recipients": _NUMBER,
                "messages": _NUMBER,
                "under_way": _NUMBER,
                "due": _NUMBER,
                "oldest": _MAYBE_TIME,
                "states": states,
                "destinations": _list(_ref("Group")),
                "causes": _list(_ref("Group")),
                "senders": _list(_ref("Group")),
                "resting": _list(_ref("Rest")),
            }
        ),
        "Group": _fields(group),
        "Rest": _fields(
            {
                "destination": _TEXT,
                "until": _TIME,
                "since": _TIME,
                "failures": _NUMBER,
                "status": _TEXT,
                "reason": _TEXT,
            }
        ),
    }


def _history() -> dict[str, Schema]:
    return {
        "Message": _fields(
            {
                "id": _TEXT,
                "message_id": _MAYBE_TEXT,
                "sender": _TEXT,
                "size": _NUMBER,
                "tls_demand": {"type": "string", "enum": [demand.value for demand in TlsDemand]},
                "arrived": _TIME,
                "about": _MAYBE_TEXT,
                "login": _MAYBE_TEXT,
                "ret": _MAYBE_TEXT,
                "envid": _MAYBE_TEXT,
                "recipients": _list(_ref("Recipient")),
                "attempts": _list(_ref("Attempt")),
                "acts": _list(_ref("OperatorAct")),
                "resting": _list(_ref("Rest")),
            }
        ),
        "Attempt": _fields(
            {
                "domain": _TEXT,
                "number": _NUMBER,
                "began": _TIME,
                "ended": _TIME,
                "policies": _list(_TEXT),
                "tried": _list(_ref("Host")),
                "tried_left_out": _NUMBER,
                "results": _list(_ref("Result")),
                "notices": _list(_fields({"id": _TEXT, "kind": _MAYBE_TEXT, "state": {"type": ["string", "null"]}})),
            }
        ),
        "Host": _fields(
            {
                "host": _TEXT,
                "address": _MAYBE_TEXT,
                "required": _TEXT,
                "rule": _TEXT,
                "seen": _TEXT,
                "verdict": _TEXT,
                "dialogue": _list(_TEXT),
            }
        ),
        "Result": _fields(
            {
                "recipients": _list(_TEXT),
                "state": _STATE,
                "status": _TEXT,
                "reason": _MAYBE_TEXT,
                "reply": _MAYBE_TEXT,
                "host": _MAYBE_TEXT,
                "tls": _TLS,
                "next_attempt": _MAYBE_TIME,
            }
        ),
        "OperatorAct": _fields(
            {
                "recipient": _TEXT,
                "action": _TEXT,
                "made": _TIME,
                "who": _TEXT,
                "detail": _MAYBE_TEXT,
            }
        ),
    }


def _control() -> dict[str, Schema]:
    act = {"type": "string", "enum": [act.value for act in Act]}
    words = {**_MAYBE_TEXT, "maxLength": MAX_WORDS}
    texts: Schema = {"type": ["string", "array"], "items": _TEXT}
    wanted = {name: {**(texts if name in MANY else _TEXT), "description": meaning} for name, meaning in FIELDS.items()}
    wanted["limit"] = {"type": ["integer", "string"], "description": FIELDS["limit"]}
    rule = dict.fromkeys(("sender", "recipient", "domain", "login"), _MAYBE_TEXT)
    return {
        "Filter": _fields(wanted, optional=tuple(wanted)),
        "Action": _fields(
            {
                "action": act,
                "filter": _ref("Filter"),
                "all": {**_FLAG, "description": "instead of a filter: all mail that waits"},
                "dry_run": {**_FLAG, "description": "count, and change nothing"},
                "reason": {**words, "description": "why; the sender reads it when mail is given up"},
                "to": {**words, "description": "of a reroute: a route, direct, host:port, or default"},
            },
            optional=("filter", "all", "dry_run", "reason", "to"),
        ),
        "Tally": _fields(
            {
                "action": act,
                "dry_run": _FLAG,
                "recipients": _NUMBER,
                "messages": _NUMBER,
                "done": _NUMBER,
                "done_messages": _NUMBER,
                "under_way": _NUMBER,
                "unfit": _NUMBER,
                "notices": _NUMBER,
            }
        ),
        "NewHoldRule": _fields({**rule, "reason": {**_TEXT, "maxLength": MAX_WORDS}}, optional=tuple(rule)),
        "HoldRule": _fields({"id": _NUMBER, **rule, "reason": _TEXT, "made": _TIME}),
    }
