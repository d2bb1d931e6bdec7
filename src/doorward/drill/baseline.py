"""The old way, as a process of its own: the client that made people wait for minutes, and the fix that was tried first.

    python -m doorward.drill.baseline WAY LISTENER < upstream.json

`WAY` is one of `post-mortem`, `post-mortem-fix` and `open` (asks nobody: what stands behind a proxy that asks). `LISTENER` is the
descriptor of an inherited listening socket; stdin has the fields of `results.Upstream`. It is kept as it was on purpose: phase
timeouts and no deadline, ten connections for everybody, three attempts, and one answer for "no" and for "could not ask".
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import httpx
import uvicorn
from prometheus_client.exposition import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from doorward.adapters.prometheus import PrometheusMetrics
from doorward.core.verdict import Code, Source
from doorward.drill.results import Upstream

CONNECTIONS = 10
ATTEMPTS = 3
GREETING = {"notice": "auth.assurance", "assurance": "live", "degraded": False}
"""Said at once, as our own door does: then a client knows the moment at which it was let in."""


@dataclass(frozen=True, slots=True)
class Way:
    """What one version of the old client went by.

    `precheck_seconds`: `/auth/health` is asked first, with this timeout. `breaker_failures`: so many failed handshakes in a row
    refuse all others for `breaker_seconds`.
    """

    timeout: httpx.Timeout
    precheck_seconds: float | None = None
    breaker_failures: int | None = None
    breaker_seconds: float = 30.0


WAYS = {
    "post-mortem": Way(httpx.Timeout(connect=2, read=5, write=5, pool=10)),
    "post-mortem-fix": Way(httpx.Timeout(connect=2, read=5, write=3, pool=5), precheck_seconds=0.5, breaker_failures=2),
}


class Asks(Protocol):
    """Is this token good? Failing to find out counts as no."""

    async def allows(self, token: str) -> bool: ...


class NobodyAsks:
    """Lets everybody in."""

    async def allows(self, token: str) -> bool:  # noqa: ARG002 - the protocol's
        return True


class OldClient:
    """`POST /auth/validate` as it was."""

    def __init__(self, client: httpx.AsyncClient, upstream: Upstream, way: Way) -> None:
        self._client = client
        self._upstream = upstream
        self._way = way
        self._failures = 0
        self._open_until = 0.0

    async def allows(self, token: str) -> bool:
        if self._way.breaker_failures is not None and time.monotonic() < self._open_until:
            return False
        answer = await self._validate(token) if await self._looks_well() else None
        self._failures = 0 if answer is not None else self._failures + 1
        if self._way.breaker_failures is not None and self._failures >= self._way.breaker_failures:
            self._open_until = time.monotonic() + self._way.breaker_seconds
        return bool(answer)

    async def _looks_well(self) -> bool:
        if self._way.precheck_seconds is None:
            return True
        try:
            health = await self._client.get("/auth/health", timeout=self._way.precheck_seconds)
        except httpx.HTTPError:
            return False
        return health.status_code == httpx.codes.OK

    async def _validate(self, token: str) -> bool | None:
        """`None`: not to be had, after all attempts."""
        credential = (self._upstream.service_id, self._upstream.service_secret)
        question = {"token": token, "audience": self._upstream.audience}
        for _ in range(ATTEMPTS):
            try:
                answer = await self._client.post("/auth/validate", json=question, auth=credential)
                if answer.status_code == httpx.codes.OK:
                    return answer.json()["valid"] is True
            except (httpx.HTTPError, ValueError, KeyError):
                continue
        return None


def app(asks: Asks, metrics: PrometheusMetrics, *, client: httpx.AsyncClient | None = None) -> Starlette:
    """The door on `/ws`, and its numbers on `/metrics` under the same names as ours."""

    async def door(websocket: WebSocket) -> None:
        began = time.monotonic()
        allowed = await asks.allows(websocket.headers.get("authorization", "").partition(" ")[2])
        verdict, reason = ("allow", "live") if allowed else ("deny", Code.TOKEN_REJECTED.lower())
        metrics.decision(verdict, Source.REMOTE, reason, time.monotonic() - began)
        try:
            await (_serve(websocket) if allowed else websocket.close(1008))
        except WebSocketDisconnect:
            return

    async def numbers(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if client is not None:
            await client.aclose()

    return Starlette(routes=[WebSocketRoute("/ws", door), Route("/metrics", numbers)], lifespan=lifespan)


async def _serve(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=offered[0] if offered else None)
    await websocket.send_json(GREETING)
    while True:
        await websocket.receive_text()


def main(arguments: Sequence[str]) -> None:
    name, listener = arguments
    upstream = Upstream(**json.load(sys.stdin))
    metrics = PrometheusMetrics()
    if name in WAYS:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        trust = True if upstream.ca_file is None else ssl.create_default_context(cafile=upstream.ca_file)
        client = httpx.AsyncClient(
            base_url=upstream.url, timeout=WAYS[name].timeout, limits=limits, verify=trust, trust_env=False
        )
        old = app(OldClient(client, upstream, WAYS[name]), metrics, client=client)
    else:
        old = app(NobodyAsks(), metrics)
    config = uvicorn.Config(
        old, access_log=False, log_level="critical", ws="websockets-sansio", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(listener))])


if __name__ == "__main__":
    main(sys.argv[1:])
