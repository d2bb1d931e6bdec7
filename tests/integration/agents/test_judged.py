"""What every agent makes of a run is what AG-UI's own verifier accepts, however the run ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from pydantic_ai import Agent as Made
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from tests.agent_support import LocalServer, completions, local_server, opened, supervised, tool_call
from tests.agui import judged, needs_agui, runs_of
from tests.chat_support import FakeDrill, FakeInsight, connection, decision
from tests.integration.agents.test_pydantic_ai import with_model

from doorward.chat.agents.http import HttpAgent
from doorward.chat.agents.pydantic_ai import PydanticAgent
from doorward.chat.agents.warden import Warden

pytestmark = needs_agui


async def researcher(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    """Thinks, uses two tools at once, thinks again, and answers at length."""
    looked = any(isinstance(part, ToolReturnPart) for message in messages[-1:] for part in message.parts)
    yield {0: DeltaThinkingPart(content="let me see")}
    if looked:
        for number in range(600):
            yield f"word{number} "
        return
    yield {1: DeltaToolCall("weather", '{"place": ', tool_call_id="a")}
    yield {1: DeltaToolCall(json_args='"Hamburg"}', tool_call_id="a")}
    yield {2: DeltaToolCall("time", "{}", tool_call_id="b")}


def research() -> PydanticAgent:
    made = Made(FunctionModel(stream_function=researcher))

    @made.tool_plain
    async def weather(place: str) -> str:
        """The weather."""
        return f"rain in {place}"

    @made.tool_plain
    async def time() -> str:
        """The time."""
        return "noon"

    return PydanticAgent(made)


async def test_reasoning_two_tools_and_a_long_answer_twice_in_a_thread() -> None:
    runs = runs_of(await supervised(research(), "first", "second"))
    assert len(runs) == 2
    kinds = [event["type"] for event in runs[0]]
    assert kinds.count("TOOL_CALL_RESULT") == 2
    assert kinds.count("REASONING_START") == 2
    assert await judged(*runs) == [None, None]


async def test_every_answer_of_the_warden() -> None:
    warden = Warden(
        FakeInsight(records=[decision("d-alice", "alice")], views=[connection("d-alice", "alice")]),
        FakeDrill(),
        pace_seconds=0,
    )
    questions = [
        "How is the auth service?",
        "statistics",
        "Why was I let in?",
        "Who is connected?",
        "Run a drill",
        "hi",
    ]
    runs = runs_of(await supervised(warden, *questions))
    assert await judged(*runs) == [None] * len(questions)


async def breaks_off(server: LocalServer) -> list[dict[str, Any]]:
    agent = with_model(server.url)

    @agent.tool_plain
    async def look() -> str:
        """Look."""
        return "blue"

    return await supervised(PydanticAgent(agent), "go")


async def test_a_model_that_breaks_off_in_the_middle() -> None:
    async def cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await opened(request)
        await response.write(b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with local_server(completions(*tool_call("look", "{}")), cut) as server:
        (run,) = runs_of(await breaks_off(server))
    assert run[-1]["type"] == "RUN_ERROR"
    assert await judged(run) == [None]


async def test_chunks_of_an_agent_over_http() -> None:
    wire: list[dict[str, Any]] = [
        {"type": "RUN_STARTED", "threadId": "x", "runId": "y"},
        {"type": "THINKING_START"},
        {"type": "THINKING_TEXT_MESSAGE_START"},
        {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "hm"},
        {"type": "THINKING_TEXT_MESSAGE_END"},
        {"type": "THINKING_END"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "role": "assistant", "delta": "I look"},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "look", "parentMessageId": "m", "delta": "{}"},
        {"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": "blue", "role": "tool"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "n", "delta": "blue"},
        {"type": "STATE_SNAPSHOT", "snapshot": {"sky": "blue"}},
        {"type": "RUN_FINISHED", "threadId": "x", "runId": "y"},
    ]

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = await opened(request)
        await response.write(b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in wire))
        return response

    async with local_server(answer) as server:
        runs = runs_of(await supervised(HttpAgent(server.url), "first", "second"))
    assert [run[-1]["type"] for run in runs] == ["RUN_FINISHED"] * 2
    assert await judged(*runs) == [None, None]


async def test_the_judge_can_say_no() -> None:
    """Planted: a delta of what was never opened, a part left open, an event after the end, and one that is none."""
    start, end = (
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    )
    opened_part = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    delta = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "x"}
    planted = [[start, delta, end], [start, opened_part, end], [start, end, opened_part], [start, {"type": "X"}, end]]
    faults = await judged([start, end], *planted)
    assert faults[0] is None
    assert all(faults[1:])
