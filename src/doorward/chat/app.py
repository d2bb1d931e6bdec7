"""The chat backend as an ASGI application. The door goes around it: `Doorward(create_app(...), settings)`."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from doorward.chat.agents.factory import make_agent
from doorward.chat.agents.warden import Warden
from doorward.chat.api import ThreadApi
from doorward.chat.eventlog import Retention
from doorward.chat.forward import AuthForwarder
from doorward.chat.limits import MAX_TEXT_BYTES, ChatLimits
from doorward.chat.openapi import document
from doorward.chat.problem import problem
from doorward.chat.service import Chat
from doorward.chat.socket import ChatEndpoint
from doorward.core.breaker import State
from doorward.core.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from aiohttp.abc import AbstractResolver
    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from doorward.chat.agents.port import Agent
    from doorward.chat.agents.tools import Drill
    from doorward.config import ChatSettings, Settings
    from doorward.runtime.insight import Insight

SHUTDOWN_SECONDS = 1.0
"""What runs get at a shutdown that nobody drained before."""

_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def create_app(
    settings: Settings,
    *,
    insight: Insight,
    ready: Callable[[], bool],
    web_routes: Sequence[BaseRoute] = (),
    registry: CollectorRegistry | None = None,
    resolver: AbstractResolver | None = None,
    agent: Agent | None = None,
    drill: Drill | None = None,
    limits: ChatLimits | None = None,
    register: bool | None = None,
    fault_hint: Callable[[], str] | None = None,
    data_file: Path | None = None,
) -> Starlette:
    """Make the application. `app.state.chat` is its `Chat`; drain it before the server stops.

    Args:
        settings: read once.
        insight: what the warden answers from.
        ready: may this process take traffic?
        web_routes: further routes, the page and `/metrics` for instance. They come last.
        registry: where chat's counters go.
        resolver: finds the auth service; by default the system's name servers, or `auth.dns_servers`.
        agent: answers the questions; by default what `chat.agent` says.
        drill: what the warden may break on purpose, for an admin; it stands beside this door.
        limits: every bound of the chat backend; by default with what `settings.chat` says.
        register: whether the page offers to make an account; by default `authd.allow_register`.
        fault_hint: gives a line for the page that says how to break the auth service on purpose.
        data_file: where threads and events are kept; in memory by default, until the process ends.
    """
    agent = agent or make_agent(settings.chat, insight=insight, drill=drill)
    chat = Chat(
        agent,
        limits=limits or _limits(settings.chat),
        file=data_file,
        synchronous=settings.chat.synchronous,
        retention=Retention(settings.chat.events_per_thread, settings.chat.event_days * 86_400.0),
        registry=registry,
    )

    def auth_is_out() -> bool:
        return any(each.breaker == State.OPEN and each.url == settings.auth.base_url for each in insight.services())

    forwarder = AuthForwarder(
        settings.auth,
        seconds=settings.deadline_seconds,
        telemetry=chat.telemetry,
        is_out=auth_is_out,
        trusted_proxies=settings.trusted_proxies,
        resolver=resolver,
    )
    api = ThreadApi(chat)
    page = {
        "product": "Doorward",
        "version": version("doorward"),
        "register": settings.authd.allow_register if register is None else register,
        "warden": isinstance(agent, Warden),
        "drill": drill is not None and isinstance(agent, Warden),
        "max_message_bytes": MAX_TEXT_BYTES,
    }

    async def config(_: Request) -> Response:
        return JSONResponse(page | {"fault_hint": fault_hint() if fault_hint else None}, headers=_NO_STORE)

    async def openapi(_: Request) -> Response:
        return JSONResponse(_interface(), headers=_NO_STORE)

    async def readyz(_: Request) -> Response:
        if ready():
            return JSONResponse({"status": "ready"}, headers=_NO_STORE)
        return problem(503, "NOT_READY", "This process takes no traffic now.", retry_after_seconds=1.0)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(forwarder.aclose)
            stack.push_async_callback(chat.aclose)
            stack.callback(api.close_nowait)
            await chat.open()
            if isinstance(agent, AbstractAsyncContextManager):
                await stack.enter_async_context(agent)
            try:
                yield
            finally:
                await chat.drain(Deadline.after(asyncio.get_running_loop().time(), SHUTDOWN_SECONDS))

    app = Starlette(
        routes=[
            WebSocketRoute("/ws", ChatEndpoint(chat, close_codes=settings.close_codes)),
            Route("/healthz", _healthz),
            Route("/readyz", readyz),
            Route("/api/config", config),
            Route("/api/openapi.json", openapi),
            *api.routes(),
            *forwarder.routes(),
            *web_routes,
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would lead to this server's own scheme and path, not to those of its proxy
    app.state.chat = chat
    return app


@cache
def _interface() -> Mapping[str, Any]:
    """Made when somebody asks for it first: not every start of a server has to wait for it."""
    return document(version("doorward"))


def _limits(chat: ChatSettings) -> ChatLimits:
    return ChatLimits(
        run_seconds=chat.agent_seconds,
        unsent_bytes=chat.unsent_bytes,
        untidied_events=chat.events_per_thread // 4,
    )


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "alive"}, headers=_NO_STORE)
