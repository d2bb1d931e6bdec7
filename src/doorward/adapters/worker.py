"""One thread for blocking calls, so that a hung disk holds up neither the event loop nor anybody else's threads."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MAX_WAITING_CALLS = 1_024


class Worker:
    """Runs blocking calls one after another on a thread of its own.

    The thread is a daemon: a call that hangs in the kernel must not keep the process from exiting. It starts with the first call.

    Args:
        max_waiting: calls, for their turn.
        drops: a call that nobody waits for any more when its turn comes is not made: right where it only finds something out.
    """

    def __init__(self, name: str, *, max_waiting: int = MAX_WAITING_CALLS, drops: bool = False) -> None:
        self._name = name
        self._drops = drops
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(max_waiting)
        self._thread: threading.Thread | None = None
        self._stopped = False

    async def run(self, call: Callable[[], T], *, bound_seconds: float) -> T:
        """The call's own result or exception.

        Raises:
            TimeoutError: no answer within `bound_seconds`, too many calls are waiting already, or it was stopped.

        Cancellation: a call that was begun goes on (a thread cannot be stopped), and one that waits is made all the same, unless
            this worker `drops` them; its result is dropped.
        """
        if self._stopped:
            raise TimeoutError(f"{self._name}: closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        try:
            self._calls.put_nowait(lambda: self._make(loop, future, call))
        except queue.Full:
            raise TimeoutError(f"{self._name}: {self._calls.maxsize} calls are waiting already") from None
        self._start()
        try:
            await asyncio.wait({future}, timeout=bound_seconds)
            if not future.done():
                raise TimeoutError(f"{self._name}: no answer in {bound_seconds:g} s")
            return future.result()
        finally:
            future.cancel()

    def stop_nowait(self) -> None:
        """Let the thread end after the calls that are waiting. There is no way back."""
        self._stopped = True
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(None)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def _make(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], call: Callable[[], T]) -> None:
        if not (self._drops and future.done()):
            _settle_from_thread(loop, future, call)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _settle_from_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], call: Callable[[], T]) -> None:
    result: Any = None
    failure: BaseException | None = None
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits, and must not end the thread
        failure = error
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[T], result: T, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
