"""A model chosen by its name alone, as a newcomer does it: both protocols of OpenAI, spoken by a local server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from tests.agent_support import Answer, completions, events_of, kinds, local_server, opened, said
from tests.chat_support import FakeInsight

from doorward import Settings
from doorward.chat.agents.factory import make_agent
from doorward.chat.agents.port import Agent


def by_name(model: str) -> Agent:
    chat = {"agent": "pydantic-ai", "agent_model": model, "agent_instructions": "Be brief."}
    return make_agent(Settings(chat=chat).chat, insight=FakeInsight())


def response(**changes: Any) -> dict[str, Any]:
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "local",
        "status": "in_progress",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    return whole | changes


def responses(thoughts: list[str], words: list[str]) -> Answer:
    """What OpenAI's Responses API streams: a line of thought, then an answer."""
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    at_thought = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    at_text = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": response()}),
        ("response.output_item.added", {"output_index": 0, "item": reasoning}),
        ("response.reasoning_summary_part.added", at_thought | {"part": {"type": "summary_text", "text": ""}}),
        *(("response.reasoning_summary_text.delta", at_thought | {"delta": thought}) for thought in thoughts),
        ("response.output_item.done", {"output_index": 0, "item": reasoning}),
        ("response.output_item.added", {"output_index": 1, "item": message}),
        ("response.content_part.added", at_text | {"part": part}),
        *(("response.output_text.delta", at_text | {"delta": word, "logprobs": []}) for word in words),
        ("response.output_item.done", {"output_index": 1, "item": message | {"status": "completed"}}),
        ("response.completed", {"response": response(status="completed")}),
    ]

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        stream = await opened(request)
        for number, (kind, fields) in enumerate(events):
            content = json.dumps({"type": kind, "sequence_number": number} | fields)
            await stream.write(f"event: {kind}\ndata: {content}\n\n".encode())
        return stream

    return answer


async def test_the_responses_protocol_with_its_reasoning(monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_server(responses(["let me ", "see"], ["forty", " two"])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        events = await events_of(by_name("openai:local"), "what is it?")
    assert said(events) == "forty two"
    thoughts = [event["delta"] for event in events if event["type"] == "REASONING_MESSAGE_CONTENT"]
    assert "".join(thoughts) == "let me see"
    assert kinds(events).index("REASONING_END") < kinds(events).index("TEXT_MESSAGE_START")
    assert server.headers[0]["Authorization"] == "Bearer key"
    assert "Be brief." in str(server.asked[0])


async def test_chat_completions_as_most_servers_speak_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_server(completions({"role": "assistant", "content": "for"}, {"content": "ty two"})) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        events = await events_of(by_name("openai-chat:local"), "what is it?")
    assert said(events) == "forty two"
    assert [message["role"] for message in server.asked[0]["messages"]] == ["system", "user"]
