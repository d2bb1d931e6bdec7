"""How long this process has lived. Whoever types a command waits for the start of Python too, so a promise in seconds counts it."""

from __future__ import annotations

import os
import time
from pathlib import Path

MAX_SECONDS = 2.5
"""No more is counted: a command that is called inside of an old process still has time."""

_START_TICKS_FIELD = 19  # of /proc/self/stat, counted behind the name of the program; proc(5) calls it 22, starttime


def process_age() -> float:
    """Seconds since this process began, at most `MAX_SECONDS`; where the kernel does not tell, the processor time it has used."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = int(fields[_START_TICKS_FIELD])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age = time.process_time()
    return min(max(age, 0.0), MAX_SECONDS)
