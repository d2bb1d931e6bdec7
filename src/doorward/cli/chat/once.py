"""One question, for scripts and pipes: the answer goes to stdout, words about it to stderr."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from doorward.cli.chat.blocks import printable
from doorward.cli.chat.choice import last_used, line_of, named
from doorward.cli.chat.entrance import Entrance, explained
from doorward.cli.chat.scene import Kind, Scene, history
from doorward.cli.chat.weather import Weather
from doorward.client import Client, Ended, SignedOut, State
from doorward.client.client import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from rich.console import Console

    from doorward.cli.chat.choice import Start
    from doorward.cli.chat.entrance import Wanted
    from doorward.cli.chat.screen import Screen
    from doorward.client import Envelope
    from doorward.config import Settings

READY_SECONDS = 30.0
STOP_SECONDS = 5.0
TICK_SECONDS = 0.1
INTERRUPTED = 130


class Output(Protocol):
    """Where the events of a run go."""

    def take(self, envelope: Envelope) -> None:
        """One more."""
        ...

    def rest(self) -> None:
        """No more come."""
        ...


class AsJson:
    """One event a line, as it came."""

    def take(self, envelope: Envelope) -> None:
        print(msgspec.json.encode(envelope).decode(), flush=True)

    def rest(self) -> None:
        """There is nothing to end."""


class AsText:
    """The words of the answer, as they come; what else happens in short on stderr."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._scene = Scene()
        self._is_in_line = False

    def take(self, envelope: Envelope) -> None:
        if envelope.is_snapshot:
            self._whole(envelope)
        for piece in self._scene.take(envelope):
            if piece.kind in {Kind.TOOL, Kind.THOUGHT}:
                self._tell(f"({'uses' if piece.kind is Kind.TOOL else 'thinks:'} {piece.text})")
        if envelope.kind == "TEXT_MESSAGE_CONTENT":
            self._say(printable(str(envelope.event.get("delta", ""))))
        elif envelope.kind == "TEXT_MESSAGE_END":
            self.rest()

    def rest(self) -> None:
        if self._is_in_line:
            self._say("\n")

    def _whole(self, snapshot: Envelope) -> None:
        """The server no longer had the events that were missed."""
        messages = snapshot.event.get("messages")
        answers = [
            piece
            for piece in history(messages if isinstance(messages, list) else [], turns=1)
            if piece.kind is Kind.ANSWER
        ]
        self.rest()
        if answers and snapshot.active_run_id is None:
            self._tell("There was a break, and the server no longer has what was missed. The whole answer:")
            self._say(answers[-1].text + "\n")

    def _say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        if text:
            self._is_in_line = not text.endswith("\n")


class OnScreen:
    """As in the conversation, for a terminal."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._scene = Scene()

    def take(self, envelope: Envelope) -> None:
        if envelope.kind == "RUN_STARTED":
            self._scene = Scene()
        pieces = self._scene.take(envelope)
        if envelope.is_snapshot and envelope.active_run_id is None:
            messages = envelope.event.get("messages")
            pieces = history(messages if isinstance(messages, list) else [], turns=1)
        if pieces:
            self._screen.forget_growing()
        for piece in pieces:
            if piece.kind not in {Kind.QUESTION, Kind.FAILURE}:
                self._screen.show(piece)

    def draw(self, banner: str) -> None:
        """What is not finished."""
        self._screen.draw(self._scene.growing, self._scene.now or "waiting for the answer", banner)

    def rest(self) -> None:
        self._screen.rest()


class Once:
    """One command without somebody at the keyboard."""

    def __init__(self, wanted: Wanted, start: Start, settings: Settings, *, errors: Console) -> None:
        self._wanted = wanted
        self._start = start
        self._settings = settings
        self._errors = errors
        self._weather = Weather(time.monotonic())

    def tell(self, words: str) -> None:
        """A word about the answer, for whoever is there."""
        self._errors.print(words, style="dim", soft_wrap=True)

    async def ask(self, question: str, output: Output) -> int:
        """Ask and show the answer. Returns the exit code: 0 answered, 1 not, 130 stopped by Ctrl-C.

        Raises:
            ChatError, UsageError, StoreError: it could not be asked.

        Cancellation: the run goes on.
        """
        async with self._client() as client:
            thread_id = await self._thread(client)
            asked = _Asked(client, thread_id, question, output)
            with _interrupts(lambda: self._interrupted(asked)):
                try:
                    await self._watch(asked, output)
                finally:
                    output.rest()
            if isinstance(output, OnScreen) and self._start.thread_id is None:
                self.tell(f"Go on here with: doorward chat {client.url} --thread {thread_id}")
            return self._code(asked)

    async def list(self, *, as_json: bool) -> int:
        """Print the conversations.

        Raises:
            As `ask`.

        Cancellation: leaves nothing behind.
        """
        async with self._client() as client:
            async for thread in client.threads.all():
                print(msgspec.json.encode(thread).decode() if as_json else line_of(thread, wall_now=time.time()))
        return 0

    async def sign_out(self) -> int:
        """End the session.

        Raises:
            UsageError, StoreError: it cannot be.

        Cancellation: as `Session.sign_out`.
        """
        entrance = Entrance(self._wanted, self._settings, keyboard=None, tell=self.tell)
        try:
            await entrance.sign_out()
        finally:
            await entrance.aclose()
        return 0

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            entrance = Entrance(self._wanted, self._settings, keyboard=None, tell=self.tell)
            stack.push_async_callback(entrance.aclose)
            await entrance.enter()
            try:
                client = await self._opened(stack, entrance)
            except SignedOut as error:
                await entrance.again(error)
                client = await self._opened(stack, entrance)
            yield client

    async def _opened(self, stack: AsyncExitStack, entrance: Entrance) -> Client:
        client = Client(entrance.url, entrance.tokens, on_state=self._on_state, tls=entrance.tls)
        await stack.enter_async_context(client)
        try:
            await client.ready(within_seconds=READY_SECONDS)
        except Ended as error:
            raise explained(error, client.state) from error
        return client

    async def _thread(self, client: Client) -> str:
        if self._start.thread_id is not None:
            return (await named(client, self._start.thread_id)).thread_id
        return (await last_used(client)).thread_id if self._start.is_last else new_id("t-")

    async def _watch(self, asked: _Asked, output: Output) -> None:
        """Until the run has ended. What can be drawn is drawn; what can only be told is told once."""
        while not asked.task.done():
            now = time.monotonic()
            if isinstance(output, OnScreen):
                output.draw(self._weather.banner(now, wall_now=time.time()))
            elif words := self._weather.news(now):
                self.tell(words)
            await asyncio.wait({asked.task}, timeout=TICK_SECONDS)

    def _interrupted(self, asked: _Asked) -> None:
        """The first Ctrl-C stops the run, a second one leaves."""
        if asked.stop():
            self.tell("Stopping. Ctrl-C again leaves.")
        else:
            asked.task.cancel()

    def _on_state(self, state: State) -> None:
        if words := self._weather.changed(state, time.monotonic()):
            self.tell(words)

    def _code(self, asked: _Asked) -> int:
        if asked.is_stopping:
            return INTERRUPTED
        asked.task.result()
        if asked.failure:
            self._errors.print(f"doorward: {asked.failure}", style="red", soft_wrap=True)
        return 1 if asked.failure else 0


class _Asked:
    """One question under way."""

    def __init__(self, client: Client, thread_id: str, question: str, output: Output) -> None:
        self._client = client
        self._thread_id = thread_id
        self._run_id = new_id("r-")
        self._stopping: asyncio.Task[bool] | None = None
        self.failure = ""
        self.task = asyncio.create_task(self._answered(question, output), name="chat-ask")

    @property
    def is_stopping(self) -> bool:
        return self._stopping is not None

    def stop(self) -> bool:
        """Ask the server to stop the run. Says whether this was the first time."""
        if self._stopping is not None:
            return False
        work = self._client.cancel_run(self._thread_id, self._run_id, within_seconds=STOP_SECONDS)
        self._stopping = asyncio.create_task(work, name="chat-stop")
        self._stopping.add_done_callback(lambda task: task.cancelled() or task.exception())
        return True

    async def _answered(self, question: str, output: Output) -> None:
        scene = Scene()
        async with aclosing(self._client.ask(self._thread_id, question, run_id=self._run_id)) as envelopes:
            async for envelope in envelopes:
                output.take(envelope)
                failures = [piece.text for piece in scene.take(envelope) if piece.kind is Kind.FAILURE]
                self.failure = failures[0] if failures else self.failure
        if scene.was_cancelled and not self.is_stopping:
            self.failure = "it was stopped elsewhere"


@contextmanager
def _interrupts(on_interrupt: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
