"""The protocol of `/ws` as an AsyncAPI 3.0 document, made from the structs that read the commands and write the envelopes.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from typing import Any

import msgspec
from ag_ui.core import EventType

from doorward.chat.commands import COMMANDS, MAX_ID_LENGTH, ErrorCode
from doorward.chat.envelope import Envelope, SyntheticEnvelope

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}
_YES_OR_NO: Schema = {"type": "boolean"}
_ID: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH}
_ASSURANCE: Schema = {"type": "string", "enum": ["live", "cached", "local"]}
_SECONDS_OR_NONE: Schema = {"type": ["number", "null"], "description": "wall-clock seconds since 1970"}


def _struct(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


_THREAD = _struct(
    {
        "thread_id": _ID,
        "title": {"type": ["string", "null"]},
        "created_at": {"type": "string", "format": "date-time"},
        "updated_at": {"type": "string", "format": "date-time"},
        "active_run_id": {"type": ["string", "null"]},
    }
)

REPLIES: dict[str, dict[str, Schema]] = {
    "run.start": {"run_id": _ID, "duplicate": _YES_OR_NO},
    "run.cancel": {"run_id": _ID, "cancelled": _YES_OR_NO},
    "thread.subscribe": {
        "thread_id": _ID,
        "epoch": _TEXT,
        "after_seq": _NUMBER,
        "resumed": _YES_OR_NO,
        "active_run_id": {"type": ["string", "null"]},
    },
    "thread.unsubscribe": {"thread_id": _ID},
    "ping": {},
    "auth.refresh": {"expires_at": _SECONDS_OR_NONE, "assurance": _ASSURANCE},
}
"""What a reply to each command holds beside `reply_to` and `ok`."""

NOTICES: dict[str, tuple[dict[str, Schema], dict[str, Schema]]] = {
    "auth.assurance": (
        {"assurance": _ASSURANCE, "degraded": _YES_OR_NO},
        {"user_id": _TEXT, "decision_id": _TEXT, "expires_at": _SECONDS_OR_NONE},
    ),
    "auth.expiring": ({"expires_in_ms": _NUMBER}, {}),
    "auth.grace": ({"until": {"type": "number"}}, {}),
    "server.draining": ({"retry_after_ms": _NUMBER}, {}),
    "thread.changed": ({"thread": _THREAD}, {}),
    "thread.deleted": ({"thread_id": _ID}, {}),
}
"""The fields of each notice: those that are always there, and those that may be."""


def document(version: str) -> Schema:
    """The whole document, JSON-able. `version` is the product's."""
    commands = {f"command.{name}": _command(name) for name in COMMANDS} | {"command.auth.refresh": _refresh()}
    answers = {f"reply.{name}": _reply(name, fields) for name, fields in REPLIES.items()}
    notices = {f"notice.{name}": _notice(name, *fields) for name, fields in NOTICES.items()}
    sent = {
        **answers,
        "reply.error": _error(),
        "envelope": _message("One event of a thread, in its place", _envelope()),
        "envelope.synthetic": _message("An event made for this subscriber alone", _synthetic()),
        **notices,
        "auth.error": _auth_error(),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Doorward chat",
            "version": version,
            "description": (
                "What `doorward serve` speaks on `/ws`: AG-UI events in envelopes that can be resumed. "
                "The rules around the messages are in chat-protocol.md."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws", "description": "`doorward up`"}},
        "channels": {
            "ws": {
                "address": "/ws",
                "description": "One socket per tab. Offer the subprotocol `doorward.v1`; messages are JSON in text frames.",
                "messages": {_name(key): {"$ref": f"#/components/messages/{_name(key)}"} for key in (*commands, *sent)},
            }
        },
        "operations": {
            "command": _operation("receive", "What a client asks; each gets exactly one reply", commands),
            "deliver": _operation("send", "Replies, events and notices", sent),
        },
        "components": {"messages": {_name(key): {"name": key, **value} for key, value in {**commands, **sent}.items()}},
    }


def _name(key: str) -> str:
    """Keys of components hold no dots in every tool that reads them."""
    return key.replace(".", "_")


def _operation(action: str, summary: str, messages: dict[str, Schema]) -> Schema:
    refs = [{"$ref": f"#/channels/ws/messages/{_name(key)}"} for key in messages]
    return {"action": action, "channel": {"$ref": "#/channels/ws"}, "summary": summary, "messages": refs}


def _message(summary: str, payload: Schema) -> Schema:
    return {"summary": summary, "payload": payload}


def _command(name: str) -> Schema:
    kind = COMMANDS[name]
    payload = _schema_of(kind)
    payload["properties"] = {"id": _ID, "type": {"const": name}, **_without(payload["properties"], "id")}
    payload["required"] = ["id", "type", *(field for field in payload["required"] if field != "id")]
    return _message((kind.__doc__ or "").strip(), payload)


def _refresh() -> Schema:
    fields = {"id": _ID, "type": {"const": "auth.refresh"}, "token": _TEXT}
    return _message("Renew the token of this connection; answered by the door itself.", _struct(fields))


def _reply(name: str, fields: dict[str, Schema]) -> Schema:
    return _message(f"`{name}` was done", _struct({"reply_to": _ID, "ok": {"const": True}, **fields}))


def _error() -> Schema:
    codes: Schema = {"type": "string", "examples": [code.value for code in ErrorCode]}
    error = _struct({"code": codes, "message": _TEXT})
    return _message("A command was not done", _struct({"reply_to": {"type": ["string", "null"]}, "error": error}))


def _notice(name: str, always: dict[str, Schema], sometimes: dict[str, Schema]) -> Schema:
    return _message("A word outside every thread", _struct({"notice": {"const": name}, **always}, sometimes))


def _auth_error() -> Schema:
    always = {"type": {"const": "auth.error"}, "code": _TEXT, "decision_id": _TEXT}
    action: Schema = {"type": "string", "enum": ["retry", "sign_in", "stop"]}
    sometimes = {"cause": {"type": ["string", "null"]}, "retry_after_ms": {"type": ["integer", "null"]}}
    return _message("The last word before the door closes", _struct({**always, "action": action}, sometimes))


def _envelope() -> Schema:
    payload = _schema_of(Envelope)
    payload["properties"] |= {"event": _event(), "v": {"const": 1}}
    payload["required"] = [*payload["required"], "v"]
    return payload


def _synthetic() -> Schema:
    payload = _schema_of(SyntheticEnvelope)
    payload["properties"] |= {"event": _event(), "v": {"const": 1}, "synthetic": {"const": True}}
    payload["required"] = [*payload["required"], "synthetic", "v"]
    return payload


def _event() -> Schema:
    kinds = sorted(kind.value for kind in EventType)
    return {
        **_struct({"type": {"type": "string", "enum": kinds}}),
        "description": "An event of AG-UI 1.0, in camelCase",
    }


def _schema_of(kind: type[msgspec.Struct]) -> Schema:
    """The struct's own JSON Schema, taken out of its reference. Patterns end as ECMA-262 ends them."""
    (_,), components = msgspec.json.schema_components((kind,))
    schema: Schema = _without(components[kind.__name__], "title", "description")
    for field in schema["properties"].values():
        if "pattern" in field:
            field["pattern"] = field["pattern"].replace(r"\Z", "$")
    return schema


def _without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in names}
