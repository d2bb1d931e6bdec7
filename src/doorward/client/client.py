"""The client: one connection that stays up, threads over it and over HTTP, runs that start once."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from doorward.client.chance import Chance
from doorward.client.commands import Commands, Reply
from doorward.client.connection import Connection, Ears
from doorward.client.errors import Refused, Unanswered
from doorward.client.following import Following
from doorward.client.http import Network, base_url
from doorward.client.line import Carrier, WebSocketDial
from doorward.client.states import DoorView, State
from doorward.client.subscription import QUEUE, Subscription
from doorward.client.threads import Threads
from doorward.client.timing import Timing
from doorward.client.words import in_words
from doorward.errors import UsageError

if TYPE_CHECKING:
    import ssl

    from doorward.client.line import Dial
    from doorward.client.tokens import TokenProvider
    from doorward.client.wire import Envelope, Position

REPEAT_AFTER_SECONDS = 0.25
ASK_AGAIN_SECONDS = 1.0
ASK_SECONDS = 600.0
ASKED_AGAIN = frozenset({"CONNECTION_LOST", "NO_REPLY", "NOT_CONNECTED", "RESTARTING", "UNAVAILABLE"})
"""The command was not sent, or may or may not have been carried out: what is idempotent is sent again."""


class Run(NamedTuple):
    """A run that the server has accepted. `is_duplicate`: it had it already."""

    run_id: str
    is_duplicate: bool = False


class Client:
    """A chat behind Doorward. Use it as `async with`: inside, the connection is kept up; afterwards nothing of it is left.

        async with Session(url) as session:
            await session.sign_in(email="ada@example.com", password="...")
            async with Client(url, session) as client:
                async for envelope in client.ask("t-1", "How is the auth service?"):
                    print(envelope.event)

    Args:
        url: of the server: `https://chat.example.com`.
        tokens: a `Session`, a `FixedToken`, or a provider of yours.
        on_state: told of each state; must return at once.
        on_notice: told of each notice of the door and of the chat; must return at once.
        carrier: where the token goes in the opening handshake, `"header"` or `"subprotocol"`.
        tls: what to trust; default: the system's certificates.
        dial: another way to open connections; for tests.
        wall: wall-clock seconds.
        uniform: a number in [0, 1), for jitter.

    Raises:
        UsageError: the URL is no address of a server.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenProvider,
        *,
        timing: Timing | None = None,
        on_state: Callable[[State], None] | None = None,
        on_notice: Callable[[dict[str, Any]], None] | None = None,
        carrier: Carrier = "header",
        tls: ssl.SSLContext | None = None,
        dial: Dial | None = None,
        wall: Callable[[], float] = time.time,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._timing = timing = timing or Timing()
        self._wall = wall
        self.url = base_url(url)
        """Of the server, without `/ws`, query and fragment."""
        self._network = Network(url, tls=tls)
        self._commands = Commands()
        self._following = Following(self._commands, timing, uniform=uniform)
        self._connection = Connection(
            dial or WebSocketDial(self._network, carrier=carrier, close_seconds=timing.close_seconds),
            tokens,
            self._commands,
            self._following,
            timing=timing,
            chance=Chance(wall, uniform),
            ears=Ears(on_state or _deaf, on_notice or _deaf),
        )
        self._task: asyncio.Task[None] | None = None
        self.threads = Threads(self._network, self._connection.fresh_token)
        """The conversations over HTTP."""

    async def __aenter__(self) -> Self:
        """Begin to connect. Does not wait: commands and subscriptions do, each within its bound."""
        if self._task is not None:
            raise UsageError("a client is entered once; make another one")
        self._task = asyncio.create_task(self._connection.run(), name="chat-connection")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. Commands and subscriptions that wait are told `Ended`. Twice is once.

        Raises:
            Exception: a bug, of the client or of a callback, had ended the connection.

        Cancellation: the socket is broken off instead of closed.
        """
        task = self._task
        try:
            if task is not None:
                task.cancel()
                await asyncio.wait({task})  # bounded: it closes its socket within `close_seconds`
        finally:
            await self._connection.aclose()
            await self._network.aclose()
        if task is not None and not task.cancelled():
            task.result()

    @property
    def state(self) -> State:
        """How the connection is."""
        return self._connection.state

    @property
    def door(self) -> DoorView | None:
        """What the door said of this connection; `None` while there is none."""
        return self._connection.state.door

    async def ready(self, *, within_seconds: float = 30.0) -> State:
        """Wait until the door has let us in.

        Raises:
            SignedOut, Ended: it never will.
            Unanswered: not in time; the text says why.

        Cancellation: leaves nothing behind.
        """
        try:
            async with asyncio.timeout(within_seconds):
                return await self._connection.until_in()
        except TimeoutError:
            reason = self.state.reason
            words = in_words(self.state, wall_now=self._wall())
            raise Unanswered(reason.code if reason else "CONNECT_TIMEOUT", words) from None

    def retry_now(self) -> None:
        """Try again now, or as soon as the server allows it."""
        self._connection.retry_now()

    def subscribe(
        self,
        thread_id: str,
        *,
        after: Position | None = None,
        create: bool | None = None,
        queue: int = QUEUE,
        within_seconds: float | None = None,
    ) -> Subscription:
        """Follow a thread; use what comes back as `async with`, and iterate over it.

        Args:
            after: the place of the last envelope that was seen; without one it begins with a snapshot.
            create: make the thread if it is not there; default: only where there is no `after`. Never anew after a break in which
                it was deleted: that is `NOT_FOUND`.
            queue: how many envelopes wait for a slow reader.
            within_seconds: how long the server's confirmation may take.
        """
        bound = self._timing.run_seconds if within_seconds is None else within_seconds
        create = after is None if create is None else create
        return Subscription(self._following, thread_id, after, create=create, queue=queue, within_seconds=bound)

    async def start_run(
        self,
        thread_id: str,
        message: str,
        *,
        run_id: str | None = None,
        create: bool = True,
        within_seconds: float | None = None,
    ) -> Run:
        """Ask the agent. However often the connection breaks meanwhile, the run starts once: the command is repeated with the same
        `run_id` until there is a reply.

        Args:
            create: make the thread if it is not there. False: `NOT_FOUND`.

        Raises:
            Refused: the server said no: `RUN_ACTIVE`, `NOT_FOUND`, `MESSAGE_TOO_LONG` ...
            Unanswered: no reply in time. Call it again with the same `run_id`.
            SignedOut, Ended: the connection has ended.

        Cancellation: nobody knows whether the run started; `cancel_run` it, with a `run_id` of your own.
        """
        run_id = run_id or new_id("r-")
        command: dict[str, Any] = {"type": "run.start", "thread_id": thread_id, "run_id": run_id, "message": message}
        if not create:
            command["create"] = False
        reply = await self._repeated(command, within_seconds)
        return Run(run_id, reply.get("duplicate") is True)

    async def cancel_run(self, thread_id: str, run_id: str, *, within_seconds: float | None = None) -> bool:
        """Stop a run, whoever started it. Returns whether it was still running.

        Raises:
            As `start_run`.

        Cancellation: nobody knows whether it was stopped.
        """
        command = {"type": "run.cancel", "thread_id": thread_id, "run_id": run_id}
        return (await self._repeated(command, within_seconds)).get("cancelled") is True

    async def ask(
        self, thread_id: str, message: str, *, run_id: str | None = None, within_seconds: float = ASK_SECONDS
    ) -> AsyncGenerator[Envelope, None]:
        """One question: every envelope of its run, from `RUN_STARTED` to its end, over however many connections.

        Where the server no longer has the events that were missed, a snapshot comes instead; the answer is its last message.
        Leaving the loop does not stop the run; wrap it in `contextlib.aclosing` where you leave it early.

        Raises:
            As `start_run`; `Unanswered` with `TIMEOUT`: the run has not ended in time; `UsageError`: this client follows the thread
            already.

        Cancellation: the run goes on.
        """
        run_id = run_id or new_id("r-")
        ends_at = asyncio.get_running_loop().time() + within_seconds
        async with self.subscribe(thread_id) as events:
            run = await self.start_run(thread_id, message, run_id=run_id, create=False)
            may_be_over = run.is_duplicate  # else the first snapshot is from before the run
            while True:
                envelope = await _next(events, ends_at)
                if envelope.is_snapshot:
                    if may_be_over and await self._is_over(envelope, run_id, ends_at):
                        yield envelope
                        return
                    may_be_over = True
                if envelope.run_id == run_id:
                    yield envelope
                    if envelope.ends_run:
                        return

    async def has_ended(self, thread_id: str, run_id: str) -> bool:
        """Ask over HTTP whether a run is over: for whoever was shown a snapshot instead of its events.

        Raises:
            As `threads.runs`.

        Cancellation: leaves nothing behind.
        """
        page = await self.threads.runs(thread_id)
        return any(run.run_id == run_id and run.ended_at is not None for run in page.items)

    async def send(self, command: Mapping[str, Any], *, within_seconds: float | None = None) -> Reply:
        """Any command of the protocol, once, and its reply. Without a connection it waits for one.

        Raises:
            As `start_run`; `CONNECTION_LOST` and `NO_REPLY`: nobody knows whether it was done.
            LimitError: too many wait for a reply already.

        Cancellation: it is taken back if it was not sent.
        """
        if self.state.is_over:
            raise self._connection.ending()
        bound = self._timing.command_seconds if within_seconds is None else within_seconds
        return await self._commands.ask(command, within_seconds=bound)

    async def _repeated(self, command: Mapping[str, Any], within_seconds: float | None) -> Reply:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (self._timing.run_seconds if within_seconds is None else within_seconds)
        while True:
            left = ends_at - loop.time()
            bound = min(left, self._timing.command_seconds) if self.state.is_in else left
            try:
                return await self.send(command, within_seconds=bound)
            except (Refused, Unanswered) as error:
                if error.code not in ASKED_AGAIN or loop.time() + REPEAT_AFTER_SECONDS >= ends_at:
                    raise
            if command["type"] == "run.start" and self._following.has_seen(command["thread_id"]):
                command = {**command, "create": False}
            await asyncio.sleep(REPEAT_AFTER_SECONDS)

    async def _is_over(self, snapshot: Envelope, run_id: str, ends_at: float) -> bool:
        """A snapshot came: has our run ended in what it skips?"""
        if snapshot.active_run_id == run_id:
            return False
        while True:
            try:
                return await self.has_ended(snapshot.thread_id, run_id)
            except Unanswered:
                if asyncio.get_running_loop().time() >= ends_at:
                    raise
                await asyncio.sleep(ASK_AGAIN_SECONDS)


def new_id(prefix: str = "") -> str:
    """A random name for a run or a thread."""
    return prefix + secrets.token_hex(12)


async def _next(events: Subscription, ends_at: float) -> Envelope:
    try:
        async with asyncio.timeout_at(ends_at):
            return await anext(events)
    except TimeoutError:
        raise Unanswered("TIMEOUT", "the run has not ended in time; it goes on") from None


def _deaf(_: object) -> None:
    """Nobody wants to know."""
