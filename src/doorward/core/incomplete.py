"""Who may hold an incomplete opening handshake, and who has to go when there are too many.

Over the limit the oldest incomplete connection *of the address that holds most* goes. The newest is never the one
refused: a crowd of silent connections pays with its own, and whoever holds a single one stays.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")


class Incomplete(Generic[K]):
    """The incomplete connections of one process, by address. Every operation is O(1), the search for the victim too.

    Args:
        limit: how many there may be, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._address_of: dict[K, str] = {}
        self._held_by: dict[str, OrderedDict[K, None]] = {}
        self._holding: dict[int, OrderedDict[str, None]] = {}
        """How many -> the addresses that hold so many, in the order in which they came to it."""
        self._most = 0

    def __len__(self) -> int:
        return len(self._address_of)

    def __contains__(self, key: K) -> bool:
        return key in self._address_of

    def held_by(self, address: str) -> int:
        return len(self._held_by.get(address, ()))

    def enter(self, key: K, address: str) -> K | None:
        """Take `key` in; it must not be in yet. Returns the one that has to go for it, already taken out."""
        self._address_of[key] = address
        held = self._held_by.setdefault(address, OrderedDict())
        held[key] = None
        self._recount(address, len(held) - 1, len(held))
        if len(self) <= self.limit:
            return None
        crowd = next(iter(self._holding[self._most]))
        victim = next(iter(self._held_by[crowd]))
        self.leave(victim)
        return victim

    def leave(self, key: K) -> bool:
        """`key` is complete, or gone. Says whether it was in."""
        address = self._address_of.pop(key, None)
        if address is None:
            return False
        held = self._held_by[address]
        del held[key]
        if not held:
            del self._held_by[address]
        self._recount(address, len(held) + 1, len(held))
        return True

    def _recount(self, address: str, before: int, after: int) -> None:
        if before:
            del self._holding[before][address]
            if not self._holding[before]:
                del self._holding[before]
        if after:
            self._holding.setdefault(after, OrderedDict())[address] = None
        # The count moves by one, so the most moves by one at most: no search.
        if after > self._most or (before == self._most and before not in self._holding):
            self._most = after
