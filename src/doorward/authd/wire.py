"""HTTP bodies in and out: strict reading, and the shapes of answers."""

from __future__ import annotations

import asyncio
import math
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from doorward.authd.service import SignedIn
from doorward.core.answer import shown
from doorward.runtime.ports import RevocationItem

S = TypeVar("S", bound=msgspec.Struct)

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 5.0
PROBLEMS = "https://doorward.dev/problems/"


class BadRequest(Exception):
    """The body or the query is not what the endpoint takes. The text may go back to the peer."""


class BodyTooLarge(Exception):
    """More than `MAX_BODY_BYTES`."""


class BodyTooSlow(Exception):
    """Not complete within `BODY_SECONDS`."""


class Body(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all requests: an unknown field is an error, not a surprise later."""


class RegisterBody(Body, frozen=True):
    email: str
    password: str


class LoginBody(Body, frozen=True):
    email: str | None = None
    password: str | None = None
    one_time_code: str | None = None


class RefreshBody(Body, frozen=True):
    refresh_token: str


class LogoutBody(Body, frozen=True):
    refresh_token: str | None = None


class RevokeBody(Body, frozen=True):
    jti: str | None = None
    session_id: str | None = None
    user_id: str | None = None


class ValidateBody(Body, frozen=True):
    token: str
    audience: str | None = None


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge, BodyTooSlow: past a bound; nothing more is read.
        BadRequest: the client left.

    Cancellation: nothing is left behind.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:12]) > MAX_BODY_BYTES:
        raise BodyTooLarge
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BodyTooLarge
    except TimeoutError:
        raise BodyTooSlow from None
    except ClientDisconnect:
        raise BadRequest("the body is not complete") from None
    return bytes(body)


async def parse(request: Request, kind: type[S]) -> S:
    """The body as a `kind`.

    Raises:
        BadRequest: not JSON, a wrong type, a missing or an unknown field; the text names it and never holds a value.
        BodyTooLarge, BodyTooSlow: as `read_body`.

    Cancellation: nothing is left behind.
    """
    return decode(await read_body(request), kind)


def decode(body: bytes, kind: type[S]) -> S:
    """As `parse`, from bytes."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(shown(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BadRequest("the body is not a JSON object") from None


def to_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer that no cache keeps."""
    return Response(
        msgspec.json.encode(content),
        status,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def refusal(
    status: int, error: str, message: str | None = None, *, retry_after_seconds: float | None = None
) -> Response:
    """`{"error": ...}` as OAuth has it: the word for the program, the message for people."""
    content = {"error": error} if message is None else {"error": error, "message": message}
    return to_json(content, status, _retry_header(retry_after_seconds))


def problem(status: int, code: str, title: str, *, retry_after_seconds: float | None = None) -> Response:
    """Problem details (RFC 9457)."""
    content: dict[str, Any] = {
        "type": PROBLEMS + code.lower().replace("_", "-"),
        "title": title,
        "status": status,
        "code": code,
    }
    if retry_after_seconds is not None:
        content["retry_after_ms"] = math.ceil(retry_after_seconds * 1000)
    response = to_json(content, status, _retry_header(retry_after_seconds))
    response.headers["content-type"] = "application/problem+json"
    return response


def signed_in(result: SignedIn, status: int = 200) -> Response:
    user = result.user
    return to_json(
        {
            "access_token": result.access_token,
            "token_type": "Bearer",
            "expires_in": result.expires_in,
            "refresh_token": result.refresh_token,
            "user": {"user_id": user.user_id, "email": user.email, "permissions": user.permissions},
        },
        status,
    )


def revocation(item: RevocationItem) -> dict[str, Any]:
    """One item of the feed."""
    if item.jti is not None:
        return {"jti": item.jti}
    if item.session_id is not None:
        return {"session_id": item.session_id}
    return {"user_id": item.user_id, "not_before": item.not_before_ms}


def _retry_header(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"retry-after": str(max(math.ceil(seconds), 1))}
