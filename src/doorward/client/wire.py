"""What comes over `/ws`, read: envelopes of threads, and the place of each in its thread's order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

SUBPROTOCOL = "doorward.v1"
ENDINGS = frozenset({"RUN_FINISHED", "RUN_ERROR"})
SNAPSHOT = "MESSAGES_SNAPSHOT"


class Position(NamedTuple):
    """A place in a thread's order: everything up to `seq` was seen. Keep it to go on from there in another process."""

    epoch: str
    seq: int


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One AG-UI event of a thread. `[seq_from, seq]` is the range that it covers; `ts` in wall-clock milliseconds.

    A synthetic one was made for this client, and stands at `after_seq`: a snapshot, which replaces what you have shown.
    `active_run_id` is the client's own addition to a snapshot: the run that goes on behind it, if one does.
    """

    v: int = 1
    thread_id: str
    epoch: str
    seq_from: int | None = None
    seq: int | None = None
    after_seq: int | None = None
    synthetic: bool = False
    run_id: str | None = None
    active_run_id: str | None = None
    ts: int = 0
    event: dict[str, Any]

    @property
    def kind(self) -> str:
        """AG-UI's name of the event."""
        return str(self.event.get("type", ""))

    @property
    def is_snapshot(self) -> bool:
        return self.synthetic and self.kind == SNAPSHOT

    @property
    def ends_run(self) -> bool:
        return self.kind in ENDINGS

    @property
    def is_retryable(self) -> bool:
        """Of a `RUN_ERROR`: the same question, as another run, may well get its answer."""
        metadata = self.event.get("metadata")
        return self.kind == "RUN_ERROR" and isinstance(metadata, dict) and metadata.get("retryable") is True

    @property
    def position(self) -> Position | None:
        """Where one stands who has seen this."""
        seq = self.after_seq if self.synthetic else self.seq
        return None if seq is None else Position(self.epoch, seq)


def read_message(text: str) -> dict[str, Any] | None:
    """One message of the server; `None` where it is none of this protocol."""
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_envelope(message: dict[str, Any]) -> Envelope | None:
    """The envelope in it; `None` where it is none that this client understands."""
    try:
        envelope = msgspec.convert(message, Envelope)
    except msgspec.ValidationError:
        return None
    placed = envelope.synthetic or (envelope.seq_from is not None and envelope.seq is not None)
    return envelope if envelope.v == 1 and placed else None


class Step(StrEnum):
    """What to make of the next envelope."""

    APPLY = "apply"
    IGNORE = "ignore"
    GAP = "gap"


@dataclass(slots=True)
class Cursor:
    """The last place seen of one thread. Ranges are contiguous: `seq_from == last + 1`."""

    epoch: str | None = None
    seq: int | None = None

    @property
    def position(self) -> Position | None:
        return None if self.epoch is None or self.seq is None else Position(self.epoch, self.seq)

    def take(self, envelope: Envelope) -> Step:
        """Move on if the envelope follows; say what is wrong if it does not, and stay."""
        if not envelope.synthetic and self.seq is not None:
            if envelope.epoch != self.epoch:
                return Step.GAP
            if (envelope.seq or 0) <= self.seq:
                return Step.IGNORE
            if envelope.seq_from != self.seq + 1:
                return Step.GAP
        self.epoch = envelope.epoch
        self.seq = envelope.after_seq if envelope.synthetic else envelope.seq
        return Step.APPLY
