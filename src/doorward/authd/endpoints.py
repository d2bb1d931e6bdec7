"""The endpoints: each reads its request, asks the service, and shapes the answer."""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from doorward.authd import accounts
from doorward.authd.addresses import Network, client_address
from doorward.authd.feed import CURSOR_PATTERN, MAX_WAIT_SECONDS, Position
from doorward.authd.passwords import MAX_PASSWORD_BYTES
from doorward.authd.service import AuthService, Validated
from doorward.authd.tokens import Unacceptable
from doorward.authd.wire import (
    MAX_ID_CHARACTERS,
    BadRequest,
    Healthy,
    LoginBody,
    LogoutBody,
    NotValid,
    RefreshBody,
    RegisterBody,
    RevocationPage,
    RevocationView,
    RevokeBody,
    Revoked,
    UserView,
    Valid,
    ValidateBody,
    decode,
    parse,
    problem,
    read_body,
    refusal,
    signed_in,
    to_json,
)
from doorward.runtime.ports import RevocationItem

KEY_SET_SECONDS = 300


class BearerRefused(Exception):
    """The access token is missing or not good."""


class ServiceRefused(Exception):
    """The service credential is missing or wrong."""


async def register(request: Request) -> Response:
    body = await parse(request, RegisterBody)
    return signed_in(await _service(request).register(_address(request), body.email, body.password), 201)


async def login(request: Request) -> Response:
    body = await parse(request, LoginBody)
    service, address = _service(request), _address(request)
    match body:
        case LoginBody(email=str(email), password=str(password), one_time_code=None):
            if not password or len(password.encode()) > MAX_PASSWORD_BYTES:
                raise BadRequest(f"password must have 1 to {MAX_PASSWORD_BYTES} bytes")
            return signed_in(await service.login(address, email, password))
        case LoginBody(email=None, password=None, one_time_code=str(code)):
            return signed_in(await service.login_with_code(address, code))
    raise BadRequest("send either email and password, or one_time_code")


async def refresh(request: Request) -> Response:
    body = await parse(request, RefreshBody)
    return signed_in(await _service(request).refresh(body.refresh_token))


async def logout(request: Request) -> Response:
    content = await read_body(request)
    body = decode(content, LogoutBody) if content else LogoutBody()
    if body.refresh_token is not None:
        await _service(request).logout(refresh_token=body.refresh_token)
    elif "authorization" in request.headers:
        await _service(request).logout(session_id=(await _bearer(request)).session_id)
    else:
        raise BadRequest("send refresh_token, or an access token as bearer")
    return Response(status_code=204, headers={"cache-control": "no-store"})


async def me(request: Request) -> Response:
    return to_json(UserView.of((await _bearer(request)).user))


async def revoke(request: Request) -> Response:
    caller = await _bearer(request)
    if accounts.ADMIN not in caller.user.permissions:
        return refusal(403, "forbidden", f"needs the permission {accounts.ADMIN}")
    item = _revocation(await parse(request, RevokeBody))
    if not await _service(request).revoke(item):
        return problem(404, "NOT_FOUND", "There is no such session or user")
    return to_json(Revoked(revoked=True))


async def validate(request: Request) -> Response:
    await _check_service(request)
    body = await parse(request, ValidateBody)
    result = await _service(request).validate(body.token, body.audience)
    if isinstance(result, Unacceptable):
        return to_json(NotValid(valid=False, error=result.reason))
    user = result.user
    return to_json(
        Valid(
            valid=True,
            user_id=user.user_id,
            email=user.email,
            permissions=user.permissions,
            session_id=result.session_id,
            expires_at=result.expires_at,
        )
    )


async def revocations(request: Request) -> Response:
    await _check_service(request)
    position, wait_seconds = _position(request), _wait_seconds(request)
    page = await _service(request).feed.poll(position, wait_seconds=wait_seconds)
    items = [RevocationView.of(item) for item in page.items]
    return to_json(RevocationPage(page.epoch, str(page.cursor), page.as_of, page.more, items))


async def health(request: Request) -> Response:
    await _service(request).check_health()
    return to_json(Healthy("ok"))


async def key_set(request: Request) -> Response:
    return Response(
        _service(request).key_set(),
        headers={"cache-control": f"public, max-age={KEY_SET_SECONDS}"},
        media_type="application/json",
    )


def _service(request: Request) -> AuthService:
    return cast("AuthService", request.app.state.service)


def _address(request: Request) -> str:
    trusted = cast("tuple[Network, ...]", request.app.state.trusted_proxies)
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    return client_address(request.client.host if request.client else "", forwarded or None, trusted)


async def _bearer(request: Request) -> Validated:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise BearerRefused
    result = await _service(request).validate(token.strip())
    if isinstance(result, Unacceptable):
        raise BearerRefused
    return result


async def _check_service(request: Request) -> None:
    """HTTP Basic (RFC 7617) with the credential of a service."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ServiceRefused from None
    service_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon or not await _service(request).is_service(service_id, secret):
        raise ServiceRefused


def _revocation(body: RevokeBody) -> RevocationItem:
    given = [value for value in (body.jti, body.session_id, body.user_id) if value is not None]
    if len(given) != 1 or not 0 < len(given[0]) <= MAX_ID_CHARACTERS:
        raise BadRequest(f"send exactly one of jti, session_id and user_id, of 1 to {MAX_ID_CHARACTERS} characters")
    return RevocationItem(jti=body.jti, session_id=body.session_id, user_id=body.user_id)


def _position(request: Request) -> Position | None:
    after, epoch = request.query_params.get("after"), request.query_params.get("epoch")
    if after is None and epoch is None:
        return None
    if after is None or epoch is None:
        raise BadRequest("after and epoch go together; send neither for a snapshot")
    if not re.fullmatch(CURSOR_PATTERN, after):
        raise BadRequest("after is not a cursor of this feed")
    return Position(epoch, int(after))


def _wait_seconds(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        raise BadRequest("wait is not a number of seconds") from None
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise BadRequest(f"wait must be between 0 and {MAX_WAIT_SECONDS:g} seconds")
    return seconds
