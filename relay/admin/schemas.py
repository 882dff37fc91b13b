"""The schemas of what the API takes and answers, for `openapi`. JSON Schema 2020-12."""

from __future__ import annotations

from typing import Any, Final

from relay.admin.requests import MAX_WORDS
from relay.mail.message import TlsDemand
from relay.mail.outcome import Cause, State, TlsUsed
from relay.queue.control import Act
from relay.queue.objects import AGE_NAMES
from relay.queue.selection import FIELDS, MANY

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
_MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_STATE: Final[Schema] = {"type": "string", "enum": [state.value for state in State]}
_MAYBE_CAUSE: Final[Schema] = {"type": ["string", "null"], "enum": [*(cause.value for cause in Cause), None]}
_TLS: Final[Schema] = {"type": "string", "enum": [tls.value for tls in TlsUsed]}


def ref(name: str) -> Schema:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def fields_of(fields: Schema, optional: tuple[str, ...] = ()) -> Schema:
    """An object with exactly these properties."""
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def schemas() -> dict[str, Schema]:
    """All of them, by name."""
    return {**_answers(), **_letter(), **_queue(), **_history(), **_control()}


def _letter() -> dict[str, Schema]:
    addresses: Schema = {"type": ["string", "array", "null"], "items": TEXT}
    values: Schema = {"type": ["string", "array"], "items": TEXT}
    fields = {
        "from": {**TEXT, "description": "`a@example.org` or `Name <a@example.org>`"},
        "to": addresses,
        "cc": addresses,
        "bcc": addresses,
        "reply_to": addresses,
        "subject": _MAYBE_TEXT,
        "text": _MAYBE_TEXT,
        "html": _MAYBE_TEXT,
        "headers": {"type": ["object", "null"], "additionalProperties": values},
        "attachments": {"type": ["array", "null"], "items": ref("Attachment")},
        "envelope_from": {**_MAYBE_TEXT, "description": "else the address of `from`; empty: none, for notices"},
        "notify": {"type": ["array", "null"], "items": {"enum": ["NEVER", "SUCCESS", "FAILURE", "DELAY"]}},
        "ret": {"type": ["string", "null"], "enum": ["FULL", "HDRS", None]},
        "envid": _MAYBE_TEXT,
        "hold_until": {**_MAYBE_TIME, "description": "not tried before"},
        "priority": {"type": ["integer", "null"], "minimum": -9, "maximum": 9},
    }
    attachment = {
        "name": TEXT,
        "type": {**_MAYBE_TEXT, "description": "its media type, application/octet-stream unless given"},
        "content": {**TEXT, "contentEncoding": "base64"},
        "cid": {**_MAYBE_TEXT, "description": "by which `html` shows it: `<img src='cid:...'>`"},
    }
    return {
        "Letter": fields_of(fields, optional=tuple(name for name in fields if name != "from")),
        "Attachment": fields_of(attachment, optional=("type", "cid")),
    }


def _answers() -> dict[str, Schema]:
    return {
        "Error": fields_of(
            {"error": TEXT, "field": _MAYBE_TEXT, "status": TEXT, "recipients": list_of(ref("RefusedRecipient"))},
            optional=("field", "status", "recipients"),
        ),
        "RefusedRecipient": fields_of({"recipient": TEXT, "status": TEXT, "error": TEXT}),
        "Taken": fields_of({"id": TEXT, "recipients": list_of(TEXT)}),
        "Document": {"type": "object"},
        "Removed": fields_of({"removed": NUMBER}),
        "RecipientPage": fields_of({"recipients": list_of(ref("Recipient")), "next": _MAYBE_TEXT}),
        "HoldRules": fields_of({"hold_rules": list_of(ref("HoldRule"))}),
    }


def _queue() -> dict[str, Schema]:
    group = {
        "name": TEXT,
        "recipients": NUMBER,
        "messages": NUMBER,
        "held": NUMBER,
        "under_way": NUMBER,
        "oldest": _TIME,
        "next_attempt": _MAYBE_TIME,
        "rests_until": _MAYBE_TIME,
        "ages": fields_of(dict.fromkeys((*AGE_NAMES, "older"), NUMBER)),
    }
    states = {"type": "object", "additionalProperties": NUMBER}
    return {
        "Recipient": fields_of(
            {
                "id": TEXT,
                "message_id": _MAYBE_TEXT,
                "sender": TEXT,
                "recipient": TEXT,
                "domain": TEXT,
                "destination": TEXT,
                "route": _MAYBE_TEXT,
                "login": _MAYBE_TEXT,
                "size": NUMBER,
                "state": _STATE,
                "under_way": _FLAG,
                "attempts": NUMBER,
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
                "priority": NUMBER,
                "release": _MAYBE_TIME,
                "deliver_by": _MAYBE_TIME,
                "deliver_mode": _MAYBE_TEXT,
                "arrived": _TIME,
                "changed": _TIME,
                "next_attempt": _MAYBE_TIME,
                "review": _MAYBE_TIME,
            }
        ),
        "Stats": fields_of(
            {
                "recipients": NUMBER,
                "messages": NUMBER,
                "under_way": NUMBER,
                "due": NUMBER,
                "oldest": _MAYBE_TIME,
                "states": states,
                "destinations": list_of(ref("Group")),
                "causes": list_of(ref("Group")),
                "senders": list_of(ref("Group")),
                "resting": list_of(ref("Rest")),
            }
        ),
        "Group": fields_of(group),
        "Rest": fields_of(
            {
                "destination": TEXT,
                "until": _TIME,
                "since": _TIME,
                "failures": NUMBER,
                "status": TEXT,
                "reason": TEXT,
            }
        ),
    }


def _history() -> dict[str, Schema]:
    return {
        "Message": fields_of(
            {
                "id": TEXT,
                "message_id": _MAYBE_TEXT,
                "sender": TEXT,
                "size": NUMBER,
                "tls_demand": {"type": "string", "enum": [demand.value for demand in TlsDemand]},
                "arrived": _TIME,
                "about": _MAYBE_TEXT,
                **dict.fromkeys(("login", "client", "listener", "allowed_by"), _MAYBE_TEXT),
                "ret": _MAYBE_TEXT,
                "envid": _MAYBE_TEXT,
                "recipients": list_of(ref("Recipient")),
                "attempts": list_of(ref("Attempt")),
                "acts": list_of(ref("OperatorAct")),
                "resting": list_of(ref("Rest")),
            }
        ),
        "Attempt": fields_of(
            {
                "domain": TEXT,
                "number": NUMBER,
                "began": _TIME,
                "ended": _TIME,
                "policies": list_of(TEXT),
                "tried": list_of(ref("Host")),
                "tried_left_out": NUMBER,
                "results": list_of(ref("Result")),
                "notices": list_of(fields_of({"id": TEXT, "kind": _MAYBE_TEXT, "state": {"type": ["string", "null"]}})),
            }
        ),
        "Host": fields_of(
            {
                "host": TEXT,
                "address": _MAYBE_TEXT,
                "required": TEXT,
                "rule": TEXT,
                "seen": TEXT,
                "verdict": TEXT,
                "dialogue": list_of(TEXT),
            }
        ),
        "Result": fields_of(
            {
                "recipients": list_of(TEXT),
                "state": _STATE,
                "status": TEXT,
                "reason": _MAYBE_TEXT,
                "reply": _MAYBE_TEXT,
                "host": _MAYBE_TEXT,
                "tls": _TLS,
                "next_attempt": _MAYBE_TIME,
            }
        ),
        "OperatorAct": fields_of(
            {
                "recipient": TEXT,
                "action": TEXT,
                "made": _TIME,
                "who": TEXT,
                "detail": _MAYBE_TEXT,
            }
        ),
    }


def _control() -> dict[str, Schema]:
    act = {"type": "string", "enum": [act.value for act in Act]}
    words = {**_MAYBE_TEXT, "maxLength": MAX_WORDS}
    texts: Schema = {"type": ["string", "array"], "items": TEXT}
    wanted = {name: {**(texts if name in MANY else TEXT), "description": meaning} for name, meaning in FIELDS.items()}
    wanted["limit"] = {"type": ["integer", "string"], "description": FIELDS["limit"]}
    rule = dict.fromkeys(("sender", "recipient", "domain", "login"), _MAYBE_TEXT)
    return {
        "Filter": fields_of(wanted, optional=tuple(wanted)),
        "Action": fields_of(
            {
                "action": act,
                "filter": ref("Filter"),
                "all": {**_FLAG, "description": "instead of a filter: all mail that waits"},
                "dry_run": {**_FLAG, "description": "count, and change nothing"},
                "reason": {**words, "description": "why; the sender reads it when mail is given up"},
                "to": {**words, "description": "of a reroute: a route, direct, host:port, or default"},
            },
            optional=("filter", "all", "dry_run", "reason", "to"),
        ),
        "Tally": fields_of(
            {
                "action": act,
                "dry_run": _FLAG,
                "recipients": NUMBER,
                "messages": NUMBER,
                "done": NUMBER,
                "done_messages": NUMBER,
                "under_way": NUMBER,
                "unfit": NUMBER,
                "notices": NUMBER,
            }
        ),
        "NewHoldRule": fields_of({**rule, "reason": {**TEXT, "maxLength": MAX_WORDS}}, optional=tuple(rule)),
        "HoldRule": fields_of({"id": NUMBER, **rule, "reason": TEXT, "made": _TIME}),
    }
