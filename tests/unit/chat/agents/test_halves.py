from __future__ import annotations

from ag_ui.core import (
    BaseEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from doorward.chat.agents.halves import MAX_HELD, Halves, whole

SMILE = "\U0001f600"
FIRST, SECOND = "\ud83d", "\ude00"
LOST = "\ufffd"


def units(text: str) -> list[str]:
    """One by one, as JavaScript counts."""
    pairs = text.encode("utf-16-le", "surrogatepass")
    return [pairs[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(pairs), 2)]


def word(delta: str, message_id: str = "m") -> TextMessageContentEvent:
    return TextMessageContentEvent(message_id=message_id, delta=delta)


def said(events: list[BaseEvent], message_id: str = "m") -> str:
    return "".join(
        event.delta for event in events if isinstance(event, TextMessageContentEvent) and event.message_id == message_id
    )


def test_what_is_alone_becomes_one_replacement_character() -> None:
    assert whole("plain \u00e9") == "plain \u00e9"
    assert whole(FIRST + SECOND) == SMILE
    assert whole(FIRST + FIRST + SECOND + SECOND) == LOST + SMILE + LOST
    assert whole(f"a{FIRST}b") == f"a{LOST}b"


@given(st.text(st.characters(categories=["L", "So", "Cs"]) | st.sampled_from([FIRST, SECOND, SMILE])), st.data())
def test_wherever_it_is_cut_it_says_the_same(text: str, data: st.DataObject) -> None:
    left, deltas = units(text), []
    while left:
        number = data.draw(st.integers(1, len(left)))
        deltas.append("".join(left[:number]))
        left = left[number:]
    halves = Halves()
    events = [event for delta in deltas for event in halves.join(word(delta))]
    events += halves.join(TextMessageEndEvent(message_id="m"))
    assert said(events) == whole(text)
    assert all(event.delta for event in events if isinstance(event, TextMessageContentEvent))


def test_each_message_and_each_call_has_its_own_halves() -> None:
    halves = Halves()
    assert halves.join(word(FIRST, "a")) == []
    assert halves.join(ToolCallArgsEvent(tool_call_id="a", delta=FIRST)) == []
    assert halves.join(word("b", "b")) == [word("b", "b")]
    assert halves.join(word(SECOND, "a")) == [word(SMILE, "a")]
    ended = ToolCallEndEvent(tool_call_id="a")
    assert halves.join(ended) == [ToolCallArgsEvent(tool_call_id="a", delta=LOST), ended]
    assert halves.join(ended) == [ended]


def test_what_is_held_is_bounded() -> None:
    halves = Halves()
    for number in range(MAX_HELD):
        assert halves.join(word(FIRST, f"m{number}")) == []
    assert halves.join(word(FIRST, "one more")) == [word(LOST, "one more")]
    assert halves.join(word(SECOND, "m0")) == [word(SMILE, "m0")]
    assert halves.join(word(FIRST, "one more")) == []
