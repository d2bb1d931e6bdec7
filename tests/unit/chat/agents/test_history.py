from __future__ import annotations

from ag_ui.core import AssistantMessage, FunctionCall, ReasoningMessage, ToolCall, ToolMessage, UserMessage

from doorward.chat.agents.history import usable
from doorward.chat.transcript import Message

QUESTION = UserMessage(id="q", content="why?")


def call(name: str) -> ToolCall:
    return ToolCall(id=name, function=FunctionCall(name="look", arguments="{}"))


def result(name: str) -> ToolMessage:
    return ToolMessage(id=f"{name}:result", content="42", tool_call_id=name)


def test_what_is_whole_stays_as_it_is() -> None:
    whole: list[Message] = [QUESTION, AssistantMessage(id="a", tool_calls=[call("c")]), result("c"), QUESTION]
    assert usable(whole) == whole


def test_a_call_without_a_result_goes_and_the_words_beside_it_stay() -> None:
    said = AssistantMessage(id="a", content="I look", tool_calls=[call("c"), call("d")])
    kept = usable([QUESTION, said, result("d")])
    assert kept == [QUESTION, AssistantMessage(id="a", content="I look", tool_calls=[call("d")]), result("d")]
    assert said.tool_calls is not None
    assert len(said.tool_calls) == 2


def test_what_says_nothing_goes() -> None:
    assert usable([QUESTION, AssistantMessage(id="a"), AssistantMessage(id="b", tool_calls=[call("c")])]) == [QUESTION]
    assert usable([result("c"), AssistantMessage(id="a", tool_calls=[call("c")]), result("c")])[0].id == "a"
    assert usable([QUESTION, ReasoningMessage(id="r", content="hm")]) == [QUESTION]
