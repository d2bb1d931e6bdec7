"""The warden: an agent without a model that answers questions about this very door, with real tools."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from ag_ui.core import (
    BaseEvent,
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
    from doorward.chat.agents.tools import Drill
    from doorward.runtime.insight import Insight

DELTA_CHARACTERS = 24
PACE_SECONDS = 0.012
"""Between two deltas, so that an answer can be read as it comes, and stopped."""

DEFAULT_FAULT = "silence"

_SMALL_TALK = {
    Topic.HELP: wording.HELP,
    Topic.GREETING: wording.GREETING,
    Topic.THANKS: wording.THANKS,
    Topic.UNKNOWN: wording.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the warden is going to do: one tool, and how its result is put into words."""

    tool: str
    arguments: Mapping[str, Any]
    answer: Callable[[Mapping[str, Any]], str]


class Warden:
    """Answers from an `Insight`. `pace_seconds` lies between two deltas.

    Args:
        insight: what it looks at.
        drill: what it may break on purpose, for an admin.
        pace_seconds: between two deltas.
    """

    def __init__(self, insight: Insight, drill: Drill | None = None, *, pace_seconds: float = PACE_SECONDS) -> None:
        self._tools = Tools(insight, drill)
        self._pace = pace_seconds

    async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        """Look, answer. It has no model, so there is no reasoning to show.

        Cancellation: leaves nothing behind.
        """
        plan = plan_for(understand(request.message), self._tools.faults)
        if isinstance(plan, str):
            answer = plan
        else:
            if plan.tool == "run_drill" and self._tools.plays(request.who):
                async for event in self._say(request, wording.DRILL_BEGINS, part="before"):
                    yield event
            for event in _call(request, plan):
                yield event
            result = await self._tools.use(plan.tool, plan.arguments, request.who)
            yield _result(request, result)
            answer = plan.answer(result)
        async for event in self._say(request, answer):
            yield event

    async def _say(self, request: RunRequest, answer: str, *, part: str = "answer") -> AsyncIterator[BaseEvent]:
        name = f"{request.run_id}:{part}"
        yield TextMessageStartEvent(message_id=name, role="assistant")
        for delta in deltas(answer):
            yield TextMessageContentEvent(message_id=name, delta=delta)
            await asyncio.sleep(self._pace)
        yield TextMessageEndEvent(message_id=name)


def plan_for(question: Question, faults: Sequence[str] = ()) -> Plan | str:
    """What to do about a question, or the answer itself where nothing has to be looked up.

    Args:
        faults: what a drill can break.
    """
    match question.topic:
        case Topic.SERVICE:
            return Plan("service_state", {}, wording.service_answer)
        case Topic.STATISTICS:
            window = question.window_seconds or DEFAULT_WINDOW_SECONDS
            return Plan("decision_statistics", {"window_seconds": window}, wording.statistics_answer)
        case Topic.EXPLAIN if question.decision_id is not None:
            return Plan("explain_decision", {"decision_id": question.decision_id}, wording.decision_answer)
        case Topic.EXPLAIN:
            which = (question.target or Target.OWN).value
            return Plan("explain_decision", {"which": which}, wording.decision_answer)
        case Topic.CONNECTIONS:
            scope = "own" if question.own else "all"
            return Plan("who_is_connected", {"scope": scope}, wording.connections_answer)
        case Topic.DRILL:
            fault = question.fault or DEFAULT_FAULT
            if faults and fault not in faults:
                return wording.no_such_fault(fault, faults)
            return Plan("run_drill", {"fault": fault}, wording.drill_answer)
        case _:
            return _SMALL_TALK[question.topic]


def _call(request: RunRequest, plan: Plan) -> list[BaseEvent]:
    name = f"{request.run_id}:tool"
    return [
        ToolCallStartEvent(tool_call_id=name, tool_call_name=plan.tool),
        ToolCallArgsEvent(tool_call_id=name, delta=msgspec.json.encode(plan.arguments).decode()),
        ToolCallEndEvent(tool_call_id=name),
    ]


def _result(request: RunRequest, result: Mapping[str, Any]) -> BaseEvent:
    return ToolCallResultEvent(
        message_id=f"{request.run_id}:result",
        tool_call_id=f"{request.run_id}:tool",
        content=msgspec.json.encode(result).decode(),
        role="tool",
    )


def deltas(text: str) -> list[str]:
    """The text in pieces of whole words, about `DELTA_CHARACTERS` long."""
    pieces: list[str] = []
    for word in re.findall(r"\s*\S+|\s+\Z", text):
        if pieces and len(pieces[-1]) + len(word) <= DELTA_CHARACTERS:
            pieces[-1] += word
        else:
            pieces.append(word)
    return pieces
