"""Background tasks: started, watched and stopped in one place, with a bound on each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from doorward.runtime.log import get_logger

log = get_logger("doorward")

RESTART_SECONDS = 1.0


class Supervisor:
    """A task that dies of a bug is logged and started again after a second; the door goes on."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run it for as long as the door is open."""
        self._add(self._kept(name, run), name)

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None] | None:
        """Run it once. Its own deadline bounds it; an error is logged. `None`: everything is stopping, and it does not run."""
        if self._closing:
            work.close()
            return None
        task = self._add(work, name)
        task.add_done_callback(_log_failure)
        return task

    async def aclose(self, *, seconds: float) -> None:
        """Cancel everything and wait at most `seconds`."""
        self._closing = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=seconds)
            for task in stuck:
                log.error("a background task does not stop", task=task.get_name())

    def _add(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"doorward:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _kept(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
                return
            except Exception:
                log.exception("a background task failed and starts again", task=name)
            await asyncio.sleep(RESTART_SECONDS)


def _log_failure(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("a background task failed", task=task.get_name(), exc_info=error)
