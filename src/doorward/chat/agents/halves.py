"""Text that was cut in the middle of a character, made whole. Pure.

JavaScript counts a character above U+FFFF as two surrogates, and an agent that cuts its text by that count may part them. A
surrogate alone cannot be written as UTF-8.

Source: Infra Standard, "scalar value string": a surrogate alone becomes U+FFFD.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ag_ui.core import (
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
)

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent

    Delta = TextMessageContentEvent | ReasoningMessageContentEvent | ToolCallArgsEvent
    End = TextMessageEndEvent | ReasoningMessageEndEvent | ToolCallEndEvent

DELTAS = (TextMessageContentEvent, ReasoningMessageContentEvent, ToolCallArgsEvent)
MAX_HELD = 64
"""Messages and calls of one run that may wait for a second half at once."""

_ENDS = (TextMessageEndEvent, ReasoningMessageEndEvent, ToolCallEndEvent)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Halves:
    """What waits in one run: the first half of a character, for the next delta of its message or call."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Delta] = {}

    def join(self, event: BaseEvent) -> list[BaseEvent]:
        """What goes on its way, now that this event came. Deltas are changed in place, and one that says nothing is left out."""
        if isinstance(event, DELTAS):
            return self._joined(event)
        if isinstance(event, _ENDS) and (held := self._held.pop(_part(event), None)) is not None:
            held.delta = whole(held.delta)
            return [held, event]
        return [event]

    def _joined(self, event: Delta) -> list[BaseEvent]:
        part = _part(event)
        held = self._held.pop(part, None)
        text = event.delta if held is None else held.delta + event.delta
        if "\ud800" <= text[-1:] <= "\udbff" and len(self._held) < MAX_HELD:
            self._held[part] = event.model_copy(update={"delta": text[-1]})
            text = text[:-1]
        event.delta = whole(text)
        return [event] if text else []


def whole(text: str) -> str:
    """The text with its halves put together, and U+FFFD for each that is alone."""
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _part(event: Delta | End) -> tuple[str, str]:
    kind = event.type.value.rpartition("_")[0]  # TEXT_MESSAGE, REASONING_MESSAGE, TOOL_CALL
    return kind, event.tool_call_id if isinstance(event, ToolCallArgsEvent | ToolCallEndEvent) else event.message_id
