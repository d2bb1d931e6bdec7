"""Ids that are new in their thread. Pure, but for the random part of an id.

Some models number their tool calls from `call_0` in each answer, and some agents name each message alike. Front ends find a
message by its id, so a second one of the same id would be written into the first.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ag_ui.core import AssistantMessage, EventType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import BaseEvent

    from doorward.chat.transcript import Message

_OPENS = {
    EventType.TEXT_MESSAGE_START: "text",
    EventType.REASONING_START: "reasoning",
    EventType.REASONING_MESSAGE_START: "thought",
    EventType.TOOL_CALL_START: "call",
    EventType.TOOL_CALL_RESULT: "result",
}
_KINDS = _OPENS | {
    EventType.TEXT_MESSAGE_CONTENT: "text",
    EventType.TEXT_MESSAGE_END: "text",
    EventType.REASONING_END: "reasoning",
    EventType.REASONING_MESSAGE_CONTENT: "thought",
    EventType.REASONING_MESSAGE_END: "thought",
    EventType.TOOL_CALL_ARGS: "call",
    EventType.TOOL_CALL_END: "call",
}


class FreshIds:
    """Renames what one run would name a second time; everything else keeps its id.

    Args:
        history: what the thread said before this run.
    """

    def __init__(self, history: Sequence[Message]) -> None:
        self._used = {message.id for message in history} | {
            call.id for message in history if isinstance(message, AssistantMessage) for call in message.tool_calls or []
        }
        self._names: dict[tuple[str, str], str] = {}

    def rename(self, event: BaseEvent) -> None:
        """Give the event the names that hold in this run. It is changed in place."""
        kind = _KINDS.get(event.type)
        if kind is None:
            return
        field = "tool_call_id" if kind == "call" else "message_id"
        name = getattr(event, field)
        if event.type in _OPENS:
            self._names[kind, name] = self._fresh(kind, name)
        setattr(event, field, self._names.get((kind, name), name))
        if kind == "result":
            self._refer(event, "tool_call_id", "call")
        elif event.type is EventType.TOOL_CALL_START:
            self._refer(event, "parent_message_id", "text")

    def _fresh(self, kind: str, name: str) -> str:
        """A thought may have the id of the reasoning that it is in."""
        within = kind == "thought" and (known := self._names.get(("reasoning", name)))
        if within and ("thought", name) not in self._names:
            return known or name
        fresh = f"{name[:24]}-{secrets.token_hex(4)}" if name in self._used else name
        self._used.add(fresh)
        return fresh

    def _refer(self, event: BaseEvent, field: str, kind: str) -> None:
        name = getattr(event, field)
        setattr(event, field, self._names.get((kind, name), name))
