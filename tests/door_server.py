"""A real door on a real server, in the test's own loop: auth service, fault proxy, middleware, app and clients."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from doorward import Doorward, Settings
from doorward.asgi.door import Door
from doorward.asgi.issuer import Issuer
from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.server import Server, bind
from doorward.core.deadline import Deadline
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.tracing import Tracing
from doorward.testing import FakeAuthService, FaultProxy, eventually

BEARER = "base64url.bearer.authorization.doorward."
ALLOWED_OVERRUN_SECONDS = 0.05


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who it thinks is there, now and whenever it is asked; echoes the scope's headers on `headers`."""
    if scope["type"] != "websocket":
        raise RuntimeError("this app has neither a lifespan nor HTTP")
    await receive()
    subprotocols = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None})
    while (event := await receive())["type"] == "websocket.receive":
        admission = scope["doorward"]
        answer: dict[str, Any] = {
            "user_id": admission.principal.user_id,
            "assurance": admission.assurance,
            "degraded": admission.degraded,
            "permissions": sorted(admission.permissions),
            "text": event.get("text"),
        }
        if event.get("text") == "headers":
            answer["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
            answer["subprotocols"] = list(subprotocols)
        await send({"type": "websocket.send", "text": json.dumps(answer)})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client saw of one handshake. `code` is the word of the table, `None` when it got in."""

    status: int
    code: str | None
    cause: str | None
    retry_after_ms: int | None
    seconds: float


@dataclass(slots=True)
class RunningDoor:
    door: Door
    app: Doorward
    port: int
    auth: FakeAuthService
    proxy: FaultProxy
    records: list[DecisionRecord] = field(default_factory=list)
    counters: OpeningCounters = field(default_factory=OpeningCounters)

    @property
    def issuer(self) -> Issuer:
        """The only one, or the first of several."""
        return next(iter(self.door.issuers.values()))

    @property
    def connections(self) -> int:
        """TCP connections that are open now."""
        return self.counters.connections

    @property
    def allowed_overrun_seconds(self) -> float:
        """How far past its deadline an answer may be: the loop cannot look at the clock while it is held up."""
        return ALLOWED_OVERRUN_SECONDS + self.door.telemetry.largest_lag_seconds

    @property
    def was_in_time(self) -> bool:
        """Was the last answer?"""
        return self.records[-1].overrun_ms / 1000 <= self.allowed_overrun_seconds

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def connect(self, token: str | None = None, *, path: str = "/ws", **options: Any) -> websockets.connect:
        """A client that is no browser: bearer header, no origin."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"ws://127.0.0.1:{self.port}{path}"
        return websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=15, **options)

    def browser(self, token: str | None, **options: Any) -> websockets.connect:
        """A client of ours in a browser: same origin, bearer subprotocol."""
        subprotocols = list(options.pop("subprotocols", ["doorward.v1"]))
        if token is not None:
            subprotocols.append(BEARER + _base64url(token))
        return websockets.connect(
            f"ws://127.0.0.1:{self.port}{options.pop('path', '/ws')}",
            subprotocols=[websockets.Subprotocol(name) for name in subprotocols] or None,
            origin=websockets.Origin(options.pop("origin", f"http://127.0.0.1:{self.port}")),
            proxy=None,
            open_timeout=15,
            **options,
        )

    async def ask(self, token: str | None, **options: Any) -> Answer:
        """Open, note the answer, close."""
        began = time.monotonic()
        try:
            async with self.connect(token, **options):
                return Answer(101, None, None, None, time.monotonic() - began)
        except InvalidStatus as refused:
            seconds = time.monotonic() - began
            problem = _json(bytes(refused.response.body or b""))
            return Answer(
                refused.response.status_code,
                problem.get("code"),
                problem.get("cause"),
                problem.get("retry_after_ms"),
                seconds,
            )

    async def settled(self) -> None:
        """Wait until everything that runs in the background has been heard from once."""
        await eventually(
            lambda: all(_has_been_heard(issuer) for issuer in self.door.issuers.values()),
            what="the door has heard from the auth service",
        )

    async def healed(self, within_seconds: float = 5.0) -> float:
        """Wait until the breaker is closed and nothing is suspect. Returns how long it took."""
        began = time.monotonic()
        try:
            await eventually(lambda: not self.issuer.gate.in_outage, within_seconds=within_seconds, what="healed")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.door.insight.services()}, {self.issuer.gate.suspect}") from None
        return time.monotonic() - began


@asynccontextmanager
async def running_door(
    tmp_path: Path,
    *,
    auth: FakeAuthService | None = None,
    proxy: FaultProxy | None = None,
    app: App = whoami,
    opening: OpeningPolicy | None = None,
    tracing: Tracing | None = None,
    outside: Callable[[App], App] | None = None,
    **settings: Any,
) -> AsyncIterator[RunningDoor]:
    """Auth service and proxy are started unless they are given; then they are the caller's, as over a restart of the door.

    Args:
        outside: what stands between the server and the door.
    """
    async with AsyncExitStack() as stack:
        service = auth if auth is not None else await stack.enter_async_context(FakeAuthService())
        between = (
            proxy
            if proxy is not None
            else await stack.enter_async_context(FaultProxy(service.host, service.port, seed=1))
        )
        yield await stack.enter_async_context(
            _running(tmp_path, service, between, app, opening, tracing, outside, settings)
        )


@asynccontextmanager
async def _running(
    tmp_path: Path,
    auth: FakeAuthService,
    proxy: FaultProxy,
    app: App,
    opening: OpeningPolicy | None,
    tracing: Tracing | None,
    outside: Callable[[App], App] | None,
    settings: dict[str, Any],
) -> AsyncIterator[RunningDoor]:
    chosen = auth_settings(auth, proxy) | settings.pop("auth_settings", {})
    loaded = Settings(auth=chosen, data_dir=tmp_path / "data", **settings)
    async with serving(loaded, auth, proxy, app, opening, tracing, outside) as running:
        yield running


@asynccontextmanager
async def serving(
    loaded: Settings,
    auth: FakeAuthService,
    proxy: FaultProxy,
    app: App = whoami,
    opening: OpeningPolicy | None = None,
    tracing: Tracing | None = None,
    outside: Callable[[App], App] | None = None,
) -> AsyncIterator[RunningDoor]:
    """A door by these very settings; auth service and proxy are for the test to hold."""
    records: list[DecisionRecord] = []
    door = Door(loaded, emit=records.append, tracing=tracing)
    middleware = Doorward(app, loaded, door=door)
    counters = OpeningCounters()
    server = Server(
        outside(middleware) if outside else middleware, opening=opening or OpeningPolicy(), counters=counters
    )
    listener = bind("127.0.0.1", 0, "serve")
    try:
        await server.start(listener)
        yield RunningDoor(door, middleware, listener.getsockname()[1], auth, proxy, records, counters)
    finally:
        await server.stop(Deadline.after(asyncio.get_running_loop().time(), 5.0))
        listener.close()


def _has_been_heard(issuer: Issuer) -> bool:
    memory = issuer.memory
    heard = None not in (memory.last_contact, issuer.keys.keyset, memory.last_feed)
    return heard and not issuer.gate.in_outage


def auth_settings(auth: FakeAuthService, proxy: FaultProxy) -> dict[str, Any]:
    return {
        "url": f"http://{proxy.host}:{proxy.port}",
        "issuer": auth.issuer,
        "audience": (auth.audience,),
        "service_id": auth.service_id,
        "service_secret": auth.service_secret,
    }


async def notices(client: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Every JSON frame, until the socket is closed."""
    async for frame in client:
        yield json.loads(frame)


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _base64url(token: str) -> str:
    return base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
