"""Following one thread: an async iterator over its envelopes, with a bounded queue and a place to go on from."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

from doorward.client.errors import Unanswered
from doorward.client.wire import Cursor, Envelope, Position

if TYPE_CHECKING:
    from doorward.client.errors import ChatError

QUEUE = 256


class Follower(Protocol):
    """What a subscription asks of the connection."""

    def follow(self, subscription: Subscription) -> None:
        """Begin."""
        ...

    def catch_up(self, subscription: Subscription) -> None:
        """Fetch what was dropped."""
        ...

    def forget(self, subscription: Subscription) -> None:
        """Nobody reads it any more. Twice is once."""
        ...


class Subscription:
    """The envelopes of one thread, each once and in order, over however many connections. One reader at a time.

        async with client.subscribe("t-1") as events:
            async for envelope in events:
                ...

    A snapshot (`envelope.is_snapshot`) replaces what you have shown. A reader that is slower than the thread loses nothing and
    holds up nobody: from `queue` envelopes on they are left on the server and fetched when the reader has caught up.

    The wait for the next envelope has no bound: nobody may say anything for a week. It ends with an error when the connection has
    ended for good (`SignedOut`, `Ended`) or the thread cannot be followed any more (`Refused` with its code: `NOT_FOUND`, deleted
    while there was no connection; `Ended` with `DELETED` or `GAP`).
    """

    def __init__(
        self,
        follower: Follower,
        thread_id: str,
        after: Position | None,
        *,
        create: bool,
        queue: int,
        within_seconds: float,
    ) -> None:
        self.thread_id = thread_id
        self.position = after
        """The place of the last envelope that you were given. `subscribe(thread_id, after=...)` goes on from there."""
        self.active_run_id: str | None = None
        """The run that went on when the server confirmed the subscription last."""
        self._follower = follower
        self._within_seconds = within_seconds
        self._limit = queue
        self._queue: deque[Envelope] = deque()
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self.was_confirmed = False
        self._failure: ChatError | None = None
        self._is_closed = False
        # The connection's side:
        self.cursor = Cursor(*after) if after is not None else Cursor()
        self.creates = create
        self.is_settling = False
        self.expects_snapshot = False
        self.is_behind = False
        self.gap: Position | None = None
        self.retry: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Returns when the server has confirmed it.

        Raises:
            Refused: the thread is not yours, or not there and not to be created, or there are too many.
            Unanswered: no confirmation in time.
            SignedOut, Ended: the connection has ended.

        Cancellation: nothing is followed.
        """
        self._follower.follow(self)
        try:
            async with asyncio.timeout(self._within_seconds):
                await self._settled.wait()
        except TimeoutError:
            self._follower.forget(self)
            raise Unanswered("NOT_CONNECTED", "the thread could not be followed in time") from None
        except BaseException:
            self._follower.forget(self)
            raise
        if self._failure is not None and not self.was_confirmed:
            raise self._failure
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following; a reader that waits comes to its end."""
        self._is_closed = True
        self._queue.clear()
        self._news.set()
        self._follower.forget(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope:
        """The next one. Cancellation: none is lost."""
        while not self._queue:
            if self._is_closed:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        envelope = self._queue.popleft()
        self.position = envelope.position or self.position
        if self.is_behind and len(self._queue) <= self._limit // 2:
            self._follower.catch_up(self)
        return envelope

    # The connection's side

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._limit

    def stop_retrying(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None

    def put(self, envelope: Envelope) -> None:
        self._queue.append(envelope)
        self._news.set()

    def confirmed(self, active_run_id: str | None) -> None:
        self.active_run_id = active_run_id
        self.was_confirmed = True
        self.creates = False  # one that is gone by the next time was deleted
        self._settled.set()

    def fail(self, error: ChatError) -> None:
        """What is queued is still given out; then this is raised."""
        if self._failure is None:
            self._failure = error
        self._news.set()
        self._settled.set()
