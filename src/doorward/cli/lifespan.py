"""The server's side of ASGI lifespan, with a bound on both ends and without losing the application's own error."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from doorward.errors import ConfigError, DoorwardError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

_log = logging.getLogger(__name__)

_FAREWELL_SECONDS = 1.0


class Lifespan:
    """One application's start and end. An application that does not know lifespan is served without it.

    Source: ASGI specification, "Lifespan Protocol" 2.0.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=2)
        self._started: asyncio.Future[str | None] | None = None
        self._stopped: asyncio.Future[str | None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self, timeout_seconds: float) -> None:
        """Start the application.

        Raises:
            DoorwardError: the application's own, where that is why it did not start.
            ConfigError: it said that it could not start, or did not say anything in time.

        Cancellation: the application's start is cancelled too.
        """
        loop = asyncio.get_running_loop()
        self._started, self._stopped = loop.create_future(), loop.create_future()
        self._task = loop.create_task(self._run())
        self._inbox.put_nowait({"type": "lifespan.startup"})
        try:
            await _first_of(self._task, self._started, timeout_seconds)
            await self._raise_failure(timeout_seconds)
        except BaseException:
            self._task.cancel()
            raise

    async def shutdown(self, timeout_seconds: float) -> bool:
        """End the application. Says whether it ended well and in time; in any case nobody waits any longer.

        Cancellation: the application's end may still be under way.
        """
        if self._task is None or self._stopped is None or self._task.done():
            return True
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        await _first_of(self._task, self._stopped, timeout_seconds)
        if self._stopped.done():
            await asyncio.wait({self._task}, timeout=_FAREWELL_SECONDS)
        ended = self._task.done() and not self._task.cancelled() and self._task.exception() is None
        self._task.cancel()
        return ended and not (self._stopped.done() and self._stopped.result())

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._inbox.get, self._send)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        phase, _, outcome = message["type"].removeprefix("lifespan.").partition(".")
        future = self._started if phase == "startup" else self._stopped
        if future is not None and not future.done():
            future.set_result(None if outcome == "complete" else message.get("message") or "no reason given")

    async def _raise_failure(self, timeout_seconds: float) -> None:
        if self._task is None or self._started is None:
            return
        if not self._started.done() and not self._task.done():
            raise ConfigError(f"the application did not start within {timeout_seconds:g} s")
        failure = self._started.result() if self._started.done() else None
        if failure is not None:  # the application may raise the error too, right after its message
            await asyncio.wait({self._task}, timeout=_FAREWELL_SECONDS)
        error = self._task.exception() if self._task.done() and not self._task.cancelled() else None
        if isinstance(error, DoorwardError):
            raise error
        if failure is not None:
            raise ConfigError(f"the application did not start: {failure.strip().splitlines()[-1]}") from error
        if error is not None:
            _log.warning("the application has no lifespan, or failed in it", exc_info=error)


async def _first_of(task: asyncio.Task[None], future: asyncio.Future[str | None], timeout_seconds: float) -> None:
    either: set[asyncio.Future[Any]] = {task, future}
    await asyncio.wait(either, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
