"""Those who are let in to say who they are, when nobody is to be waited for any more."""

from __future__ import annotations

import asyncio

import pytest

from doorward.asgi.first_message import stop


async def waited_for(seconds: float, *, stopped_first: bool) -> None:
    """Somebody who says nothing."""
    async with asyncio.timeout(seconds) as waiting:
        try:
            if stopped_first:
                stop({waiting})
            await asyncio.Event().wait()
        finally:
            stop({waiting})  # its time is over: that changes nothing


@pytest.mark.parametrize(("seconds", "stopped_first"), [(30, True), (0, False)])
async def test_nobody_is_waited_for_any_more(seconds: float, stopped_first: bool) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waited_for(seconds, stopped_first=stopped_first), 5)
