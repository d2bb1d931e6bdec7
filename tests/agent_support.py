"""What the tests of the agents share: a server that speaks OpenAI's chat completions, and whole runs judged by AG-UI's order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tests.chat_support import Person, verify

from doorward.chat.agents.port import Agent, RunRequest
from doorward.chat.commands import Done, RunStart
from doorward.chat.envelope import event_json
from doorward.chat.limits import ChatLimits
from doorward.chat.service import Chat
from doorward.chat.threads import Thread
from doorward.chat.transcript import Message
from doorward.testing.waiting import eventually

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class LocalServer:
    """A web server on a free port that answers every POST as the test says, and keeps what it was asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    left: int = 0
    """Requests whose client went away before the end."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            return await answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise


@asynccontextmanager
async def local_server(*answers: Answer) -> AsyncIterator[LocalServer]:
    """The last answer holds for every further request."""
    server = LocalServer(answers=list(answers))
    application = web.Application()
    application.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


async def opened(request: web.Request) -> web.StreamResponse:
    """An event stream that has begun."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


def completions(*deltas: dict[str, Any], finish: str = "stop") -> Answer:
    """Chat completions that say these deltas and end well."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await opened(request)
        for delta in deltas:
            await response.write(chunk(delta))
        await response.write(chunk({}, finish) + b"data: [DONE]\n\n")
        return response

    return answer


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "local", "choices": [choice]}
    return f"data: {json.dumps(whole)}\n\n".encode()


def tool_call(name: str, *arguments: str, call_id: str = "call_0") -> list[dict[str, Any]]:
    """The deltas of one tool call, its arguments in pieces."""
    first = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in arguments]
    return [{"role": "assistant", "tool_calls": [first]}, *({"tool_calls": [piece]} for piece in pieces)]


async def events_of(
    agent: Agent, message: str, *, who: Person | None = None, history: Sequence[Message] = (), run_id: str = "r"
) -> list[dict[str, Any]]:
    """All events of one run, which must be in order."""
    request = RunRequest("t", run_id, message, who or Person(), history)
    async with entered(agent):
        events = [json.loads(event_json(event)) async for event in agent.run(request)]
    verify([{"type": "RUN_STARTED"}, *events, {"type": "RUN_FINISHED"}])
    return events


async def supervised(agent: Agent, *messages: str, limits: ChatLimits | None = None) -> list[dict[str, Any]]:
    """The events of these runs of one thread, one after another, as the supervisor wrote them; each run is in order."""
    async with entered(agent):
        bench = Bench(agent, limits)
        for message in messages:
            await bench.ask(message)
            await bench.ended()
        await bench.aclose()
        return await bench.events()


def entered(agent: Agent) -> AbstractAsyncContextManager[Any]:
    """As the application enters it."""
    return agent if isinstance(agent, AbstractAsyncContextManager) else nullcontext(agent)


class Bench:
    """One agent, one chat, one thread."""

    def __init__(self, agent: Agent, limits: ChatLimits | None = None) -> None:
        self.chat = Chat(agent, limits=limits or ChatLimits(run_seconds=10.0, reap_seconds=0.5))
        self.who = Person()
        self._runs = 0

    async def ask(self, message: str) -> str:
        """Start a run; returns its id."""
        if not self._runs:
            await self.chat.open()
        thread = await self.chat.threads.open("t", self.who.user_id)
        assert isinstance(thread, Thread)
        self._runs += 1
        outcome, _ = await self.chat.runs.start(thread, RunStart("c", "t", f"r{self._runs}", message), self.who)
        assert isinstance(outcome, Done), outcome
        return f"r{self._runs}"

    async def ended(self) -> None:
        await eventually(lambda: len(self.chat.runs) == 0, within_seconds=15.0)

    async def events(self) -> list[dict[str, Any]]:
        log = self.chat.log
        entries = await log.read("t", epoch=log.epoch, after_seq=0, limit=10_000)
        events = [json.loads(bytes(entry.event)) for entry in entries]
        run: list[dict[str, Any]] = []
        for event in events:
            run.append(event)
            if event["type"] in {"RUN_FINISHED", "RUN_ERROR"}:
                verify(run)
                run = []
        return events

    async def aclose(self) -> None:
        await eventually(lambda: not self.chat.runs._abandoned, within_seconds=5.0)
        await self.chat.aclose()


def said(events: Sequence[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
