"""How late the loop is, measured by a timer that re-arms itself."""

from __future__ import annotations

import asyncio

import pytest
from tests.runtime_kit import virtual

from doorward.runtime.loop_lag import EVERY_SECONDS, LoopLag


@virtual
async def test_reports_how_late_each_tick_came() -> None:
    loop = asyncio.get_running_loop()
    stalled = [0.0]
    reported: list[float] = []
    lag = LoopLag(reported.append, lambda: loop.time() + stalled[0])
    lag.start()
    await asyncio.sleep(2.5 * EVERY_SECONDS)
    assert reported == pytest.approx([0.0, 0.0])
    stalled[0] = 0.3
    await asyncio.sleep(EVERY_SECONDS)
    assert reported[-1] == pytest.approx(0.3)
    lag.stop()
    lag.stop()
    count = len(reported)
    await asyncio.sleep(10 * EVERY_SECONDS)
    assert len(reported) == count


@virtual
async def test_a_tick_that_came_early_is_not_late() -> None:
    loop = asyncio.get_running_loop()
    reported: list[float] = []
    shift = [0.0]
    lag = LoopLag(reported.append, lambda: loop.time() + shift[0])
    lag.start()
    shift[0] = -0.01
    await asyncio.sleep(1.5 * EVERY_SECONDS)
    assert reported == [0.0]
    lag.stop()
