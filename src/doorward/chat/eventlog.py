"""The ordered events of each thread: the port that logs are reached through.

`append` gives each event the next number of its thread, `read` and `follow` hand them out in that order. The order
belongs to an *epoch*: when a log can no longer vouch for its numbers it starts another epoch, and readers begin anew.
Only the holder of a thread's newest lease may append: whoever lost it, to another process for instance, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from doorward.chat.envelope import kind_of
from doorward.errors import DoorwardError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from doorward.chat.envelope import Envelope

PAGE: Final = 256
"""Envelopes that `follow` hands out at once, at most."""

PAGE_BYTES: Final = 65_536
"""Of events that are handed out at once; a single event may be larger."""

BEGINS: Final = "RUN_STARTED"
ENDS: Final = frozenset({"RUN_FINISHED", "RUN_ERROR"})
"""The first event of every run, and the last. Runs of a thread never interleave."""

COMPACTED_BYTES: Final = 65_536
"""A compacted envelope holds at most this much."""


class OutOfWindow(Exception):
    """The log cannot go on from there: another epoch, no longer retained, inside a compacted range, or past the head."""


class LeaseLost(DoorwardError):
    """Somebody else has taken the thread since. Nothing was appended, and nothing ever will be with this lease."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to append to a thread, for one run. A later one ends it, and has a larger `fence`; none is given twice."""

    thread_id: str
    run_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Retention:
    """What a log keeps of each thread: the newest `events`, none older than `seconds`."""

    events: int = 4_096
    seconds: float = 30 * 86_400.0


class EventLog(Protocol):
    """Append-only. Ranges `[seq_from, seq]` follow each other without a hole; no number is used twice in an epoch."""

    @property
    def epoch(self) -> str:
        """Names the numbering; another one means that earlier numbers say nothing."""
        ...

    async def open(self, thread_id: str) -> int:
        """Make a place for the thread if it has none, and return the position that everything retained of it follows.

        Raises:
            StoreError: it could not be asked.

        Cancellation: the place may be made.
        """
        ...

    async def acquire(self, thread_id: str, run_id: str) -> Lease:
        """Take the thread; whoever had it can append no more.

        Raises:
            StoreError: it could not be asked; nobody may have the lease then.

        Cancellation: the lease may be taken, and nobody holds it.
        """
        ...

    async def append(self, lease: Lease, events: Sequence[bytes]) -> int:
        """Add the events (AG-UI JSON) in one step and return the number of the last one.

        No reader sees them before they are as safe as this log makes them.

        Raises:
            LeaseLost: the thread was taken by somebody else.
            StoreError: nobody knows whether they are in.

        Cancellation: all of them are in the log, or none.
        """
        ...

    async def read(self, thread_id: str, *, epoch: str, after_seq: int, limit: int) -> Sequence[Envelope]:
        """At most `limit` envelopes after `after_seq`, oldest first, and no more than `PAGE_BYTES` need; empty at the head.

        Raises:
            OutOfWindow: what follows `after_seq` is not all there.
            StoreError: it could not be read.
        """
        ...

    def follow(self, thread_id: str, *, epoch: str, after_seq: int) -> AsyncGenerator[Sequence[Envelope], None]:
        """Everything after `after_seq`, then what is appended, until the reader stops.

        Raises:
            OutOfWindow: at any time, for a reader that is slower than the log forgets.
            StoreError: it could not be read.

        Cancellation: leaves nothing behind.
        """
        ...

    async def run_at(self, thread_id: str, *, epoch: str, after_seq: int) -> Sequence[Envelope]:
        """The run that goes on after `after_seq`: what came of it up to there, from its `RUN_STARTED` on. Empty between two runs.

        Raises:
            OutOfWindow: its beginning is not retained, or nothing could be read from `after_seq` on either.
            StoreError: it could not be read.
        """
        ...

    async def tidy(self, thread_id: str, *, up_to: int) -> None:
        """What came up to and with `up_to` belongs to runs that have ended: join its deltas, drop what is past retention.

        What came later is not touched.

        Raises:
            StoreError: it was not done, or is not known to be.
        """
        ...

    async def forget(self, thread_id: str) -> None:
        """Drop a thread. A later one of the same name does not take up its numbers.

        Raises:
            StoreError: it was not done, or is not known to be.
        """
        ...


def first_page(envelopes: Iterable[Envelope]) -> list[Envelope]:
    """Those that are handed out at once: the first ones that `PAGE_BYTES` hold, but one at least. Reads one more, at most. Pure."""
    page: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        size += len(envelope.event)
        if page and size > PAGE_BYTES:
            break
        page.append(envelope)
    return page


def begun(newest_first: Iterable[Envelope], following: Sequence[Envelope]) -> list[Envelope]:
    """What an adapter's `run_at` answers, out of the envelopes up to a position and what follows it. Pure.

    Args:
        newest_first: it is read no further than to the run's beginning.
        following: the next envelope, if there is one.

    Raises:
        OutOfWindow: the beginning is not there.
    """
    run: list[Envelope] = []
    for envelope in newest_first:
        kind = kind_of(envelope)
        if not run and kind in ENDS:
            return []
        run.append(envelope)
        if kind == BEGINS:
            return run[::-1]
    if run or (following and kind_of(following[0]) != BEGINS):
        raise OutOfWindow("the beginning of the run is not retained")
    return []
