"""What a consumer that knows nothing is told before it is let into the middle of a run: that it goes on, and what is open. Pure.

AG-UI's verifier, for one: it takes no delta of a message whose beginning it has not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from ag_ui.core import RunFinishedEvent, RunStartedEvent

from doorward.chat.envelope import event_json
from doorward.chat.sequence import CLOSES, FIELD, OPENS, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from doorward.chat.envelope import Envelope

WRAPPING: Final = "snapshot:"
"""Begins the name of the run that is put around a snapshot."""

_OPENS: Final = {kind.value: part for kind, part in OPENS.items()}
_CLOSES: Final = {kind.value: part for kind, part in CLOSES.items()}


class _Mark(msgspec.Struct, rename="camel"):
    type: str
    message_id: str = ""
    tool_call_id: str = ""
    step_name: str = ""

    def name_of(self, part: Part) -> str:
        return str(getattr(self, FIELD[part]))


def prelude(run: Sequence[Envelope]) -> list[bytes]:
    """The beginning of the run, and of each part of it that is open after these envelopes: the very events, said once more."""
    opened: dict[tuple[Part, str], bytes] = {}
    for envelope in run[1:]:
        mark = msgspec.json.decode(envelope.event, type=_Mark)
        if part := _OPENS.get(mark.type):
            opened[part, mark.name_of(part)] = bytes(envelope.event)
        elif part := _CLOSES.get(mark.type):
            opened.pop((part, mark.name_of(part)), None)
    return [*(bytes(envelope.event) for envelope in run[:1]), *opened.values()]


def wrapping(thread_id: str, after_seq: int) -> tuple[bytes, bytes]:
    """What makes a snapshot a run of its own, so that it may come first and any run after it: its beginning and its end."""
    run_id = f"{WRAPPING}{after_seq}"
    begun, ended = (kind(thread_id=thread_id, run_id=run_id) for kind in (RunStartedEvent, RunFinishedEvent))
    return event_json(begun), event_json(ended)
