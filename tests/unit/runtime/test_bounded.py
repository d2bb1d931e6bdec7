"""The wait that cannot be held up, and the reaper of what it left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.runtime_kit import virtual

from doorward.core.deadline import Deadline
from doorward.errors import BackendError, ConnectError, DeadlinePassed
from doorward.runtime.bounded import Reaper, bounded
from doorward.testing import VirtualClock

CLOCK = VirtualClock()


async def answer(seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return "yes"


async def stubborn(clean_up_seconds: float) -> None:
    """Holds a cooperative time limit up with a slow clean-up."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(clean_up_seconds)


def soon(seconds: float = 1.0) -> Deadline:
    return Deadline.after(CLOCK.monotonic(), seconds)


@virtual
async def test_gives_the_answer() -> None:
    reaper = Reaper()
    assert await bounded(answer(0.5), soon(), clock=CLOCK, reaper=reaper) == "yes"
    assert len(reaper) == 0


@virtual
async def test_raises_what_the_work_raises() -> None:
    async def refused() -> None:
        raise ConnectError("refused")

    with pytest.raises(ConnectError):
        await bounded(refused(), soon(), clock=CLOCK, reaper=Reaper())


@virtual
async def test_a_slow_clean_up_does_not_hold_it() -> None:
    reaper, began = Reaper(), CLOCK.monotonic()
    with pytest.raises(DeadlinePassed):
        await bounded(stubborn(3.0), soon(0.2), clock=CLOCK, reaper=reaper)
    assert CLOCK.monotonic() - began == pytest.approx(0.2)
    assert len(reaper) == 1
    await reaper.aclose(seconds=5.0)
    assert len(reaper) == 0


@virtual
async def test_says_when_it_stops_waiting_and_when_the_work_is_over() -> None:
    said: list[str] = []

    def abandoned() -> Callable[[], None]:
        said.append("abandoned")
        return lambda: said.append("over")

    reaper = Reaper()
    with pytest.raises(DeadlinePassed):
        await bounded(stubborn(1.0), soon(0.1), clock=CLOCK, reaper=reaper, on_abandoned=abandoned)
    assert said == ["abandoned"]
    await asyncio.sleep(1.1)
    assert said == ["abandoned", "over"]


@virtual
async def test_work_that_cancels_itself_could_not_ask() -> None:
    async def confused() -> None:
        raise asyncio.CancelledError

    with pytest.raises(BackendError, match="its own code"):
        await bounded(confused(), soon(), clock=CLOCK, reaper=Reaper())


@virtual
async def test_a_cancelled_caller_leaves_the_work_to_the_reaper() -> None:
    reaper = Reaper()
    caller = asyncio.create_task(bounded(stubborn(2.0), soon(30), clock=CLOCK, reaper=reaper))
    await asyncio.sleep(1.0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(reaper) == 1
    await asyncio.sleep(2.1)
    assert len(reaper) == 0


@virtual
async def test_an_error_in_the_clean_up_is_read() -> None:
    """asyncio would report it as never retrieved, and warnings are errors here."""

    async def breaks() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while closing")

    reaper = Reaper()
    with pytest.raises(DeadlinePassed):
        await bounded(breaks(), soon(0.1), clock=CLOCK, reaper=reaper)
    await reaper.aclose(seconds=1.0)
    assert len(reaper) == 0


@virtual
async def test_the_reaper_gives_up_in_time() -> None:
    reaper, began = Reaper(), CLOCK.monotonic()
    task = asyncio.create_task(stubborn(50.0))
    await asyncio.sleep(0)
    reaper.adopt(task)
    await reaper.aclose(seconds=2.0)
    assert CLOCK.monotonic() - began == pytest.approx(2.0)
    assert len(reaper) == 1


@virtual
async def test_a_deadline_that_has_passed_waits_for_nothing() -> None:
    reaper = Reaper()
    with pytest.raises(DeadlinePassed):
        await bounded(answer(0.1), soon(-1.0), clock=CLOCK, reaper=reaper)
    await reaper.aclose(seconds=1.0)
    assert len(reaper) == 0
