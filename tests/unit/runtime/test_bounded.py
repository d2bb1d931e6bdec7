"""The wait that cannot be held up, and the reaper of what it left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.runtime_kit import virtual

from doorward.core.deadline import Deadline
from doorward.errors import BackendError, ConnectError, DeadlinePassed
from doorward.runtime.bounded import Reaper, bounded, promptly
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


# promptly


class NextOnly:
    """An awaitable that knows nothing but `next`, as those of servers that are not written in Python may."""

    def __init__(self, wait: asyncio.Future[str]) -> None:
        self.steps = wait.__await__()

    def __await__(self) -> NextOnly:
        return self

    def __iter__(self) -> NextOnly:
        return self

    def __next__(self) -> object:
        return next(self.steps)


def timers() -> int:
    return len([each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()])  # type: ignore[attr-defined]


@virtual
async def test_what_is_done_at_once_sets_no_timer() -> None:
    asked = []

    async def at_once() -> str:
        asked.append(timers())
        return "yes"

    assert await promptly(at_once(), 1.0) == "yes"
    assert asked == [0]


@virtual
async def test_what_waits_is_waited_for() -> None:
    async def twice() -> str:
        await asyncio.sleep(0.3)
        return await answer(0.3)

    assert await promptly(twice(), 1.0) == "yes"
    assert timers() == 0


@virtual
async def test_it_raises_what_the_work_raises_at_once_and_later() -> None:
    async def refused(seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)
        raise ConnectError("refused")

    for seconds in (0.0, 0.5):
        with pytest.raises(ConnectError):
            await promptly(refused(seconds), 1.0)


@virtual
async def test_work_that_waits_too_long_is_cancelled_and_may_clean_up() -> None:
    said = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            said.append("cleaned up")

    with pytest.raises(TimeoutError):
        await promptly(endless(), 0.5)
    assert said == ["cleaned up"]


@virtual
async def test_work_may_answer_its_cancellation() -> None:
    async def stays_calm() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "calm"
        return "never"

    task = asyncio.create_task(promptly_in_a_task(stays_calm()))
    await asyncio.sleep(0.1)
    task.cancel()
    assert await task == "calm"


async def promptly_in_a_task(work: Coroutine[Any, Any, str]) -> str:
    return await promptly(work, 1.0)


@virtual
async def test_a_waiter_that_is_cancelled_cancels_the_work() -> None:
    over = []

    async def long() -> str:
        try:
            return await answer(60)
        finally:
            over.append(True)

    task = asyncio.create_task(promptly_in_a_task(long()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert over == [True]


@virtual
async def test_an_awaitable_that_cannot_be_thrown_into_is_bounded_too() -> None:
    loop = asyncio.get_running_loop()
    soon_there: asyncio.Future[str] = loop.create_future()
    loop.call_later(0.5, soon_there.set_result, "yes")
    assert await promptly(NextOnly(soon_there), 1.0) == "yes"  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        await promptly(NextOnly(loop.create_future()), 1.0)  # type: ignore[arg-type]
