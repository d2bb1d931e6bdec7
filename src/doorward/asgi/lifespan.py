"""The lifespan of a guarded app: the door opens before the app starts, and closes after it has ended.

An app without a lifespan, or one that leaves it half way, makes no difference to the door.
Source: ASGI specification, "Lifespan Protocol" 2.0.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from doorward.asgi.door import Door
from doorward.asgi.types import App, Message, Receive, Scope, Send
from doorward.errors import DoorwardError
from doorward.runtime.log import get_logger

log = get_logger("doorward")


class _Phase(Enum):
    """How far the server and the app have come. `ENDED`: the server has heard the last word."""

    WAITING = "waiting"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    ENDED = "ended"


class Lifespan:
    """One run of the protocol, between the server and the app."""

    def __init__(self, app: App, door: Door, receive: Receive, send: Send) -> None:
        self._app = app
        self._door = door
        self._server_receive = receive
        self._server_send = send
        self._phase = _Phase.WAITING
        self._closed_door: DoorwardError | None = None

    async def run(self, scope: Scope) -> None:
        """Until the server has stopped.

        Raises:
            Exception: the app's own, where the server has heard of it already.

        Cancellation: the door is closed.
        """
        error: Exception | None = None
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            await self._door.aclose()
            raise
        except Exception as raised:
            if self._phase is _Phase.ENDED:
                raise
            error = raised
        if self._closed_door is not None:
            await self._give_up(self._closed_door)
        elif self._phase is not _Phase.ENDED:
            log.debug("the app has left its lifespan", phase=self._phase.value, error=type(error).__name__)
            await self._go_on_alone(error)

    async def _receive(self) -> Message:
        message = await self._server_receive()
        if message["type"] == "lifespan.startup":
            self._phase = _Phase.STARTING
            await self._open()
        elif message["type"] == "lifespan.shutdown":
            self._phase = _Phase.STOPPING
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._phase = _Phase.STARTED
        elif self._closed_door is None:
            await self._door.aclose()
            self._phase = _Phase.ENDED
        else:
            return  # the server is told why the door cannot open, not what the app makes of it
        await self._server_send(message)

    async def _open(self) -> None:
        try:
            await self._door.open()
        except DoorwardError as error:
            self._closed_door = error
            raise

    async def _go_on_alone(self, error: Exception | None) -> None:
        """Say to the server what the app does not say."""
        if self._phase is _Phase.WAITING:
            await self._server_receive()
        if self._phase in {_Phase.WAITING, _Phase.STARTING}:
            try:
                await self._door.open()
            except DoorwardError as closed:
                await self._give_up(closed)
                return
            await self._server_send({"type": "lifespan.startup.complete"})
        if self._phase is not _Phase.STOPPING:
            await self._server_receive()
        await self._door.aclose()
        if self._phase is _Phase.STOPPING and error is not None:
            await self._server_send({"type": "lifespan.shutdown.failed", "message": f"{type(error).__name__}: {error}"})
        else:
            await self._server_send({"type": "lifespan.shutdown.complete"})

    async def _give_up(self, error: DoorwardError) -> None:
        log.critical("the door cannot open", error=str(error))
        await self._door.aclose()
        await self._server_send({"type": "lifespan.startup.failed", "message": str(error)})
