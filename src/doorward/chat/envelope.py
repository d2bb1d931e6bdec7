"""The envelope around every AG-UI event on the wire: which thread, which place in its order, which run."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import BaseEvent

MERGEABLE = frozenset({"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT", "TOOL_CALL_ARGS"})
"""Events whose `delta` may be joined to the one before, where both are about the same message or call."""


class Envelope(msgspec.Struct, frozen=True, dict=True):
    """One event of a thread. `[seq_from, seq]` is the range it covers; `ts` in wall-clock milliseconds."""

    thread_id: str
    epoch: str
    seq_from: int
    seq: int
    run_id: str
    ts: int
    event: msgspec.Raw
    v: int = 1

    @cached_property
    def encoded(self) -> bytes:
        """As JSON, made once for all who read it."""
        return encode(self)


class SyntheticEnvelope(msgspec.Struct, frozen=True):
    """An event made for one subscriber, a snapshot for instance. It has no place in the order: it stands at `after_seq`.

    That is `None` before a snapshot: who has received no more than this has no position yet.
    """

    thread_id: str
    epoch: str
    ts: int
    event: msgspec.Raw
    after_seq: int | None
    run_id: str | None = None
    synthetic: bool = True
    v: int = 1


class _Kind(msgspec.Struct):
    type: str


class _Delta(msgspec.Struct):
    type: str
    messageId: str = ""  # noqa: N815 - the name on the wire
    toolCallId: str = ""  # noqa: N815 - the name on the wire
    delta: str = ""

    @property
    def subject(self) -> tuple[str, str, str]:
        """Deltas with the same one may be joined."""
        return self.type, self.messageId, self.toolCallId


def event_json(event: BaseEvent) -> bytes:
    """The event as AG-UI puts it on the wire: camelCase, nothing for what has no value."""
    return event.model_dump_json(by_alias=True).encode()


def encode(envelope: Envelope | SyntheticEnvelope) -> bytes:
    """The envelope as JSON."""
    return msgspec.json.encode(envelope)


def kind_of(envelope: Envelope) -> str:
    """The type of its event."""
    return msgspec.json.decode(envelope.event, type=_Kind).type


def merged(first: Envelope, second: Envelope, *, max_bytes: int) -> Envelope | None:
    """One envelope that says what the two say, or `None` where that cannot be.

    They must follow each other without a gap, be deltas of the same message, and together hold at most `max_bytes`.
    """
    adjacent = first.thread_id == second.thread_id and first.epoch == second.epoch and first.seq + 1 == second.seq_from
    if not adjacent or len(first.event) + len(second.event) > max_bytes:
        return None
    head, tail = _delta(first), _delta(second)
    if head is None or tail is None or head.subject != tail.subject:
        return None
    return _joined([first, second], [head.delta, tail.delta])


def compacted(envelopes: Sequence[Envelope], *, max_bytes: int) -> list[Envelope]:
    """The same ranges and words in fewer envelopes: neighbouring deltas of one message are joined up to `max_bytes`."""
    kept: list[Envelope] = []
    group: list[Envelope] = []
    deltas: list[_Delta] = []
    size = 0

    def flush() -> None:
        if group:
            kept.append(_joined(group, [delta.delta for delta in deltas]))
        group.clear()
        deltas.clear()

    for envelope in envelopes:
        delta = _delta(envelope)
        size += len(envelope.event)
        if not group or delta is None or delta.subject != deltas[-1].subject or size > max_bytes:
            flush()
            size = len(envelope.event)
        if delta is None:
            kept.append(envelope)
        else:
            group.append(envelope)
            deltas.append(delta)
    flush()
    return kept


def _joined(group: Sequence[Envelope], deltas: Sequence[str]) -> Envelope:
    if len(group) == 1:
        return group[0]
    content = msgspec.json.decode(group[0].event)
    content["delta"] = "".join(deltas)
    event = msgspec.Raw(msgspec.json.encode(content))
    return msgspec.structs.replace(group[-1], seq_from=group[0].seq_from, event=event)


def _delta(envelope: Envelope) -> _Delta | None:
    """`None` of everything else, whatever it calls its own delta: that of a `STATE_DELTA` is a list."""
    try:
        content = msgspec.json.decode(envelope.event, type=_Delta)
    except msgspec.ValidationError:
        return None
    return content if content.type in MERGEABLE else None
