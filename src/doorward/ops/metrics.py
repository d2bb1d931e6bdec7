"""`/metrics` for Prometheus: for this very host, or for whoever holds the token."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from starlette.responses import Response
from starlette.routing import Route

from doorward.chat.problem import problem

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from pydantic import SecretStr
    from starlette.requests import Request

FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""With one of these a loopback peer is a proxy, and the request is somebody else's."""


def metrics_route(registry: CollectorRegistry, *, token: SecretStr | None) -> Route:
    """The route. Open to loopback peers that forward for nobody, and to `Authorization: Bearer <token>` where a token is set."""

    async def metrics(request: Request) -> Response:
        if not _is_local(request) and not _holds(request, token):
            return _refused(token)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return Route("/metrics", metrics)


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in FORWARDING_HEADERS):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _holds(request: Request, token: SecretStr | None) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is None or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(), token.get_secret_value().encode())


def _refused(token: SecretStr | None) -> Response:
    if token is None:
        return problem(
            403, "FORBIDDEN", "Metrics are for this host only; set serve.metrics_token to read them from elsewhere."
        )
    return problem(401, "AUTH_REQUIRED", "A bearer token is required.", headers={"WWW-Authenticate": "Bearer"})
