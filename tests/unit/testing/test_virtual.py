"""Virtual time: timers fire in order at once, and what would hang for ever is an error."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from doorward.errors import UsageError
from doorward.runtime.ports import Clock
from doorward.testing import StuckError, VirtualClock, VirtualTimeLimitError, run_virtual


def test_an_hour_passes_at_once_and_in_order() -> None:
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append((name, asyncio.get_running_loop().time()))

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(sleeper("slow", 3600), sleeper("fast", 1), sleeper("middle", 60))
        return loop.time() - began

    started = time.perf_counter()
    assert run_virtual(main()) == pytest.approx(3600)
    assert time.perf_counter() - started < 5
    assert [name for name, _ in order] == ["fast", "middle", "slow"]
    assert order[1][1] - order[0][1] == pytest.approx(59)


def test_timeouts_fire_in_virtual_time() -> None:
    async def main() -> bool:
        try:
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        except TimeoutError:
            return True
        return False

    assert run_virtual(main())


def test_a_wait_that_nothing_ends_is_an_error_that_names_the_place() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(wait_for_nobody(), name="lonely")

    with pytest.raises(StuckError, match=r"lonely in .*wait"):
        run_virtual(main())


def test_tasks_left_behind_are_cancelled() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(10_000)
        finally:
            ended.append("cancelled")

    async def main() -> None:
        task = asyncio.create_task(background())
        await asyncio.sleep(1)
        assert not task.done()

    run_virtual(main())
    assert ended == ["cancelled"]


def test_a_timer_that_never_stops_meets_the_limit() -> None:
    async def tick() -> None:
        for _ in range(1000):
            await asyncio.sleep(1)

    with pytest.raises(VirtualTimeLimitError):
        run_virtual(tick(), limit_seconds=100)


def test_threads_and_sockets_are_refused() -> None:
    async def thread() -> None:
        await asyncio.to_thread(time.monotonic)

    async def socket_pair() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_recv(ours, 1)

    with pytest.raises(UsageError, match="threads"):
        run_virtual(thread())
    with pytest.raises(UsageError, match="sockets"):
        run_virtual(socket_pair())


def test_the_virtual_clock_follows_the_loop() -> None:
    async def main() -> tuple[float, float]:
        clock: Clock = VirtualClock()
        monotonic, wall = clock.monotonic(), clock.wall()
        await asyncio.sleep(90)
        return clock.monotonic() - monotonic, clock.wall() - wall

    assert run_virtual(main()) == pytest.approx((90, 90))


def test_the_error_of_the_test_comes_through() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_virtual(main())
