"""The auth service as an ASGI application. Run it with any ASGI server; its lifespan opens and closes everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from doorward.authd import endpoints
from doorward.authd.addresses import parse_networks
from doorward.authd.endpoints import BearerRefused, ServiceRefused
from doorward.authd.feed import CursorGone, Draining, TooManyWaiting
from doorward.authd.openapi import document
from doorward.authd.passwords import HashQueueFull
from doorward.authd.service import AuthService, Refused, TooManyAttempts
from doorward.authd.wire import BadRequest, BodyTooLarge, BodyTooSlow, problem, refusal, to_json
from doorward.config import Settings
from doorward.errors import StoreError, UsageError
from doorward.runtime.log import get_logger

log = get_logger("doorward.authd")

RETRY_SECONDS = 1.0
PREFLIGHT_SECONDS = 600

_STATUS_OF_REFUSAL = {"invalid_credentials": 401, "invalid_grant": 400, "email_taken": 409}


def create_app(settings: Settings, *, issuer: str) -> Starlette:
    """Build the application. Nothing is opened before its lifespan starts.

    Start-up raises `ConfigError` where the settings cannot work. Call `drain(app)` when the server is told to stop, so that long
    polls are answered at once. Let the server itself ignore X-Forwarded-For: `trusted_proxies` decides about it here.

    Args:
        issuer: `iss` of the tokens, exactly as the doors expect it.
    """
    app = Starlette(
        routes=_routes(allow_register=settings.authd.allow_register),
        middleware=_middleware(settings),
        exception_handlers=_ANSWERS,
        lifespan=_lifespan(settings, issuer),
    )
    app.state.trusted_proxies = parse_networks(settings.trusted_proxies)
    app.state.drain = lambda: None
    return app


def drain(app: Starlette) -> None:
    """Answer all long polls now and take no new ones. May be called from a signal handler or another thread."""
    app.state.drain()


def _routes(*, allow_register: bool) -> list[Route]:
    interface = document(version("doorward"))

    async def openapi(_: Request) -> Response:
        return to_json(interface)

    routes = [
        Route("/auth/openapi.json", openapi, methods=["GET"]),
        Route("/auth/login", endpoints.login, methods=["POST"]),
        Route("/auth/refresh", endpoints.refresh, methods=["POST"]),
        Route("/auth/logout", endpoints.logout, methods=["POST"]),
        Route("/auth/revoke", endpoints.revoke, methods=["POST"]),
        Route("/auth/validate", endpoints.validate, methods=["POST"]),
        Route("/auth/me", endpoints.me, methods=["GET"]),
        Route("/auth/health", endpoints.health, methods=["GET"]),
        Route("/auth/revocations", endpoints.revocations, methods=["GET"]),
        Route("/.well-known/jwks.json", endpoints.key_set, methods=["GET"]),
    ]
    if allow_register:
        routes.append(Route("/auth/register", endpoints.register, methods=["POST"]))
    return routes


def _middleware(settings: Settings) -> list[Middleware]:
    if not settings.authd.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.authd.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after"],
            max_age=PREFLIGHT_SECONDS,
        )
    ]


def _lifespan(settings: Settings, issuer: str) -> Callable[[Starlette], Any]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service = await AuthService.open(settings, issuer=issuer)
        loop = asyncio.get_running_loop()
        app.state.service = service
        app.state.drain = lambda: loop.call_soon_threadsafe(service.drain)
        try:
            yield
        finally:
            app.state.drain = lambda: None
            await service.aclose()

    return lifespan


def _refused(error: Exception) -> Response:
    word = error.error if isinstance(error, Refused) else "invalid_request"
    return refusal(_STATUS_OF_REFUSAL.get(word, 400), word)


def _bad_request(error: Exception) -> Response:
    return refusal(400, "invalid_request", str(error))


def _too_many_attempts(error: Exception) -> Response:
    seconds = error.retry_after_seconds if isinstance(error, TooManyAttempts) else RETRY_SECONDS
    return refusal(429, "too_many_attempts", retry_after_seconds=seconds)


def _bearer_refused(_error: Exception) -> Response:
    response = refusal(401, "invalid_token")
    response.headers["www-authenticate"] = 'Bearer error="invalid_token"'
    return response


def _service_refused(_error: Exception) -> Response:
    log.warning("authd.service_refused")
    response = refusal(401, "invalid_client")
    response.headers["www-authenticate"] = 'Basic realm="doorward", charset="UTF-8"'
    return response


def _store_failed(error: Exception) -> Response:
    log.error("authd.store_failed", error=str(error))
    return problem(503, "STORE_UNAVAILABLE", "The store did not answer", retry_after_seconds=RETRY_SECONDS)


def _draining(_error: Exception) -> Response:
    response = problem(503, "RESTARTING", "The service is stopping", retry_after_seconds=RETRY_SECONDS)
    response.headers["connection"] = "close"
    return response


def _overloaded(_error: Exception) -> Response:
    return problem(503, "OVERLOADED", "Too many long polls are waiting", retry_after_seconds=RETRY_SECONDS)


def _cursor_gone(_error: Exception) -> Response:
    return problem(410, "CURSOR_EXPIRED", "Start again from a snapshot: send neither after nor epoch")


def _too_large(_error: Exception) -> Response:
    return _closing(problem(413, "BODY_TOO_LARGE", "The body is larger than 64 KiB"))


def _too_slow(_error: Exception) -> Response:
    return _closing(problem(408, "BODY_TOO_SLOW", "The body did not arrive in time"))


def _http_error(error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(status, "HTTP_ERROR")
    response = problem(status, code, str(getattr(error, "detail", "")))
    response.headers.update(getattr(error, "headers", None) or {})
    return response


def _our_bug(_error: Exception) -> Response:
    return problem(500, "INTERNAL", "This is a bug of the auth service", retry_after_seconds=RETRY_SECONDS)


def _closing(response: Response) -> Response:
    """The rest of the body is not read, so the connection cannot be used again."""
    response.headers["connection"] = "close"
    return response


def _answering(shape: Callable[[Exception], Response]) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        return shape(error)

    return answer


_ANSWERS: dict[Any, Any] = {
    kind: _answering(shape)
    for kind, shape in {
        BadRequest: _bad_request,
        UsageError: _bad_request,
        Refused: _refused,
        TooManyAttempts: _too_many_attempts,
        HashQueueFull: _too_many_attempts,
        BearerRefused: _bearer_refused,
        ServiceRefused: _service_refused,
        StoreError: _store_failed,
        Draining: _draining,
        TooManyWaiting: _overloaded,
        CursorGone: _cursor_gone,
        BodyTooLarge: _too_large,
        BodyTooSlow: _too_slow,
        HTTPException: _http_error,
        Exception: _our_bug,
    }.items()
}
