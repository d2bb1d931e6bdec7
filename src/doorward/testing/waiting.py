"""Waiting for a condition with a bound, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.005


async def eventually(
    condition: Callable[[], object], *, within_seconds: float = 5.0, what: str = "the condition"
) -> None:
    """Return as soon as `condition()` is true.

    Args:
        condition: asked again every few milliseconds; must not block.
        within_seconds: the bound.
        what: names the condition in the error.

    Raises:
        AssertionError: it was still false when the bound was reached.

    Cancellation: leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + within_seconds
    while not condition():
        if loop.time() >= ends_at:
            raise AssertionError(f"{what} did not come true within {within_seconds:g} s")
        await asyncio.sleep(POLL_SECONDS)
