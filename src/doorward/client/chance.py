"""Where the client gets the time and its luck from."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chance:
    """A `Clock` on the running loop's time. `wall_time`: wall-clock seconds. `uniform`: a number in [0, 1)."""

    wall_time: Callable[[], float] = time.time
    uniform: Callable[[], float] = random.random

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self.wall_time()
