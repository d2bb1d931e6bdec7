"""An event loop in which waiting takes no time: its selector jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Never, TypeVar

from doorward.errors import UsageError
from doorward.testing.clock import START_MONOTONIC, START_WALL

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

T = TypeVar("T")

DAY_SECONDS = 86_400.0


class StuckError(UsageError):
    """All tasks wait and no timer is set: on a real loop this test would hang for ever. Names who waits where."""


class VirtualTimeLimitError(UsageError):
    """More virtual time passed than the test allows: something keeps setting timers."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs timers in order without waiting for them. For code without sockets, threads and child processes.

    Args:
        limit_seconds: how much virtual time may pass before `VirtualTimeLimitError`.
    """

    def __init__(self, *, limit_seconds: float = DAY_SECONDS) -> None:
        self._now = START_MONOTONIC
        self._ends_at = START_MONOTONIC + limit_seconds
        super().__init__(_TimerSelector(self))

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float | None) -> None:
        """Jump to the next timer. Called by the selector, with `None` where there is none."""
        if seconds is None:
            raise StuckError(f"all tasks wait and no timer is set: {_waiting(self)}")
        self._now += seconds
        if self._now > self._ends_at:
            raise VirtualTimeLimitError(f"the limit of virtual time has passed: {_waiting(self)}")

    def run_in_executor(self, *_: Any) -> Never:  # type: ignore[override]  # refused in every shape
        """Refused: a thread does not know of virtual time."""
        raise UsageError("virtual time knows no threads; run code that needs them on a real loop")


class VirtualClock:
    """Implements the `Clock` port on the running loop's time. In a `VirtualLoop` the wall clock is virtual too."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return START_WALL + self.monotonic() - START_MONOTONIC


def run_virtual(main: Coroutine[Any, Any, T], *, limit_seconds: float = DAY_SECONDS) -> T:
    """Run a coroutine to its end in virtual time, then cancel whatever it left running.

    Args:
        main: the test; must not touch sockets or threads.
        limit_seconds: how much virtual time may pass.

    Raises:
        StuckError: all tasks wait and no timer is set.
        VirtualTimeLimitError: the limit has passed.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_seconds=limit_seconds)) as runner:
        return runner.run(main)


class _TimerSelector(selectors.BaseSelector):
    """Never waits. Holds the loop's own wake-up pipe and refuses every other file."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._files: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self._files:
            raise UsageError("virtual time knows no sockets; run code that needs them on a real loop")
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._files[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._loop.pass_time(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._files

    def close(self) -> None:
        self._files.clear()


def _waiting(loop: VirtualLoop) -> str:
    """Every task of the loop and the line it waits at."""
    places = []
    for task in asyncio.all_tasks(loop):
        frames = task.get_stack(limit=1)
        place = f"{frames[-1].f_code.co_qualname}:{frames[-1].f_lineno}" if frames else "not started"
        places.append(f"{task.get_name()} in {place}")
    return ", ".join(sorted(places)) or "no task is left"
