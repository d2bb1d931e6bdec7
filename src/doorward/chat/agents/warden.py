"""The warden: an agent without a model that answers questions about this very door, with real tools."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from ag_ui.core import (
    BaseEvent,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from doorward.chat.agents import wording
from doorward.chat.agents.intents import DEFAULT_WINDOW_SECONDS, Question, Target, Topic, understand
from doorward.chat.agents.tools import Tools

if TYPE_CHECKING:
    from doorward.chat.agents.port import RunRequest
    from doorward.runtime.insight import Insight

DELTA_CHARACTERS = 24
PACE_SECONDS = 0.012
"""Between two deltas, so that an answer can be read as it comes, and stopped."""

_SMALL_TALK = {
    Topic.HELP: wording.HELP,
    Topic.GREETING: wording.GREETING,
    Topic.THANKS: wording.THANKS,
    Topic.UNKNOWN: wording.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the warden is going to do: a thought, one tool, and how its result is put into words."""

    thought: str
    tool: str
    arguments: Mapping[str, Any]
    answer: Callable[[Mapping[str, Any]], str]


class Warden:
    """Answers from an `Insight`. `pace_seconds` lies between two deltas."""

    def __init__(self, insight: Insight, *, pace_seconds: float = PACE_SECONDS) -> None:
        self._tools = Tools(insight)
        self._pace = pace_seconds

    async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """Think, look, answer.

        Cancellation: leaves nothing behind.
        """
        plan = plan_for(understand(request.message))
        if isinstance(plan, str):
            answer = plan
        else:
            async for event in self._think(request, plan.thought):
                yield event
            result = self._tools.call(plan.tool, plan.arguments, request.who)
            for event in _tool_events(request, plan, result):
                yield event
                await asyncio.sleep(self._pace)
            answer = plan.answer(result)
        async for event in self._say(request, answer):
            yield event

    async def _think(self, request: RunRequest, thought: str) -> AsyncIterator[BaseEvent]:
        name = f"{request.run_id}:reasoning"
        yield ReasoningStartEvent(message_id=name)
        yield ReasoningMessageStartEvent(message_id=name)
        for delta in deltas(thought):
            yield ReasoningMessageContentEvent(message_id=name, delta=delta)
            await asyncio.sleep(self._pace)
        yield ReasoningMessageEndEvent(message_id=name)
        yield ReasoningEndEvent(message_id=name)

    async def _say(self, request: RunRequest, answer: str) -> AsyncIterator[BaseEvent]:
        name = f"{request.run_id}:answer"
        yield TextMessageStartEvent(message_id=name, role="assistant")
        for delta in deltas(answer):
            yield TextMessageContentEvent(message_id=name, delta=delta)
            await asyncio.sleep(self._pace)
        yield TextMessageEndEvent(message_id=name)


def plan_for(question: Question) -> Plan | str:
    """What to do about a question, or the answer itself where nothing has to be looked up."""
    match question.topic:
        case Topic.SERVICE:
            thought = (
                "This is about the auth service. I look at the breaker, the last health check and the last answer."
            )
            return Plan(thought, "service_state", {}, wording.service_answer)
        case Topic.STATISTICS:
            window = question.window_seconds or DEFAULT_WINDOW_SECONDS
            thought = f"This is about what was decided. I count the decisions of the last {wording.duration(window)}."
            return Plan(thought, "decision_statistics", {"window_seconds": window}, wording.statistics_answer)
        case Topic.EXPLAIN:
            return _explanation(question)
        case Topic.CONNECTIONS:
            scope = "own" if question.own else "all"
            thought = "This is about who is connected. I look at the open sockets, as far as you may see them."
            return Plan(thought, "who_is_connected", {"scope": scope}, wording.connections_answer)
        case _:
            return _SMALL_TALK[question.topic]


def _explanation(question: Question) -> Plan:
    if question.decision_id is not None:
        thought = f"This is about decision {question.decision_id}. I look it up with its timeline."
        arguments: dict[str, Any] = {"decision_id": question.decision_id}
    else:
        which = question.target or Target.OWN
        meant = {
            Target.OWN: "your newest decision",
            Target.CONNECTION: "the decision that let this connection in",
            Target.LAST: "the newest decision that you may see",
        }
        thought = f"This is about {meant[which]}. I look it up with its timeline."
        arguments = {"which": which.value}
    return Plan(thought, "explain_decision", arguments, wording.decision_answer)


def _tool_events(request: RunRequest, plan: Plan, result: Mapping[str, Any]) -> list[BaseEvent]:
    call = f"{request.run_id}:tool"
    return [
        ToolCallStartEvent(tool_call_id=call, tool_call_name=plan.tool),
        ToolCallArgsEvent(tool_call_id=call, delta=msgspec.json.encode(plan.arguments).decode()),
        ToolCallEndEvent(tool_call_id=call),
        ToolCallResultEvent(
            message_id=f"{request.run_id}:result",
            tool_call_id=call,
            content=msgspec.json.encode(result).decode(),
            role="tool",
        ),
    ]


def deltas(text: str) -> list[str]:
    """The text in pieces of whole words, about `DELTA_CHARACTERS` long."""
    pieces: list[str] = []
    for word in re.findall(r"\s*\S+|\s+\Z", text):
        if pieces and len(pieces[-1]) + len(word) <= DELTA_CHARACTERS:
            pieces[-1] += word
        else:
            pieces.append(word)
    return pieces
