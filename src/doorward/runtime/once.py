"""What counts once on this node, over its processes and their restarts: E2E test tokens and tickets."""

from __future__ import annotations

from typing import Final

from doorward.core.deadline import Deadline
from doorward.core.lru import Lru
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock

USED_ENTRIES: Final = 4_096


class Once:
    """Things of one kind. What this process has seen already does not trouble the store again."""

    def __init__(self, kind: str, *, memory: NodeMemory, clock: Clock, reaper: Reaper) -> None:
        self._kind = kind
        self._memory = memory
        self._clock = clock
        self._reaper = reaper
        self._used: Lru[str, bool] = Lru(USED_ENTRIES)

    async def use_up(self, identifier: str, until: float, waiting: Deadline) -> bool:
        """Is this the first use?

        Args:
            until: wall-clock second after which it would be refused anyway, so that it may be forgotten.

        Raises:
            BackendError: nobody knows. It may be asked again.

        Cancellation: it may be used up or not.
        """
        if self._used.get(identifier):
            return False
        self._used.put(identifier, True)
        redeeming = self._memory.redeem(self._kind, identifier, until)
        try:
            return await bounded(redeeming, waiting, clock=self._clock, reaper=self._reaper)
        except BaseException:
            self._used.drop(identifier)
            raise
