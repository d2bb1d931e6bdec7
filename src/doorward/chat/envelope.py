"""The envelope around every AG-UI event on the wire: which thread, which place in its order, which run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent

MERGEABLE = frozenset({"TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT"})
"""Events whose `delta` may be joined to the one before."""


class Envelope(msgspec.Struct, frozen=True):
    """One event of a thread. `[seq_from, seq]` is the range it covers; `ts` in wall-clock milliseconds."""

    thread_id: str
    epoch: str
    seq_from: int
    seq: int
    run_id: str
    ts: int
    event: msgspec.Raw
    v: int = 1


class SyntheticEnvelope(msgspec.Struct, frozen=True):
    """An event made for one subscriber, a snapshot for instance. It has no place in the order."""

    thread_id: str
    epoch: str
    ts: int
    event: msgspec.Raw
    run_id: str | None = None
    synthetic: bool = True
    v: int = 1


class _Delta(msgspec.Struct):
    type: str
    messageId: str = ""  # noqa: N815 - the name on the wire
    delta: str = ""


def event_json(event: BaseEvent) -> bytes:
    """The event as AG-UI puts it on the wire: camelCase, nothing for what has no value."""
    return event.model_dump_json(by_alias=True).encode()


def encode(envelope: Envelope | SyntheticEnvelope) -> str:
    """The envelope as JSON."""
    return msgspec.json.encode(envelope).decode()


def merged(first: Envelope, second: Envelope, *, max_bytes: int) -> Envelope | None:
    """One envelope that says what the two say, or `None` where that cannot be.

    They must follow each other without a gap, be deltas of the same message, and together hold at most `max_bytes`.
    """
    adjacent = first.thread_id == second.thread_id and first.epoch == second.epoch and first.seq + 1 == second.seq_from
    if not adjacent or len(first.event) + len(second.event) > max_bytes:
        return None
    head, tail = _delta(first), _delta(second)
    if head is None or tail is None or (head.type, head.messageId) != (tail.type, tail.messageId):
        return None
    content = msgspec.json.decode(first.event)
    content["delta"] = head.delta + tail.delta
    return msgspec.structs.replace(second, seq_from=first.seq_from, event=msgspec.Raw(msgspec.json.encode(content)))


def _delta(envelope: Envelope) -> _Delta | None:
    content = msgspec.json.decode(envelope.event, type=_Delta)
    return content if content.type in MERGEABLE else None
