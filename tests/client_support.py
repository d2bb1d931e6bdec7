"""A door made of memory for the Python client, for virtual time: each connection is served by the next behaviour."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from doorward.client import Client, SignedOut, State, StateName, Timing, Token, Unanswered
from doorward.client.line import LineClosed, NotOpened
from doorward.client.meaning import Reason
from doorward.core.deadline import Deadline
from doorward.core.verdict import Code, Deny, Source, Unavailable, close_code, close_reason, row_of
from doorward.testing import VirtualClock

Json = dict[str, Any]
BOUND_SECONDS = 2_000.0
"""In virtual time: more than any test needs."""


class FakeLine:
    """Both ends of one connection. The client's end is the `Line`; the rest is the server's."""

    def __init__(self, number: int, token: str) -> None:
        self.number = number
        self.token = token
        self.opened_at = asyncio.get_running_loop().time()
        self.is_gone = asyncio.Event()
        self.was_closed_politely = False
        self.takes = asyncio.Event()
        """Cleared: the peer's window is full, and what is sent waits."""
        self.takes.set()
        self._to_client: asyncio.Queue[str | LineClosed] = asyncio.Queue()
        self._to_server: asyncio.Queue[str] = asyncio.Queue()

    # The client's end

    async def send(self, text: str) -> None:
        await self.takes.wait()
        if self.is_gone.is_set():
            raise LineClosed
        self._to_server.put_nowait(text)

    async def receive(self) -> str:
        message = await self._to_client.get()
        if isinstance(message, LineClosed):
            self.is_gone.set()
            raise message
        return message

    def abort(self) -> None:
        self.is_gone.set()
        self._to_client.put_nowait(LineClosed())

    async def aclose(self) -> None:
        self.was_closed_politely = not self.is_gone.is_set()
        self.abort()

    # The server's end

    def say(self, **message: Any) -> None:
        self._to_client.put_nowait(json.dumps(message))

    def say_text(self, text: str) -> None:
        self._to_client.put_nowait(text)

    async def hear(self, kind: str | None = None) -> Json:
        """The next command; where a kind is named, the next of it, and pings are answered meanwhile."""
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                command: Json = json.loads(await self._to_server.get())
                if kind is None or command["type"] == kind:
                    return command
                if command["type"] == "ping":
                    self.say(reply_to=command["id"], ok=True)

    def let_in(self, *, degraded: bool = False, expires_at: float | None = None) -> None:
        self.say(
            notice="auth.assurance",
            assurance="local" if degraded else "live",
            degraded=degraded,
            user_id="u1",
            decision_id=f"d{self.number}",
            expires_at=expires_at,
        )

    def event(self, seq: int, *, seq_from: int | None = None, epoch: str = "e", thread: str = "t", **more: Any) -> None:
        event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"{seq} "}
        first = seq if seq_from is None else seq_from
        usual = {
            "v": 1,
            "thread_id": thread,
            "epoch": epoch,
            "seq_from": first,
            "seq": seq,
            "run_id": "r",
            "event": event,
        }
        self.say(**{**usual, **more})

    def snapshot(self, after_seq: int, *, epoch: str = "e", thread: str = "t") -> None:
        event = {"type": "MESSAGES_SNAPSHOT", "messages": []}
        self.say(v=1, thread_id=thread, epoch=epoch, synthetic=True, after_seq=after_seq, ts=0, event=event)

    async def subscribed(self, *, resumed: bool, active: str | None = None) -> Json:
        """Wait for a subscription and confirm it."""
        command = await self.hear("thread.subscribe")
        self.say(reply_to=command["id"], ok=True, resumed=resumed, active_run_id=active)
        return command

    async def answer_all(self, **fields: Any) -> None:
        """Reply to everything until the line is gone."""
        while True:
            command = json.loads(await self._to_server.get())
            self.say(reply_to=command["id"], ok=True, **fields)

    def close(self, code: int, reason: str = "") -> None:
        self._to_client.put_nowait(LineClosed(code, reason))

    def refuse(self, code: Code, *, retry_after_ms: int | None = None) -> None:
        row = row_of(refusal_of(code))
        self.close(close_code(row), close_reason(code, f"d{self.number}", retry_after_ms))

    def cut(self) -> None:
        self.close(1006)


def refusal_of(code: Code) -> Deny | Unavailable:
    return Deny(code, Source.POLICY) if code.startswith("TOKEN") else Unavailable(code, Source.POLICY)


Serve = Callable[[FakeLine], Awaitable[None]]


class FakeDoor:
    """A `Dial`. A behaviour may be a `Reason`: then nothing is opened. The last one serves all that follow."""

    def __init__(self, *behaviours: Serve | Reason) -> None:
        self.behaviours = behaviours
        self.lines: list[FakeLine] = []
        self.dialled_at: list[float] = []
        self.tokens: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    async def __call__(self, token: str, *, deadline: Deadline) -> FakeLine:
        number = len(self.tokens)
        self.tokens.append(token)
        self.dialled_at.append(asyncio.get_running_loop().time())
        behaviour = self.behaviours[min(number, len(self.behaviours) - 1)]
        if isinstance(behaviour, Reason):
            raise NotOpened(behaviour)
        line = FakeLine(number, token)
        self.lines.append(line)
        task = asyncio.create_task(self._serve(behaviour, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return line

    @property
    def waits(self) -> list[float]:
        """Seconds between the attempts."""
        return [later - earlier for earlier, later in zip(self.dialled_at, self.dialled_at[1:], strict=False)]

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, behaviour: Serve, line: FakeLine) -> None:
        try:
            await behaviour(line)
        except Exception as error:  # noqa: BLE001 - shown by the test that owns this door
            self.failures.append(error)


class FakeTokens:
    """A `TokenProvider` that gives what the test put in: a token, an error, or `hang`. The last one stays."""

    def __init__(self, *answers: str | Token | Exception) -> None:
        self.answers = answers or ("t1",)
        self.asked: list[str | None] = []

    async def token(self, *, stale: str | None = None) -> Token:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(stale)
        if answer == "hang":
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return Token(answer) if isinstance(answer, str) else answer


def down(retry_after_seconds: float | None = None) -> Unanswered:
    return Unanswered("SERVICE_UNAVAILABLE", "no", retry_after_seconds=retry_after_seconds)


SIGNED_OUT = SignedOut("the session has ended")


async def welcome(line: FakeLine) -> None:
    line.let_in()
    await line.answer_all()


@dataclass
class Meeting:
    """A client and the door that it connects to."""

    client: Client
    door: FakeDoor
    tokens: FakeTokens
    states: list[State] = field(default_factory=list)
    notices: list[Json] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [state.name.value for state in self.states]

    async def until(self, condition: Callable[[], object]) -> None:
        """Poll, in virtual time."""
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)

    async def state(self, name: StateName, *, count: int = 1) -> State:
        """The `count`-th state of this name."""
        await self.until(lambda: self.names.count(name) >= count)
        return [state for state in self.states if state.name is name][count - 1]


@asynccontextmanager
async def meeting(
    *behaviours: Serve | Reason,
    tokens: FakeTokens | None = None,
    uniform: float = 0.5,
    timing: Timing | None = None,
) -> AsyncIterator[Meeting]:
    door, tokens = FakeDoor(*behaviours), tokens or FakeTokens()
    states: list[State] = []
    notices: list[Json] = []
    client = Client(
        "http://chat.test",
        tokens,
        dial=door,
        timing=timing,
        on_state=states.append,
        on_notice=notices.append,
        wall=VirtualClock().wall,
        uniform=lambda: uniform,
    )
    try:
        async with client:
            yield Meeting(client, door, tokens, states, notices)
    finally:
        await door.aclose()
    assert not door.failures, door.failures
    assert client.state.is_over
