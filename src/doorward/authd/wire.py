"""HTTP bodies in and out: strict reading, and the shapes of answers."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from doorward.authd.accounts import EMAIL_PATTERN, MAX_EMAIL_CHARACTERS, User
from doorward.authd.passwords import MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARACTERS
from doorward.authd.service import SignedIn
from doorward.core.answer import shown
from doorward.runtime.ports import RevocationItem

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

MAX_ID_CHARACTERS = 256
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


def _told(**schema: Any) -> msgspec.Meta:
    """What the interface's document says of a field whose reading says it in words of its own."""
    return msgspec.Meta(extra_json_schema=schema)


Email = Annotated[str, _told(maxLength=MAX_EMAIL_CHARACTERS, pattern=rf"^\s*{EMAIL_PATTERN}\s*$")]
Password = Annotated[str, _told(minLength=1, maxLength=MAX_PASSWORD_BYTES)]
NewPassword = Annotated[str, _told(minLength=MIN_PASSWORD_CHARACTERS, maxLength=MAX_PASSWORD_BYTES)]
Identifier = Annotated[str, _told(minLength=1, maxLength=MAX_ID_CHARACTERS)]


class RegisterBody(Body, frozen=True):
    email: Email
    password: NewPassword


class LoginBody(Body, frozen=True):
    email: str | None = None
    password: Password | None = None
    one_time_code: str | None = None


class RefreshBody(Body, frozen=True):
    refresh_token: str


class LogoutBody(Body, frozen=True):
    refresh_token: str | None = None


class RevokeBody(Body, frozen=True):
    jti: Identifier | None = None
    session_id: Identifier | None = None
    user_id: Identifier | None = None


class ValidateBody(Body, frozen=True):
    token: str
    audience: str | None = None


class UserView(msgspec.Struct, frozen=True):
    user_id: str
    email: str
    permissions: tuple[str, ...]

    @classmethod
    def of(cls, user: User) -> UserView:
        return cls(user.user_id, user.email, user.permissions)


class Tokens(msgspec.Struct, frozen=True):
    """`expires_in`: seconds that the access token lives."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    user: UserView


class Valid(msgspec.Struct, frozen=True):
    """A good token. `expires_at` in seconds since 1970."""

    valid: Annotated[bool, msgspec.Meta(extra_json_schema={"const": True})]
    user_id: str
    email: str
    permissions: tuple[str, ...]
    session_id: str
    expires_at: float


class NotValid(msgspec.Struct, frozen=True):
    """A definitive no; `error` says why."""

    valid: Annotated[bool, msgspec.Meta(extra_json_schema={"const": False})]
    error: str


class Revoked(msgspec.Struct, frozen=True):
    revoked: bool


class RevocationView(msgspec.Struct, frozen=True, omit_defaults=True):
    """Exactly one of `jti`, `session_id` and `user_id`; `not_before`, in milliseconds, goes with `user_id`."""

    jti: str | msgspec.UnsetType = msgspec.UNSET
    session_id: str | msgspec.UnsetType = msgspec.UNSET
    user_id: str | msgspec.UnsetType = msgspec.UNSET
    not_before: int | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, item: RevocationItem) -> RevocationView:
        return cls(_given(item.jti), _given(item.session_id), _given(item.user_id), _given(item.not_before_ms))


class RevocationPage(msgspec.Struct, frozen=True):
    """`as_of`: seconds since 1970 on the service's clock. `more`: poll again at once."""

    epoch: str
    cursor: str
    as_of: float
    more: bool
    items: list[RevocationView]


class Healthy(msgspec.Struct, frozen=True):
    status: str


class PublishedKey(msgspec.Struct, frozen=True):
    """A public key (RFC 7517, 7518)."""

    kty: str
    crv: str
    x: str
    y: str
    kid: str
    alg: str
    use: str


class PublishedKeys(msgspec.Struct, frozen=True):
    keys: list[PublishedKey]


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """As OAuth has it: the word for the program, the message for people."""

    error: str
    message: str | msgspec.UnsetType = msgspec.UNSET


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    retry_after_ms: int | msgspec.UnsetType = msgspec.UNSET


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
    """`Refusal`, with `Retry-After` where it is known."""
    return to_json(Refusal(error, _given(message)), status, _retry_header(retry_after_seconds))


def problem(status: int, code: str, title: str, *, retry_after_seconds: float | None = None) -> Response:
    """`Problem`, with `Retry-After` where it is known."""
    retry_after_ms = None if retry_after_seconds is None else math.ceil(retry_after_seconds * 1000)
    content = Problem(PROBLEMS + code.lower().replace("_", "-"), title, status, code, _given(retry_after_ms))
    response = to_json(content, status, _retry_header(retry_after_seconds))
    response.headers["content-type"] = "application/problem+json"
    return response


def signed_in(result: SignedIn, status: int = 200) -> Response:
    user = UserView.of(result.user)
    return to_json(Tokens(result.access_token, "Bearer", result.expires_in, result.refresh_token, user), status)


def _given(value: T | None) -> T | msgspec.UnsetType:
    """What is not there is left out, not null."""
    return msgspec.UNSET if value is None else value


def _retry_header(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"retry-after": str(max(math.ceil(seconds), 1))}
