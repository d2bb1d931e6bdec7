from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from ag_ui.core import (
    BaseEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from doorward.chat.agents.gather import MAX_CHARACTERS, Gatherer, gathered
from doorward.chat.limits import ChatLimits
from doorward.config import ChatSettings


def word(text: str = "x", message_id: str = "m") -> TextMessageContentEvent:
    return TextMessageContentEvent(message_id=message_id, delta=text, timestamp=7)


def played(seconds: float, per_second: float) -> list[BaseEvent]:
    """What becomes of a model that writes one letter at a time, at an even pace."""
    gatherer = Gatherer()
    number = int(seconds * per_second)
    events = [out for n in range(number) for out in gatherer.take(word(), n / per_second)]
    return events + gatherer.rest()


def text(events: list[BaseEvent]) -> str:
    return "".join(event.delta for event in events if isinstance(event, TextMessageContentEvent))


def test_the_first_words_pass_as_they_come() -> None:
    gatherer = Gatherer()
    for number in range(100):
        (event,) = gatherer.take(word(str(number)), now=1.0)
        assert isinstance(event, TextMessageContentEvent)
        assert (event.delta, event.timestamp) == (str(number), None)


LONGEST = next(bound.le for bound in ChatSettings.model_fields["agent_seconds"].metadata if hasattr(bound, "le"))


@pytest.mark.parametrize("per_second", [20, 100, 1_000])
def test_a_run_as_long_as_may_be_stays_within_its_events(per_second: int) -> None:
    events = played(LONGEST, per_second)
    assert len(events) < ChatLimits().events_per_run
    assert text(events) == "x" * int(LONGEST * per_second)


def test_what_is_held_goes_before_whatever_comes_next() -> None:
    gatherer = Gatherer()
    for _ in range(200):
        gatherer.take(word(), now=0.0)
    assert gatherer.take(word("a"), now=0.01) == []
    assert gatherer.take(word("b"), now=0.02) == []
    other = gatherer.take(ToolCallArgsEvent(tool_call_id="m", delta="{"), now=0.03)
    assert text(other).endswith("ab")
    *held, end = gatherer.take(TextMessageEndEvent(message_id="m"), now=0.04)
    assert [event.type.value for event in held] == ["TOOL_CALL_ARGS"]
    assert isinstance(end, TextMessageEndEvent)
    assert gatherer.rest() == []


def test_no_delta_grows_without_a_bound() -> None:
    gatherer = Gatherer()
    events = [out for _ in range(300) for out in gatherer.take(word("x" * 1_000), now=0.0)]
    assert all(isinstance(event, TextMessageContentEvent) and len(event.delta) <= MAX_CHARACTERS for event in events)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=3), st.floats(0, 0.3)), max_size=400))
def test_nothing_is_lost_and_all_stays_in_order(words: list[tuple[str, str, float]]) -> None:
    gatherer, now, events = Gatherer(), 0.0, list[BaseEvent]()
    for message_id, delta, later in words:
        now += later
        events += gatherer.take(word(delta, message_id), now)
    events += gatherer.rest()
    letters = [(event.message_id, letter) for event in events for letter in event.delta]  # type: ignore[attr-defined]
    assert letters == [(message_id, letter) for message_id, delta, _ in words for letter in delta]


async def test_what_came_before_a_failure_is_said() -> None:
    closed = []

    async def failing() -> AsyncGenerator[BaseEvent, None]:
        try:
            yield TextMessageStartEvent(message_id="m")
            for _ in range(1_000):
                yield word()
            raise RuntimeError
        finally:
            closed.append(True)

    events: list[BaseEvent] = []

    async def collect() -> None:
        async for event in gathered(failing()):
            events.append(event)  # noqa: PERF401 - it fails on the way

    with pytest.raises(RuntimeError):
        await collect()
    assert text(events) == "x" * 1_000
    assert len(events) < 200
    assert closed


async def test_a_character_that_a_model_cut_in_two_is_whole() -> None:
    async def cutting() -> AsyncGenerator[BaseEvent, None]:
        for part in ("Done \ud83d", "\ude00 all well \ud83d"):
            yield word(part)
        yield TextMessageEndEvent(message_id="m")

    assert text([event async for event in gathered(cutting())]) == "Done \U0001f600 all well \ufffd"
