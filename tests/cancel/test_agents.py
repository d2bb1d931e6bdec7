"""Runs of agents over real sockets, cancelled at each await as a stop does it: the request is cut, and the next run is as good."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web
from pydantic_ai import Agent as Made
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.agent_support import completions, events_of, local_server, opened, said, tool_call
from tests.cancel.driver import Moment, at_every_suspension, struck_at
from tests.chat_support import Person

from doorward.chat.agents.http import HttpAgent
from doorward.chat.agents.port import Agent, RunRequest
from doorward.chat.agents.pydantic_ai import PydanticAgent
from doorward.testing import no_leaks


async def consumed(agent: Agent) -> None:
    """As the supervisor does it: whatever happens, the events are closed."""
    async with AsyncExitStack() as stack:
        events: Any = agent.run(RunRequest("t", "r", "hello", Person()))
        stack.push_async_callback(events.aclose)
        async for _ in events:
            pass


async def test_a_run_over_http() -> None:
    events = [
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "well"},
        {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    ]

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = await opened(request)
        for event in events:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        return response

    async with local_server(answer) as server:

        async def world(at: int, moment: Moment) -> bool:
            async with no_leaks():
                agent = HttpAgent(server.url)
                async with agent:
                    struck = await struck_at(at, moment, consumed(agent))
                assert said(await events_of(agent, "hello")) == "well"
            return struck

        await at_every_suspension(world, at_least=2)


async def test_a_run_of_pydantic_ai_with_a_tool() -> None:
    first, then = completions(*tool_call("look", "{}")), completions({"content": "well"})

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        looked = body["messages"][-1]["role"] == "tool"
        return await (then if looked else first)(request, body)

    async with local_server(answer) as server:

        async def world(at: int, moment: Moment) -> bool:
            model = OpenAIChatModel("local", provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key="key"))
            made = Made(model)

            @made.tool_plain
            async def look() -> str:
                """Look."""
                return "well"

            agent = PydanticAgent(made)
            async with no_leaks():
                async with agent:
                    struck = await struck_at(at, moment, consumed(agent))
                assert said(await events_of(agent, "hello")) == "well"
            return struck

        await at_every_suspension(world, at_least=5)
