"""Waiting for something, unless somebody has had enough."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")


class Leaving(Exception):
    """The person has had enough."""


async def or_leave(leaving: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, unless somebody leaves before.

    Raises:
        Leaving: they did; the work was cancelled.

    Cancellation: goes to the work.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(leaving.wait())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Leaving
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
