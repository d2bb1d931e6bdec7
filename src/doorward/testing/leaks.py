"""Tells whether a piece of code gave back what it took: tasks of the loop, file descriptors of the process."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from doorward.testing.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HIGHEST_FILE = 8192
"""Descriptors from here on are not counted; the kernel hands out the lowest free one, so they are rare."""


def open_files() -> int:
    """How many file descriptors this process has open. Touches no file system, so it may be called in the loop."""
    return sum(1 for descriptor in range(HIGHEST_FILE) if _is_open(descriptor))


@asynccontextmanager
async def no_leaks(*, within_seconds: float = 5.0) -> AsyncIterator[None]:
    """What is inside must leave no new task and no more open files than there were.

    Args:
        within_seconds: how long tasks and sockets may take to go away.

    Raises:
        AssertionError: they did not.
    """
    files, tasks = open_files(), asyncio.all_tasks()
    yield
    await eventually(
        lambda: asyncio.all_tasks() <= tasks, within_seconds=within_seconds, what="every new task has ended"
    )
    await eventually(lambda: open_files() <= files, within_seconds=within_seconds, what="every new file is closed")


def _is_open(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return False
    return True
