"""What the auth service says about a token, and the strict reading of its answer.

The contract (DESIGN: "the auth service contract"): `200 {"valid": true, "user_id": ..., ...}` or `{"valid": false, "error": ...}`.
Anything else, a string for a boolean included, is `BadAnswer`: it never becomes "no", and never "yes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from math import inf
from typing import Any, TypeGuard

import msgspec

from doorward.core.paths import value_at
from doorward.errors import BadAnswer

MAX_FOREIGN_BYTES = 200
"""Foreign text (an upstream error, an origin, a kid) is cut here wherever it is shown."""

_PLAIN = re.compile(r"[ -\[\]-~]*")
"""ASCII that needs no escape."""

MAX_PERMISSIONS = 1_000
MAX_NAME_BYTES = 1_024
MAX_SECONDS = 1e12
"""Past it a number is no time of this world: milliseconds, for instance."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Where an answer of another shape says what: names or paths (`core.paths`). An empty `valid`: every 200 is a yes."""

    valid: str = "valid"
    user_id: str = "user_id"
    email: str = "email"
    permissions: str = "permissions"
    session_id: str = "session_id"
    expires_at: str = "expires_at"
    cache_seconds: str = "cache_seconds"


INTROSPECTION = Fields("active", "sub", "email", "scope", "sid", "exp")
"""RFC 7662, section 2.2; `sid` as in OpenID Connect."""


@dataclass(frozen=True, slots=True)
class Valid:
    """The token is good. `expires_at` in wall-clock seconds, `cache_seconds` the service's own hint."""

    user_id: str
    email: str | None = None
    permissions: frozenset[str] = frozenset()
    session_id: str | None = None
    expires_at: float | None = None
    cache_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Invalid:
    """The token is not good. `reason` is foreign text, cut and escaped."""

    reason: str = ""


def shown(foreign: object) -> str:
    """Foreign text fit for a log, a reply or a page: control characters escaped, at most 200 bytes."""
    if isinstance(foreign, str) and len(foreign) <= MAX_FOREIGN_BYTES and _PLAIN.fullmatch(foreign):
        return foreign
    text = str(foreign).encode("unicode_escape", "replace")[:MAX_FOREIGN_BYTES]
    return text.decode("ascii", "ignore")


def parse_answer(body: bytes, fields: Fields | None = None) -> Valid | Invalid:
    """Read the body of a 200 from `/auth/validate`, or of another service whose fields are mapped.

    Raises:
        BadAnswer: the body is not the contract; the text says which part, never the content.
    """
    content = json_object(body)
    return read_answer(content if fields is None else _translated(content, fields))


def taken(answer: object) -> Valid | Invalid:
    """What a validator returned: one of the user's own may return anything. A time of infinity says no more than none.

    Raises:
        BadAnswer: it is no answer; the text says which part.
    """
    if isinstance(answer, Invalid):
        return answer
    user_id: object = answer.user_id if isinstance(answer, Valid) else None
    if not isinstance(answer, Valid) or not isinstance(user_id, str) or not user_id:
        raise BadAnswer("neither Invalid, nor Valid with a user")
    if answer.expires_at is None and answer.cache_seconds is None:
        return answer
    return replace(
        answer,
        expires_at=_finite(answer.expires_at, "expires_at"),
        cache_seconds=_finite(answer.cache_seconds, "cache_seconds"),
    )


def _finite(seconds: object, name: str) -> float | None:
    if seconds is None or seconds == inf:
        return None
    if not _is_seconds(seconds):
        raise BadAnswer(f"`{name}` of the validator's Valid is not a number of seconds from 0 to {MAX_SECONDS:g}")
    return float(seconds)


def _is_seconds(value: object) -> TypeGuard[int | float]:
    """NaN is none. Nor is a bool, though Python calls it an `int`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_SECONDS


def json_object(body: bytes) -> dict[str, Any]:
    """Raises: BadAnswer: it is none."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadAnswer("the answer is not JSON") from error
    if not isinstance(content, dict):
        raise BadAnswer("the answer is not a JSON object")
    return content


def read_answer(content: dict[str, Any]) -> Valid | Invalid:
    """An answer in the words of the contract.

    Raises:
        BadAnswer: it is not the contract; the text says which part, never the content.
    """
    valid = content.get("valid")
    if valid is False:
        reason = content.get("error")
        return Invalid(shown(reason) if isinstance(reason, str) else "")
    if valid is not True:
        raise BadAnswer("`valid` is not a boolean")
    return Valid(
        user_id=_text(content, "user_id", required=True) or "",
        email=_text(content, "email"),
        permissions=_permissions(content.get("permissions")),
        session_id=_text(content, "session_id"),
        expires_at=_number(content, "expires_at"),
        cache_seconds=_number(content, "cache_seconds"),
    )


def _translated(content: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """In the words of the contract. Other services number their users, write permissions as words and times as RFC 3339."""
    user_id = value_at(content, fields.user_id)
    permissions = value_at(content, fields.permissions)
    return {
        "valid": value_at(content, fields.valid) if fields.valid else True,
        "error": content.get("error"),
        "user_id": str(user_id) if isinstance(user_id, int) and not isinstance(user_id, bool) else user_id,
        "email": value_at(content, fields.email),
        "permissions": permissions.split() if isinstance(permissions, str) else permissions,
        "session_id": value_at(content, fields.session_id),
        "expires_at": _seconds(value_at(content, fields.expires_at)),
        "cache_seconds": value_at(content, fields.cache_seconds),
    }


def _seconds(moment: object) -> object:
    """Wall-clock seconds where it is an RFC 3339 time; whatever else as it is."""
    if not isinstance(moment, str):
        return moment
    try:
        parsed = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return parsed.timestamp() if parsed.tzinfo is not None else moment


def _text(content: dict[str, Any], key: str, *, required: bool = False) -> str | None:
    """An optional text may be absent, null or empty: all three say nothing."""
    value = content.get(key)
    if not required and value in (None, ""):
        return None
    if not isinstance(value, str) or not value or len(value) > MAX_NAME_BYTES:
        raise BadAnswer(f"`{key}` is not a non-empty string of at most {MAX_NAME_BYTES} characters")
    return value


def _number(content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    if not _is_seconds(value):
        raise BadAnswer(f"`{key}` is not a non-negative number")
    return float(value)


def _permissions(value: object) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list) or len(value) > MAX_PERMISSIONS or not all(isinstance(item, str) for item in value):
        raise BadAnswer(f"`permissions` is not a list of at most {MAX_PERMISSIONS} strings")
    return one_of_equals(frozenset(value))


@lru_cache(maxsize=256)
def one_of_equals(permissions: frozenset[str]) -> frozenset[str]:
    """The same set for all who have the same permissions: thousands of tokens are open at a time, and few kinds of users."""
    return permissions
