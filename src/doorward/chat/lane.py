"""The newest events of one thread, in the memory of a process in which somebody follows it: read once, handed to all."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from doorward.chat.eventlog import first_page

if TYPE_CHECKING:
    from collections.abc import Iterable

    from doorward.chat.envelope import Envelope

TAIL: Final = 256
"""Events that are kept."""

TAIL_BYTES: Final = 262_144
"""Of them; a single event may be larger."""


class Lane:
    """What this process keeps of a thread while somebody follows it."""

    __slots__ = ("bytes", "followers", "grown", "tail")

    def __init__(self) -> None:
        self.tail: deque[Envelope] = deque()
        self.bytes = 0
        self.grown = asyncio.Event()
        self.followers = 0

    def extend(self, envelopes: Iterable[Envelope]) -> None:
        for envelope in envelopes:
            self.tail.append(envelope)
            self.bytes += len(envelope.event)
        while len(self.tail) > TAIL or (self.bytes > TAIL_BYTES and len(self.tail) > 1):
            self.bytes -= len(self.tail.popleft().event)

    def clear(self) -> None:
        """What it says may not be all there is."""
        self.tail.clear()
        self.bytes = 0

    def after(self, after_seq: int) -> list[Envelope] | None:
        """A page of what follows `after_seq`, where memory has all of it."""
        if not self.tail or not self.tail[0].seq_from - 1 <= after_seq <= self.tail[-1].seq:
            return None
        newer = takewhile(lambda envelope: envelope.seq > after_seq, reversed(self.tail))
        return first_page(list(newer)[::-1])

    def wake(self) -> None:
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()
