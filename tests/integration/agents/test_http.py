"""AG-UI agents over HTTP: a local server that does well and badly, and one that pydantic-ai itself makes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from pydantic_ai import Agent as Made
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from structlog.testing import capture_logs
from tests.agent_support import (
    Answer,
    Bench,
    events_of,
    kinds,
    local_server,
    opened,
    said,
    supervised,
)
from tests.chat_support import Person

from doorward.chat.agents.http import HttpAgent, HttpLimits
from doorward.chat.agents.port import AgentFault, RunRequest
from doorward.errors import UsageError
from doorward.testing import Fault, FaultProxy
from doorward.testing.waiting import eventually

START = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
FINISH = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
ANSWER = [
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "hello "},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "you"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
]
QUICK = HttpLimits(silent_seconds=0.3, total_seconds=1.0, event_bytes=2_000, stream_bytes=20_000)
SAID_NOTHING = "said nothing for too long"
PATIENT = replace(QUICK, silent_seconds=10.0, total_seconds=20.0)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)


def says(*pieces: bytes) -> Answer:
    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = await opened(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return answer


async def test_an_answer_comes_through_and_the_agent_learns_who_asks() -> None:
    async with local_server(says(sse(START, *ANSWER), sse(FINISH))) as server:
        agent = HttpAgent(f"{server.url}/run", token="agent-token")
        who = Person("ada", frozenset({"chat"}))
        events = await events_of(agent, "hi", who=who)
    assert said(events) == "hello you"
    assert not {"RUN_STARTED", "RUN_FINISHED"} & set(kinds(events))
    assert server.headers[0]["Authorization"] == "Bearer agent-token"
    asked = server.asked[0]
    assert (asked["threadId"], asked["runId"]) == ("t", "r")
    assert asked["messages"] == [{"id": "r:question", "role": "user", "content": "hi"}]
    assert asked["forwardedProps"]["user"] == {
        "id": "ada",
        "issuer": "https://auth.internal",
        "tenant": None,
        "permissions": ["chat"],
        "degraded": False,
    }


async def test_the_thread_so_far_comes_along_and_ids_stay_apart() -> None:
    async with local_server(says(sse(START, *ANSWER, FINISH))) as server:
        events = await supervised(HttpAgent(server.url), "first", "second")
    assert [message["role"] for message in server.asked[1]["messages"]] == ["user", "assistant", "user"]
    assert said(events) == "hello youhello you"
    assert len({event["messageId"] for event in events if event["type"] == "TEXT_MESSAGE_START"}) == 2


async def test_no_question_is_lost_on_a_connection_that_was_kept_and_is_closing() -> None:
    async with (
        local_server(says(sse(START, *ANSWER, FINISH))) as server,
        FaultProxy("127.0.0.1", int(server.url.rpartition(":")[2]), fault=Fault.STALE_KEEP_ALIVE) as proxy,
    ):
        events = await supervised(HttpAgent(f"http://127.0.0.1:{proxy.port}"), "first", "second", "third")
    assert said(events) == 3 * "hello you"


async def test_nothing_after_the_end_counts() -> None:
    async with local_server(says(sse(START, *ANSWER, FINISH, START, *ANSWER))) as server:
        assert said(await events_of(HttpAgent(server.url), "hi")) == "hello you"


async def hang(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def stall(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(sse(START, ANSWER[0]))
    await asyncio.Event().wait()
    return response


async def drip(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    while True:
        await response.write(b":")
        await asyncio.sleep(0.02)


async def cut(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(sse(START, *ANSWER[:2]))
    assert request.transport is not None
    request.transport.abort()
    return response


async def compressed(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip"})
    await response.prepare(request)
    return response


async def not_http(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"hello, who is there?\r\n\r\n")
    request.transport.close()
    return web.Response()


def status(number: int, kind: str = "application/json") -> Answer:
    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=number, content_type=kind, headers={"Location": "/elsewhere"})

    return answer


@pytest.mark.parametrize(
    ("answer", "fault", "reason"),
    [
        pytest.param(hang, AgentFault.UNAVAILABLE, SAID_NOTHING, id="hang"),
        pytest.param(stall, AgentFault.UNAVAILABLE, SAID_NOTHING, id="stall"),
        pytest.param(drip, AgentFault.UNAVAILABLE, SAID_NOTHING, id="drip"),
        pytest.param(cut, AgentFault.UNAVAILABLE, "broke off in the middle", id="cut"),
        pytest.param(says(sse(START, *ANSWER)), AgentFault.UNAVAILABLE, "broke off in the middle", id="no end"),
        pytest.param(says(), AgentFault.UNAVAILABLE, "broke off in the middle", id="nothing"),
        pytest.param(not_http, AgentFault.UNAVAILABLE, "does not speak HTTP", id="not http"),
        pytest.param(says(b"data: {nonsense\n\n"), AgentFault.FAILED, "no AG-UI event", id="garbage"),
        pytest.param(says(b"\xff\x00" * 5_000), AgentFault.FAILED, "more than is taken", id="no event at all"),
        pytest.param(says(b"data: " + b"x" * 3_000), AgentFault.FAILED, "more than is taken", id="long event"),
        pytest.param(says(*[sse(START)] * 1_000), AgentFault.FAILED, "more than is taken", id="long stream"),
        pytest.param(says(sse(ANSWER[1], FINISH)), AgentFault.FAILED, "", id="out of order"),
        pytest.param(says(sse({"type": "RUN_ERROR", "message": "oh"})), AgentFault.FAILED, "oh", id="RUN_ERROR"),
        pytest.param(compressed, AgentFault.FAILED, "content encoding", id="compressed"),
        pytest.param(status(200), AgentFault.MISCONFIGURED, "application/json", id="no stream"),
        pytest.param(status(307), AgentFault.MISCONFIGURED, "307", id="redirect"),
        pytest.param(status(401), AgentFault.MISCONFIGURED, "401", id="401"),
        pytest.param(status(404), AgentFault.MISCONFIGURED, "404", id="404"),
        pytest.param(status(413), AgentFault.THREAD_TOO_LONG, "413", id="413"),
        pytest.param(status(429), AgentFault.BUSY, "429", id="429"),
        pytest.param(status(500), AgentFault.UNAVAILABLE, "500", id="500"),
    ],
)
async def test_an_agent_that_does_not_do_well(answer: Answer, fault: AgentFault, reason: str) -> None:
    limits = QUICK if reason == SAID_NOTHING else PATIENT
    async with local_server(answer) as server:
        with capture_logs() as lines:
            events = await supervised(HttpAgent(server.url, token="s3cret", limits=limits), "hello")
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", fault.value)
    assert reason in str(next((line for line in lines if line["event"] == "chat.agent_failed"), ""))
    assert "s3cret" not in str((events, lines))


async def test_nobody_listens() -> None:
    async with local_server() as server:
        pass
    events = await supervised(HttpAgent(server.url), "hello")
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "agent_unavailable")


async def test_a_run_that_is_cancelled_cuts_the_request() -> None:
    async with local_server(stall) as server, HttpAgent(server.url) as agent:
        bench = Bench(agent)
        name = await bench.ask("hello")
        await eventually(lambda: server.asked)
        thread: Any = await bench.chat.threads.open("t", bench.who.user_id)
        bench.chat.runs.cancel(thread, name)
        await bench.ended()
        await eventually(lambda: server.left == 1)
        await bench.aclose()
        assert (await bench.events())[-1]["outcome"]["type"] == "cancelled"


async def test_it_has_to_be_entered_once() -> None:
    with pytest.raises(UsageError, match="entered"):
        HttpAgent("http://127.0.0.1:1").run(RunRequest("t", "r", "hi", Person()))
    async with HttpAgent("http://127.0.0.1:1") as agent:
        with pytest.raises(UsageError, match="already"):
            await agent.__aenter__()


async def test_an_agent_that_pydantic_ai_serves() -> None:
    made = Made("test")

    @made.tool_plain
    async def weather() -> str:
        """The weather."""
        return "sun"

    async def endpoint(request: Request) -> Response:
        return await AGUIAdapter[None, str].dispatch_request(request, agent=made)

    async with served(Starlette(routes=[Route("/agent", endpoint, methods=["POST"])])) as url:
        events = await supervised(HttpAgent(f"{url}/agent"), "first", "second")
    assert kinds(events).count("RUN_FINISHED") == 2
    results = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert [event["content"] for event in results] == ["sun"]  # this model looks once a thread: it knows what was said
    assert "sun" in said(events)


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await eventually(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
