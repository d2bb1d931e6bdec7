"""The one-thread worker: bounds, order, and what a hung call costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from doorward.adapters.worker import Worker
from doorward.testing import eventually


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    """Calls wait for it; the test's end sets it."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test-worker", max_waiting=2)
    yield worker
    worker.stop_nowait()


async def test_results_and_exceptions_come_back(worker: Worker) -> None:
    assert await worker.run(lambda: 6 * 7, bound_seconds=5) == 42
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0, bound_seconds=5)


async def test_all_calls_run_on_one_other_thread(worker: Worker) -> None:
    names = [await worker.run(lambda: threading.current_thread().name, bound_seconds=5) for _ in range(3)]
    assert names == ["test-worker"] * 3


async def test_a_hung_call_costs_its_bound_and_does_not_keep_the_process(worker: Worker, hung: threading.Event) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError, match="no answer"):
        await worker.run(hung.wait, bound_seconds=0.05)
    assert asyncio.get_running_loop().time() - started < 1
    thread = worker._thread
    assert thread is not None
    assert thread.daemon


async def test_calls_behind_a_hung_one_are_bounded_in_number(worker: Worker, hung: threading.Event) -> None:
    with pytest.raises(TimeoutError):
        await worker.run(hung.wait, bound_seconds=0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError, match="no answer"):
            await worker.run(int, bound_seconds=0.01)
    with pytest.raises(TimeoutError, match="waiting already"):
        await worker.run(int, bound_seconds=5)
    hung.set()
    await eventually(worker._calls.empty)
    assert await worker.run(int, bound_seconds=5) == 0


async def test_a_call_that_was_given_up_still_runs(worker: Worker, hung: threading.Event) -> None:
    ran = threading.Event()
    with pytest.raises(TimeoutError):
        await worker.run(hung.wait, bound_seconds=0.01)
    behind = asyncio.create_task(worker.run(ran.set, bound_seconds=5))
    await asyncio.sleep(0)
    behind.cancel()
    await asyncio.wait({behind})
    assert behind.cancelled()
    hung.set()
    await eventually(ran.is_set)


async def test_a_failure_nobody_waits_for_is_dropped(worker: Worker, hung: threading.Event) -> None:
    def fail() -> None:
        hung.wait(5)
        raise OSError("late")

    with pytest.raises(TimeoutError):
        await worker.run(fail, bound_seconds=0.01)
    hung.set()
    assert await worker.run(int, bound_seconds=5) == 0


async def test_a_stopped_worker_refuses_and_its_thread_ends(worker: Worker) -> None:
    await worker.run(int, bound_seconds=5)
    worker.stop_nowait()
    thread = worker._thread
    assert thread is not None
    await eventually(lambda: not thread.is_alive())
    with pytest.raises(TimeoutError, match="closed"):
        await worker.run(int, bound_seconds=5)


def test_a_loop_that_is_gone_does_not_end_the_thread(worker: Worker, hung: threading.Event) -> None:
    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await worker.run(hung.wait, bound_seconds=0.01)

    asyncio.run(leave())
    hung.set()
    assert asyncio.run(worker.run(lambda: "alive", bound_seconds=5)) == "alive"


@pytest.mark.parametrize(("drops", "made"), [(False, ["waited", "last"]), (True, ["last"])])
async def test_what_nobody_waits_for_any_more_is_made_all_the_same_or_dropped(
    hung: threading.Event, drops: bool, made: list[str]
) -> None:
    worker, calls = Worker("test-worker", drops=drops), list[str]()
    try:
        for call in (hung.wait, lambda: calls.append("waited")):
            with pytest.raises(TimeoutError, match="no answer"):
                await worker.run(call, bound_seconds=0.01)
        hung.set()
        await worker.run(lambda: calls.append("last"), bound_seconds=5)
        assert calls == made
    finally:
        worker.stop_nowait()
