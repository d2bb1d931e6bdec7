"""Agents of pydantic-ai: with its own test models, and against a local server that speaks OpenAI's protocol on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic_ai import Agent as Made
from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from structlog.testing import capture_logs
from tests.agent_support import (
    Answer,
    Bench,
    chunk,
    completions,
    events_of,
    kinds,
    local_server,
    opened,
    said,
    supervised,
    tool_call,
)
from tests.chat_support import Person

from doorward.chat.agents.port import AgentFault, RunRequest
from doorward.chat.agents.pydantic_ai import PydanticAgent
from doorward.chat.limits import ChatLimits
from doorward.testing.waiting import eventually


def with_model(url: str, **options: Any) -> Made[RunRequest, str]:
    model = OpenAIChatModel("local", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="key"))
    return Made(model, deps_type=RunRequest, **options)


def who_asks() -> Made[RunRequest, str]:
    agent = Made("test", deps_type=RunRequest)

    @agent.tool
    async def my_name(ctx: RunContext[RunRequest]) -> str:
        """The name of whoever asks."""
        return ctx.deps.who.principal.user_id

    return agent


async def test_tools_find_out_who_asks() -> None:
    events = await events_of(PydanticAgent(who_asks()), "who am I?", who=Person("grace"))
    assert next(event for event in events if event["type"] == "TOOL_CALL_RESULT")["content"] == "grace"
    assert "grace" in said(events)
    assert not {"RUN_STARTED", "RUN_FINISHED"} & set(kinds(events))


async def test_deps_of_ones_own() -> None:
    agent = Made("test", deps_type=str)

    @agent.tool
    async def thread(ctx: RunContext[str]) -> str:
        """The thread."""
        return ctx.deps

    events = await events_of(PydanticAgent(agent, deps=lambda request: request.thread_id), "where?")
    assert next(event for event in events if event["type"] == "TOOL_CALL_RESULT")["content"] == "t"


async def test_reasoning_comes_before_the_answer() -> None:
    async def thinking(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaThinkingPart(content="let me ", signature="sealed")}
        yield {0: DeltaThinkingPart(content="see")}
        yield "so"
        yield " it is"

    events = await events_of(PydanticAgent(Made(FunctionModel(stream_function=thinking))), "why?")
    thoughts = [event["delta"] for event in events if event["type"] == "REASONING_MESSAGE_CONTENT"]
    assert "".join(thoughts) == "let me see"
    assert said(events) == "so it is"
    assert kinds(events)[:2] == ["REASONING_START", "REASONING_MESSAGE_START"]
    assert "REASONING_ENCRYPTED_VALUE" not in kinds(events)


async def test_history_is_passed_without_what_a_model_would_refuse() -> None:
    async with local_server(
        completions(*tool_call("look", "{", "}")),
        completions({"content": "blue"}),
        completions({"content": "as I said"}),
    ) as server:
        agent = with_model(server.url, instructions="Be brief.")

        @agent.tool_plain
        async def look() -> str:
            """Look."""
            return "the sky is blue"

        events = await supervised(PydanticAgent(agent), "what colour?", "again?")
    assert said(events) == "blueas I said"
    roles = [message["role"] for message in server.asked[2]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert server.asked[2]["messages"][0]["content"] == "Be brief."
    assert server.asked[2]["stream"] is True


async def test_calls_that_a_server_numbers_anew_are_told_apart() -> None:
    async with local_server(
        completions(*tool_call("look", "{}")),
        completions({"content": "one"}),
        completions(*tool_call("look", "{}")),
        completions({"content": "two"}),
    ) as server:
        agent = with_model(server.url)

        @agent.tool_plain
        async def look() -> int:
            """Look."""
            return 1

        events = await supervised(PydanticAgent(agent), "first", "second")
    started = [event["toolCallId"] for event in events if event["type"] == "TOOL_CALL_START"]
    results = [event["toolCallId"] for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert started == results
    assert len(set(started)) == 2


async def test_a_model_and_instructions_may_be_given_beside_the_agent() -> None:
    async with local_server(completions({"content": "hello"})) as server:
        model = OpenAIChatModel("other", provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key="key"))
        agent = PydanticAgent(Made(instructions="One."), model=model, instructions="Two.")
        assert said(await events_of(agent, "hi")) == "hello"
    assert server.asked[0]["model"] == "other"
    assert "One." in str(server.asked[0]["messages"])
    assert "Two." in str(server.asked[0]["messages"])


def status(number: int, code: str) -> Answer:
    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        body = {"error": {"message": "the key sk-secret is wrong", "code": code, "type": code}}
        return web.json_response(body, status=number, headers={"x-should-retry": "false"})

    return answer


async def cut(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(chunk({"content": "half an"}))
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("answer", "fault", "mends"),
    [
        (status(401, "invalid_api_key"), AgentFault.MISCONFIGURED, True),
        (status(404, "model_not_found"), AgentFault.MISCONFIGURED, True),
        (status(429, "insufficient_quota"), AgentFault.MISCONFIGURED, True),
        (status(429, "rate_limit_exceeded"), AgentFault.BUSY, True),
        (status(400, "context_length_exceeded"), AgentFault.THREAD_TOO_LONG, False),
        (status(400, "odd"), AgentFault.FAILED, True),
        (status(500, "oops"), AgentFault.UNAVAILABLE, False),
        (cut, AgentFault.UNAVAILABLE, True),
    ],
)
async def test_a_provider_that_fails_is_told_plainly_and_quoted_to_nobody(
    answer: Answer, fault: AgentFault, mends: bool
) -> None:
    async with local_server(answer) as server:
        with capture_logs() as lines:
            events = await supervised(PydanticAgent(with_model(server.url)), "hello")
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", fault.value)
    line = next(line for line in lines if line["event"] == "chat.agent_failed")
    assert "model local" in line["error"]
    assert bool(line["mend"]) is mends
    assert "sk-secret" not in str((events, lines))


async def test_nobody_listens() -> None:
    async with local_server() as server:
        url = server.url
    model = OpenAIProvider(base_url=f"{url}/v1", api_key="key")
    model.client.max_retries = 0
    events = await supervised(PydanticAgent(Made(OpenAIChatModel("local", provider=model))), "hello")
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "agent_unavailable")


async def hang(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def drip(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    while True:
        await response.write(chunk({"content": "x"}))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [hang, drip])
async def test_a_run_that_is_cancelled_cuts_the_request(answer: Answer) -> None:
    async with local_server(answer) as server, PydanticAgent(with_model(server.url)) as agent:
        bench = Bench(agent)
        name = await bench.ask("hello")
        await eventually(lambda: server.asked)
        bench.chat.runs.cancel(await thread_of(bench), name)
        await bench.ended()
        await eventually(lambda: server.left == 1)
        events = await bench.events()
        await bench.aclose()
    assert events[-1]["outcome"]["type"] == "cancelled"


async def thread_of(bench: Bench) -> Any:
    return await bench.chat.threads.open("t", bench.who.user_id)


async def test_a_model_that_hangs_ends_with_the_time_of_the_run() -> None:
    async with local_server(hang) as server:
        limits = ChatLimits(run_seconds=1.0)
        events = await supervised(PydanticAgent(with_model(server.url)), "hello", limits=limits)
        await eventually(lambda: server.left == len(server.asked))
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "timeout")


async def test_a_tool_that_raises_ends_the_run_and_closes_what_is_open() -> None:
    agent = Made("test")

    @agent.tool_plain
    async def broken() -> str:
        """Raises."""
        raise RuntimeError("the password is hunter2")

    with capture_logs() as lines:
        events = await supervised(PydanticAgent(agent), "go")
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "agent_failed")
    assert "hunter2" not in str(events)
    assert any("Traceback" in line.get("exception", "") for line in lines)


async def test_an_approval_that_nobody_can_give() -> None:
    from pydantic_ai import DeferredToolRequests

    agent = Made("test", output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    async def delete() -> str:
        """Deletes."""
        return "deleted"

    with capture_logs() as lines:
        events = await supervised(PydanticAgent(agent), "go")
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "agent_failed")
    assert "without approval" in next(line for line in lines if line["event"] == "chat.agent_failed")["mend"]
