"""Any agent that speaks AG-UI over HTTP: one POST a run, answered by server-sent events."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from ag_ui.core import BaseEvent, RunAgentInput, UserMessage

from doorward.chat.agents.agui_wire import AguiWire
from doorward.chat.agents.fresh_ids import FreshIds
from doorward.chat.agents.gather import gathered
from doorward.chat.agents.history import usable
from doorward.chat.agents.port import AgentError, AgentFault
from doorward.chat.agents.sse import EventStream, TooLong
from doorward.errors import UsageError

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from doorward.chat.agents.port import RunRequest

_STATUS: dict[int, tuple[AgentFault, str | None]] = {
    401: (AgentFault.MISCONFIGURED, "the agent refuses our token: see chat.agent_token"),
    403: (AgentFault.MISCONFIGURED, "the agent refuses our token: see chat.agent_token"),
    404: (AgentFault.MISCONFIGURED, "there is no agent at this address: see the path in chat.agent_url"),
    405: (AgentFault.MISCONFIGURED, "no agent takes a POST at this address: see the path in chat.agent_url"),
    413: (AgentFault.THREAD_TOO_LONG, "the agent takes no request of this size: it gets the whole thread each time"),
    422: (AgentFault.FAILED, "the agent does not understand AG-UI's RunAgentInput: see which version it speaks"),
    429: (AgentFault.BUSY, None),
    503: (AgentFault.BUSY, None),
}


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one run. The supervisor's own (`ChatLimits`) hold beside them."""

    connect_seconds: float = 5.0
    """DNS, TCP and TLS, over all addresses."""
    silent_seconds: float = 60.0
    """The agent may say nothing for so long, before its answer and in it."""
    total_seconds: float = 600.0
    event_bytes: int = 262_144
    stream_bytes: int = 8_388_608
    connections: int = 1_000


class HttpAgent:
    """Asks an AG-UI agent by HTTP. To be entered (`async with`); `create_app` enters it with the application.

    The agent gets the thread so far, the question, and who asks in `forwardedProps.user`.

    Args:
        url: takes a POST of `RunAgentInput` and answers `text/event-stream`.
        token: sent as a bearer token; the user's own is never sent.
        limits: every bound.
        resolver: finds the agent; by default the system's name servers.
        tls: what is trusted; by default the system's certificates.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        limits: HttpLimits | None = None,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "User-Agent": "doorward"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._limits = limits or HttpLimits()
        self._resolver = resolver
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Make the pool; nothing is connected yet.

        Raises:
            UsageError: it is entered already.
        """
        if self._session is not None:
            raise UsageError("this HttpAgent is entered already")
        async with AsyncExitStack() as stack:
            resolver = self._resolver
            if resolver is None:
                resolver = aiohttp.AsyncResolver()
                stack.push_async_callback(resolver.close)
            # A connection each: one that was kept may be closing just then, and a question cannot be asked twice.
            connector = aiohttp.TCPConnector(
                limit=self._limits.connections, resolver=resolver, ssl=self._tls or True, force_close=True
            )
            self._session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(
                        total=self._limits.total_seconds,
                        connect=self._limits.connect_seconds,
                        sock_read=self._limits.silent_seconds,
                    ),
                )
            )
            self._opened = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        self._session = None
        await self._opened.aclose()

    def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """The events of one run.

        Raises:
            AgentError: the agent could not be asked, failed, or says what is not AG-UI.
            UsageError: this agent is not entered.

        Cancellation: the request is cut.
        """
        if self._session is None:
            raise UsageError("an HttpAgent has to be entered: async with agent")
        return gathered(self._events(self._session, request))

    async def _events(self, session: aiohttp.ClientSession, request: RunRequest) -> AsyncGenerator[BaseEvent, None]:
        ids, wire = FreshIds(request.history), AguiWire()
        body = _input(request).model_dump_json(by_alias=True, exclude_none=True)
        headers = self._headers | {"Content-Type": "application/json"}
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                _check(answer)
                async with aclosing(self._contents(answer)) as contents:
                    async for content in contents:
                        for event in wire.read(content):
                            ids.rename(event)
                            yield event
                        if wire.finished:
                            return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _explained(error) from error
        raise AgentError(AgentFault.UNAVAILABLE, "the agent broke off in the middle of its answer")

    async def _contents(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        stream, left = EventStream(self._limits.event_bytes), self._limits.stream_bytes
        async for piece in answer.content.iter_any():
            left -= len(piece)
            try:
                contents = stream.feed(piece)
            except TooLong:
                contents, left = [], -1
            for content in contents:
                yield content
            if left < 0:
                raise AgentError(AgentFault.FAILED, "the agent says more than is taken, in one event or in all")


def _input(request: RunRequest) -> RunAgentInput:
    """What the agent is asked. It decides itself what somebody may do; that it is told the truth is what our token is for."""
    who = request.who
    user: dict[str, Any] = {
        "id": who.principal.user_id,
        "issuer": who.principal.issuer,
        "tenant": who.principal.tenant,
        "permissions": sorted(who.permissions),
        "degraded": who.degraded,
    }
    return RunAgentInput(
        thread_id=request.thread_id,
        run_id=request.run_id,
        state={},
        messages=[*usable(request.history), UserMessage(id=f"{request.run_id}:question", content=request.message)],
        tools=[],
        context=[],
        forwarded_props={"user": user},
    )


def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status != 200:
        default = AgentFault.UNAVAILABLE if answer.status >= 500 else AgentFault.MISCONFIGURED
        fault, mend = _STATUS.get(answer.status, (default, "see chat.agent_url" if answer.status < 500 else None))
        raise AgentError(fault, f"the agent answered {answer.status}", mend=mend)
    if answer.content_type != "text/event-stream":
        mend = "no AG-UI agent answers there: see chat.agent_url"
        raise AgentError(AgentFault.MISCONFIGURED, f"the agent answered {answer.content_type}", mend=mend)
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise AgentError(AgentFault.FAILED, "the agent's answer has a content encoding, which we did not ask for")


def _explained(error: Exception) -> AgentError:
    kind = type(error).__name__
    mend: str | None = None
    match error:
        case aiohttp.ClientSSLError() | ssl.SSLError():
            why, mend = f"no TLS connection to the agent ({kind})", "see that its certificate is trusted here"
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            why, mend = f"no connection to the agent ({kind})", "see that chat.agent_url can be reached from here"
        case TimeoutError():
            why = f"the agent said nothing for too long ({kind})"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError():
            why = f"the agent broke off in the middle of its answer ({kind})"
        case _:
            why, mend = f"the agent does not speak HTTP as we take it ({kind})", "see chat.agent_url"
    return AgentError(AgentFault.UNAVAILABLE, why, mend=mend)
