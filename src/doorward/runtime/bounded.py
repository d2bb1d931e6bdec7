"""The wait that cannot be held up.

`asyncio.timeout` is cooperative: a callee with a slow clean-up holds it. Here the work runs in a task of its own, and we only ever
wait for that task until the deadline. Then it is cancelled and handed to the reaper, and we answer.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from doorward.core.deadline import Deadline
from doorward.errors import BackendError, DeadlinePassed
from doorward.runtime.ports import Clock

T = TypeVar("T")


@types.coroutine
def promptly(work: Awaitable[T], seconds: float) -> Generator[Any, Any, T]:
    """Await `work`, at most so long. What is done at once, as a server's `receive` and `send` mostly are, costs no timer.

    Cooperative like `asyncio.timeout`: for calls that end when they are cancelled.

    Raises:
        TimeoutError: it was not done in time, and was cancelled.

    Cancellation: goes to the work.
    """
    steps = work if isinstance(work, types.CoroutineType) else _steps(work)
    try:
        waits_for = steps.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    begun: _Begun[T] = _Begun(steps, waits_for)
    return (yield from _in_time(begun, seconds).__await__())


def _steps(work: Awaitable[T]) -> Generator[Any, Any, T]:
    """As a generator, which has `send` and `throw` as a coroutine has, whatever the server made its awaitable of."""
    return (yield from work.__await__())


async def _in_time(begun: Awaitable[T], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await begun


class _Begun(Generic[T]):
    """Work that was begun, and now waits for something."""

    def __init__(self, steps: Generator[Any, Any, T] | types.CoroutineType[Any, Any, T], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        while True:
            try:
                try:
                    sent = yield self._waits_for
                except BaseException as error:  # noqa: BLE001 - a cancellation, mostly: it is the work's to take
                    self._waits_for = self._steps.throw(error)
                else:
                    self._waits_for = self._steps.send(sent)
            except StopIteration as done:
                answer: T = done.value
                return answer


class Reaper:
    """Adopts tasks that nobody waits for any more: cancels them, counts them until they are over, reads their errors."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def adopt(self, task: asyncio.Task[Any], *, on_over: Callable[[], None] | None = None) -> None:
        """Cancel the task now; `on_over` runs when it has really ended."""
        self._tasks.add(task)

        def over(ended: asyncio.Task[Any]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled():
                ended.exception()  # read, so that asyncio does not report it as never retrieved
            if on_over is not None:
                on_over()

        task.add_done_callback(over)
        task.cancel()

    async def aclose(self, *, seconds: float) -> None:
        """Give the adopted tasks a last, bounded chance to end."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)


async def bounded(
    work: Coroutine[Any, Any, T],
    deadline: Deadline,
    *,
    clock: Clock,
    reaper: Reaper,
    on_abandoned: Callable[[], Callable[[], None]] | None = None,
) -> T:
    """Run `work` in a task of its own and wait for it until the deadline, not a moment longer.

    Args:
        on_abandoned: called when we stop waiting; what it returns is called when the task has really ended.

    Raises:
        DeadlinePassed: the work was not done by the deadline. It was cancelled and is the reaper's now.
        BackendError: the work cancelled itself.

    Cancellation: the work is cancelled and handed to the reaper; nothing is left behind that is not counted.
    """
    task = asyncio.ensure_future(work)

    def abandon() -> None:
        reaper.adopt(task, on_over=on_abandoned() if on_abandoned is not None else None)

    try:
        await asyncio.wait({task}, timeout=deadline.remaining(clock.monotonic()))
    except asyncio.CancelledError:
        abandon()
        raise
    if not task.done():
        abandon()
        raise DeadlinePassed("no answer before the deadline")
    if task.cancelled():
        raise BackendError("the call was cancelled by its own code")
    return task.result()
