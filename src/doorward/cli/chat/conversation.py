"""One conversation on the screen: what is said in it, whoever asked, and the questions that are typed here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from doorward.cli.chat.scene import WAITING, Kind, Piece, Scene, history
from doorward.client import Refused, SignedOut, Unanswered
from doorward.client.client import new_id
from doorward.errors import DoorwardError, LimitError

if TYPE_CHECKING:
    from doorward.cli.chat.keyboard import Keyboard
    from doorward.cli.chat.screen import Screen
    from doorward.cli.chat.weather import Weather
    from doorward.client import Client, Envelope, Run

TURNS = 3
"""So many questions of an old conversation are shown."""
TICK_SECONDS = 0.1
START_SECONDS = 600.0
"""How long a question waits for the server. Ctrl-C takes it back."""
STOP_SECONDS = 10.0
ASK_AGAIN_SECONDS = 1.0


@dataclass
class Room:
    """What every conversation of a command shares."""

    screen: Screen
    weather: Weather
    keyboard: Keyboard
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, words: str, style: str = "yellow") -> None:
        """Say something, above the line that is being typed if there is one."""
        self.keyboard.above(lambda: self.screen.note(words, style))


class Conversation:
    """Use it as `async with`: inside, the thread is followed and shown."""

    def __init__(self, client: Client, room: Room, thread_id: str, *, is_new: bool) -> None:
        self.thread_id = thread_id
        self._client = client
        self._room = room
        self._is_new = is_new
        self._scene = Scene()
        self._own: str | None = None
        self._is_begun = asyncio.Event()
        self._changed = asyncio.Event()
        self._ending: BaseException | None = None
        self._starting: asyncio.Task[Run] | None = None
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._follow(), name="chat-follow")]
        await self._until(lambda: self._is_begun.is_set() or self._ending is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._room.screen.rest()

    @property
    def is_busy(self) -> bool:
        """A run of the thread goes on, whoever asked."""
        return self._starting is not None or bool(self._scene.now)

    def check(self) -> None:
        """Raises what ended the following of the thread, if something did."""
        if self._ending is not None:
            raise self._ending

    async def ask(self, question: str) -> None:
        """Ask, and show the answer to its end.

        Raises:
            SignedOut, Ended: the connection has ended.

        Cancellation: the run goes on.
        """
        self._own = run_id = new_id("r-")
        self._scene, self._is_stopping = Scene(), False
        work = self._client.start_run(self.thread_id, question, run_id=run_id, within_seconds=START_SECONDS)
        starting = self._starting = asyncio.create_task(work, name="chat-start")
        try:
            await self._until(starting.done)
        finally:
            self._starting = None
            starting.cancel()
        if starting.done() and self._was_accepted(starting):
            if self._scene.run_id != run_id:
                self._scene.now = WAITING
            await self.until_idle()

    async def until_idle(self) -> None:
        """Show the run that goes on to its end.

        Raises:
            As `ask`.

        Cancellation: as `ask`.
        """
        await self._until(lambda: not self.is_busy)
        self._own, self._is_stopping = None, False

    def interrupt(self) -> bool:
        """Ctrl-C. The first one stops what goes on; says whether there was something to stop."""
        if not self.is_busy or self._is_stopping:
            return False
        self._is_stopping = True
        self._tasks.append(asyncio.create_task(self._stop(), name="chat-stop"))
        return True

    # What goes on in the background

    async def _follow(self) -> None:
        try:
            async with self._client.subscribe(self.thread_id, within_seconds=START_SECONDS) as events:
                async for envelope in events:
                    await self._take(envelope)
                    self._changed.set()
        except Exception as error:  # noqa: BLE001 - raised again by `check`, where somebody is there to hear it
            self._ending = error
            self._changed.set()

    async def _take(self, envelope: Envelope) -> None:
        if envelope.is_snapshot:
            await self._snapshot(envelope)
            return
        if envelope.kind == "RUN_STARTED":
            self._scene = Scene()
        pieces = self._scene.take(envelope)
        if pieces:
            self._room.screen.forget_growing()
        for piece in pieces:
            if piece.kind is not Kind.QUESTION or envelope.run_id != self._own:
                self._show(piece)

    async def _snapshot(self, envelope: Envelope) -> None:
        """The first one is the history. A later one stands for events that the server no longer has."""
        messages = envelope.event.get("messages")
        pieces = history(messages if isinstance(messages, list) else [], turns=TURNS)
        if not self._is_begun.is_set():
            for piece in pieces if not self._is_new else []:
                self._show(piece)
            if envelope.active_run_id is not None:
                self._scene.now = WAITING
            self._is_begun.set()
        elif envelope.active_run_id is not None:
            self._room.note(
                "There was a break, and the server no longer has what was missed. The answer from its beginning:"
            )
            self._scene = Scene()
            self._scene.now = WAITING
        elif self.is_busy and (self._own is None or await self._is_over(self._own)):
            self._room.note("There was a break, and the server no longer has what was missed. The whole answer:")
            for piece in pieces[-1:]:
                self._show(piece)
            self._scene = Scene()

    async def _is_over(self, run_id: str) -> bool:
        while True:
            with contextlib.suppress(Unanswered):
                return await self._client.has_ended(self.thread_id, run_id)
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _stop(self) -> None:
        """Stop the run; a question that the server may not have yet is taken back first."""
        run_id = self._scene.run_id or self._own
        if self._starting is not None:
            self._starting.cancel()
        if run_id is None:
            return
        self._scene.now = self._scene.now and "stopping; Ctrl-C again leaves"
        try:
            await self._client.cancel_run(self.thread_id, run_id, within_seconds=STOP_SECONDS)
        except Refused:
            pass  # it never began, or is over
        except (Unanswered, LimitError):
            self._room.note(
                "The server could not be told to stop. Ctrl-C again leaves; the answer goes on without you."
            )
        except DoorwardError:
            pass  # the connection has ended, and that is told elsewhere

    # On the screen

    async def _until(self, done: Callable[[], bool]) -> None:
        """Show what goes on until this is so, or somebody leaves."""
        room = self._room
        try:
            while not done() and not room.leaving.is_set():
                self.check()
                now = "sending" if self._starting is not None else self._scene.now
                banner = room.weather.banner(time.monotonic(), wall_now=time.time())
                if (now or banner) and not room.keyboard.is_open:
                    room.screen.draw(self._scene.growing, now, banner)
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._changed.wait()
        finally:
            room.screen.rest()

    def _was_accepted(self, starting: asyncio.Task[Run]) -> bool:
        """Say why not, if not."""
        if starting.cancelled():
            return False
        match error := starting.exception():
            case None:
                return True
            case Refused(code="RUN_ACTIVE"):
                self._room.note(
                    "An answer is still coming in here. Wait for it, or stop it with Ctrl-C; then ask again."
                )
            case SignedOut():
                raise error
            case Refused() | Unanswered() | LimitError():
                self._room.note(f"Not asked: {error}.", "red")
            case _:
                raise error
        return False

    def _show(self, piece: Piece) -> None:
        self._room.keyboard.above(lambda: self._room.screen.show(piece))
