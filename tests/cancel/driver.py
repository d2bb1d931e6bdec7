"""Cancels a coroutine at its k-th suspension, and only there: while it waits, or in the moment when what it waits for is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from enum import StrEnum
from typing import Any

MAX_SUSPENSIONS = 200


class Moment(StrEnum):
    """`WAITING`: the cancellation comes first. `DONE`: the answer is there, and the task has not yet been told."""

    WAITING = "waiting"
    DONE = "done"


class CancelledAt:
    """Await it in a task of its own. Afterwards `suspensions` tells how far it came."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, moment: Moment) -> None:
        self.suspensions = 0
        self._work = work
        self._at = at
        self._moment = moment

    @property
    def struck(self) -> bool:
        return self.suspensions >= self._at

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        step: Callable[[], Any] = lambda: self._work.send(None)  # noqa: E731 - replaced at every turn
        while True:
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions == self._at:
                self._strike(task, waits_for)
            try:
                received = yield waits_for
                step = lambda received=received: self._work.send(received)  # type: ignore[misc]  # noqa: E731
            except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, as the task would
                step = lambda error=error: self._work.throw(error)  # type: ignore[misc]  # noqa: E731

    def _strike(self, task: asyncio.Task[Any], waits_for: Any) -> None:
        if self._moment is Moment.WAITING or waits_for is None:
            task.cancel()
        else:
            waits_for.add_done_callback(lambda _: task.cancel())


async def struck_at(at: int, moment: Moment, work: Coroutine[Any, Any, Any]) -> bool:
    """Run the work in a task and cancel it there. False if it was over before. A strike must end it as cancelled."""
    driver = CancelledAt(work, at, moment)

    async def drive() -> Any:
        return await driver

    task = asyncio.create_task(drive())
    await asyncio.wait({task}, timeout=60.0)
    assert task.done(), "it did not end when it was cancelled"
    if not driver.struck:
        task.result()
        return False
    assert task.cancelled(), f"suspension {at}: the cancellation was swallowed"
    return True


async def at_every_suspension(world: Callable[[int, Moment], Awaitable[bool]], *, at_least: int) -> None:
    """Call `world(k, moment)` for k = 1, 2, ... until it says that the work was over before."""
    for moment in Moment:
        at = 1
        while await world(at, moment):
            at += 1
            assert at < MAX_SUSPENSIONS
        assert at > at_least, f"only {at - 1} suspensions: this shows less than it should"
