"""What a close, a refusal over HTTP or a broken line means, and what to do about it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from doorward.core.answer import shown
from doorward.core.verdict import TABLE, Action, close_code

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WAIT_SECONDS = 86_400.0
NO_STATUS = 1006
"""No close frame came (RFC 6455, section 7.1.5)."""

_ACTION_OF_CODE = {row.code.value: row.action for row in TABLE}
_ACTION_OF_CLOSE = {
    close_code(row, style=style): row.action for row in TABLE if row.close for style in ("iana", "http")
}
_ACTION_OF_STATUS = {401: Action.SIGN_IN, 408: Action.RETRY, 425: Action.RETRY, 429: Action.RETRY}
_WORD = re.compile(r"[A-Z][A-Z_]{0,63}")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the connection is away.

    `code` is a word of the protocol, or one of ours: CONNECTION_LOST, CONNECT_FAILED, CONNECT_TIMEOUT, TLS_FAILED,
    TOKEN_UNAVAILABLE (no fresh token could be had), SIGNED_OUT, CLOSED, INTERNAL, or HTTP_<status> where somebody else answered.
    """

    code: str
    action: Action
    cause: str | None = None
    decision_id: str | None = None
    retry_after_seconds: float | None = None
    close_code: int | None = None
    status: int | None = None
    detail: str = ""
    """In words, where ours are too few: what the system said."""


def action_for(closed_with: int, code: str | None = None) -> Action:
    """The word of the protocol decides, else the close code, else try again."""
    return _ACTION_OF_CODE.get(code or "") or _ACTION_OF_CLOSE.get(closed_with, Action.RETRY)


def of_close(closed_with: int, text: str = "", frame: Mapping[str, Any] | None = None) -> Reason:
    """The meaning of a close frame: `CODE;retry_after_ms=1840;id=<decision id>`, and the `auth.error` frame before it, if one came.

    What cannot be read is left out; there is nothing that a server could say here that is an error.
    """
    word, *fields = text.split(";")
    said = dict(field.split("=", 1) for field in fields if "=" in field)
    frame = frame or {}
    code = _word(frame.get("code")) or _word(word)
    action = frame.get("action")
    return Reason(
        code=code or ("RESTARTING" if closed_with == 1012 else "CONNECTION_LOST"),
        action=Action(action) if action in list(Action) else action_for(closed_with, code),
        cause=_text(frame.get("cause")),
        decision_id=_text(frame.get("decision_id")) or _text(said.get("id")),
        retry_after_seconds=_first(milliseconds(frame.get("retry_after_ms")), milliseconds(said.get("retry_after_ms"))),
        close_code=closed_with,
    )


def of_answer(status: int, retry_after: str | None, body: bytes) -> Reason:
    """The meaning of an opening handshake that was answered over HTTP: the door's problem details (RFC 9457), or anybody's page."""
    problem = _object(body)
    code = _word(problem.get("code"))
    by_status = _ACTION_OF_STATUS.get(status, Action.RETRY if status >= 500 else Action.STOP)
    return Reason(
        code=code or f"HTTP_{status}",
        action=_ACTION_OF_CODE.get(code or "", by_status),
        cause=_text(problem.get("cause")),
        decision_id=_text(problem.get("decision_id")),
        retry_after_seconds=_first(milliseconds(problem.get("retry_after_ms")), header_seconds(retry_after)),
        status=status,
    )


def header_seconds(value: str | None) -> float | None:
    """`Retry-After` in seconds; a date in it is not read (the client's clock may be anything)."""
    text = (value or "").strip()
    return min(float(text), MAX_WAIT_SECONDS) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


def milliseconds(value: object) -> float | None:
    """A number of milliseconds, or its text, as seconds; `None` where it is neither."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:12])
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return min(value / 1000, MAX_WAIT_SECONDS)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _text(value: object) -> str | None:
    return shown(value) if isinstance(value, str) else None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
