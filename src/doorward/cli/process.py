"""The process around a server: who may ask it to stop, and how it ends for certain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_WIND_DOWN_SECONDS = 1.0
_LEAVE_SECONDS = 5.0


class StopRequest:
    """SIGTERM and SIGINT, while entered. The first asks, the second ends the process at once.

    From the first signal on the process ends within `exit_seconds`, even if its event loop is blocked: a thread sees to it.
    Outside the main thread it hears nothing.
    """

    def __init__(self, exit_seconds: float) -> None:
        self.exit_seconds = exit_seconds
        self.signal: int | None = None
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def wait(self) -> None:
        """Until a signal comes. The one wait of a server without a bound: it is what the server lives for."""
        await self._asked.wait()

    @property
    def is_interactive(self) -> bool:
        """Somebody pressed Ctrl-C and waits."""
        return self.signal == signal.SIGINT

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        leave_within(self.exit_seconds, 1)
        self._loop.call_soon_threadsafe(self._asked.set)


def leave_within(seconds: float, code: int, *, unless: Callable[[], bool] | None = None) -> threading.Timer:
    """End the process with `code` in `seconds` if it is still there: no atexit, no join, no matter what hangs.

    Args:
        unless: asked when the time is over; true lets the process live.
    """
    timer = threading.Timer(seconds, _leave, (code, unless))
    timer.daemon = True
    timer.start()
    return timer


def _leave(code: int, unless: Callable[[], bool] | None) -> None:
    if unless is not None and unless():
        return
    os.write(2, b"doorward: something does not end; leaving it behind\n")
    os._exit(code)


def run_process(main: Callable[[], Coroutine[Any, Any, int]], *, last: Callable[[], None] = logging.shutdown) -> int:
    """Run a server's main coroutine on a fast loop and return its exit code. For a command's last line.

    Unlike `asyncio.run` it does not wait for tasks or threads that ignore that it is over: then it does not return, but
    calls `last` (to write what the log still holds) and ends the process with the exit code.

    Raises:
        Whatever `main` raises.
    """
    raise_file_limit()
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    code = 1
    try:
        code = loop.run_until_complete(main())
    finally:
        timer = leave_within(_LEAVE_SECONDS, code)
        ended = _wind_down(loop)
        timer.cancel()
        if ended:
            loop.close()
        _leave_threads_behind(code)
    if not ended:
        last()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _leave_threads_behind(code: int) -> None:
    """Python joins every thread at its exit, a stuck one for ever."""
    threads = [each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()]
    if threads:
        leave_within(_LEAVE_SECONDS, code, unless=lambda: not any(each.is_alive() for each in threads))


def raise_file_limit() -> None:
    """Every socket is an open file; the usual soft limit of 1024 is there for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wind_down(loop: asyncio.AbstractEventLoop) -> bool:
    """Cancel what is left. Says whether nothing is."""
    left = asyncio.all_tasks(loop)
    if not left:
        return True
    for task in left:
        task.cancel()
    _, pending = loop.run_until_complete(asyncio.wait(left, timeout=_WIND_DOWN_SECONDS))
    return not pending


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
