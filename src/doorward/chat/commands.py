"""What a client may ask over `/ws`, read strictly. Each command gets exactly one reply."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from doorward.chat.limits import MAX_TEXT_BYTES
from doorward.core.answer import shown

MAX_ID_LENGTH = 128

NAME_CHARACTERS = "[A-Za-z0-9._:-]"
NAME_PATTERN = rf"^{NAME_CHARACTERS}+\Z"
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH, pattern=NAME_PATTERN)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class ErrorCode(StrEnum):
    """What went wrong with a command. Clients act on these words, so they are stable."""

    BAD_REQUEST = "BAD_REQUEST"
    UNKNOWN_COMMAND = "UNKNOWN_COMMAND"
    MESSAGE_TOO_LONG = "MESSAGE_TOO_LONG"
    NOT_FOUND = "NOT_FOUND"
    RUN_ACTIVE = "RUN_ACTIVE"
    TOO_MANY_RUNS = "TOO_MANY_RUNS"
    TOO_MANY_THREADS = "TOO_MANY_THREADS"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    OVERLOADED = "OVERLOADED"
    RESTARTING = "RESTARTING"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a command was not done: a value, because it is expected."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """A command was done; `fields` go into the reply."""

    fields: dict[str, Any] = field(default_factory=dict)


class RunStart(msgspec.Struct, frozen=True):
    """Ask the agent. The same `run_id` twice in a thread runs once. Makes the thread unless `create` is false."""

    id: str
    thread_id: Name
    run_id: Name
    message: Annotated[str, msgspec.Meta(min_length=1)]
    create: bool = True


class RunCancel(msgspec.Struct, frozen=True):
    """Stop a run, from any tab."""

    id: str
    thread_id: Name
    run_id: Name


class ThreadSubscribe(msgspec.Struct, frozen=True):
    """Follow a thread, from the last envelope seen if any; after a `prelude` if wanted. Makes it unless `create` is false."""

    id: str
    thread_id: Name
    epoch: Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)] | None = None
    after_seq: Seq | None = None
    prelude: bool = False
    create: bool = True


class ThreadUnsubscribe(msgspec.Struct, frozen=True):
    """Stop following a thread."""

    id: str
    thread_id: Name


class Ping(msgspec.Struct, frozen=True):
    """Is the application there?"""

    id: str


Command = RunStart | RunCancel | ThreadSubscribe | ThreadUnsubscribe | Ping

COMMANDS: dict[str, type[Command]] = {
    "run.start": RunStart,
    "run.cancel": RunCancel,
    "thread.subscribe": ThreadSubscribe,
    "thread.unsubscribe": ThreadUnsubscribe,
    "ping": Ping,
}


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that is no command. `id` is `None` where not even that could be read."""

    id: str | None
    fault: Fault


def is_name(text: str) -> bool:
    """May a thread or a run be called so?"""
    return len(text) <= MAX_ID_LENGTH and re.match(NAME_PATTERN, text) is not None


def parse(message: str | bytes) -> Command | Malformed:
    """Read one message of a client. Never raises; an error text names the field and never quotes a value."""
    try:
        content = msgspec.json.decode(message)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _malformed(None, "the message is not JSON")
    if not isinstance(content, dict):
        return _malformed(None, "the message is not a JSON object")
    command_id = content.get("id")
    if not isinstance(command_id, str) or not 0 < len(command_id) <= MAX_ID_LENGTH:
        return _malformed(None, f"`id` is not a string of 1 to {MAX_ID_LENGTH} characters")
    return _command(command_id, content)


def _command(command_id: str, content: dict[str, Any]) -> Command | Malformed:
    name = content.get("type")
    if not isinstance(name, str):
        return _malformed(command_id, "`type` is not a string")
    if name not in COMMANDS:
        return Malformed(command_id, Fault(ErrorCode.UNKNOWN_COMMAND, f"no such command: {shown(name)}"))
    try:
        command = msgspec.convert(content, COMMANDS[name])
    except msgspec.ValidationError as error:
        return _malformed(command_id, str(error))
    if isinstance(command, RunStart) and len(command.message.encode()) > MAX_TEXT_BYTES:
        fault = Fault(ErrorCode.MESSAGE_TOO_LONG, f"`message` is longer than {MAX_TEXT_BYTES} bytes")
        return Malformed(command_id, fault)
    return command


def _malformed(command_id: str | None, message: str) -> Malformed:
    return Malformed(command_id, Fault(ErrorCode.BAD_REQUEST, message))


def reply(command_id: str | None, outcome: Done | Fault) -> bytes:
    """The one reply to a command, as JSON."""
    if isinstance(outcome, Fault):
        error = {"code": outcome.code.value, "message": outcome.message}
        return msgspec.json.encode({"reply_to": command_id, "error": error})
    return msgspec.json.encode({"reply_to": command_id, "ok": True, **outcome.fields})
