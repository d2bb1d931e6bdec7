"""The threads that are followed: subscribed anew after each break, held to the order, caught up where a reader was slow."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from doorward.client.errors import ChatError, Ended
from doorward.client.wire import Cursor, Step
from doorward.core.backoff import next_delay
from doorward.errors import LimitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from doorward.client.commands import Commands, Reply
    from doorward.client.subscription import Subscription
    from doorward.client.timing import Timing
    from doorward.client.wire import Envelope

PASSING = frozenset({"NO_REPLY", "NOT_CONNECTED", "RESTARTING", "UNAVAILABLE", "OVERLOADED", "INTERNAL"})
"""On an open connection: not now, but perhaps in a moment. `NOT_CONNECTED`: the line did not take it in time."""
AWAY = frozenset({"CONNECTION_LOST", "CLOSED"})
"""The next connection subscribes by itself."""


class Following:
    """Implements `Follower`."""

    def __init__(self, commands: Commands, timing: Timing, *, uniform: Callable[[], float] = random.random) -> None:
        self._commands = commands
        self._timing = timing
        self._uniform = uniform
        self._threads: dict[str, Subscription] = {}
        self._is_in = False
        self._ended: Callable[[], ChatError] | None = None

    def follow(self, subscription: Subscription) -> None:
        """Begin now, or with the next connection.

        Raises:
            UsageError: this client follows the thread already.
            ChatError: the connection has ended.
        """
        if self._ended is not None:
            raise self._ended()
        if subscription.thread_id in self._threads:
            raise UsageError(
                f"this client follows {subscription.thread_id!r} already; read that one, or close it first"
            )
        self._threads[subscription.thread_id] = subscription
        if self._is_in:
            self._subscribe(subscription)

    def catch_up(self, subscription: Subscription) -> None:
        """Go on from the last envelope that was queued."""
        subscription.is_behind = False
        if self._is_in and self._is_followed(subscription):
            self._subscribe(subscription)

    def forget(self, subscription: Subscription) -> None:
        if not self._is_followed(subscription):
            return
        del self._threads[subscription.thread_id]
        subscription.stop_retrying()
        if self._is_in:
            self._say_unsubscribe(subscription)

    def has_seen(self, thread_id: str) -> bool:
        """It is followed, so it was there: if it is not any more, it was deleted, and its runs with it."""
        subscription = self._threads.get(thread_id)
        return subscription is not None and subscription.was_confirmed

    def connected(self) -> None:
        """Resume every thread from its place."""
        self._is_in = True
        for subscription in list(self._threads.values()):
            if not subscription.is_behind:
                self._subscribe(subscription, first=True)

    def connection_lost(self) -> None:
        self._is_in = False

    def end(self, error: Callable[[], ChatError]) -> None:
        """There will be no other connection."""
        self._is_in, self._ended = False, error
        for subscription in list(self._threads.values()):
            self._lose(subscription, error())

    def deleted(self, thread_id: str) -> None:
        if (subscription := self._threads.get(thread_id)) is not None:
            self._lose(subscription, Ended("DELETED", "the thread was deleted"))

    def receive(self, envelope: Envelope) -> None:
        """One envelope from the connection."""
        subscription = self._threads.get(envelope.thread_id)
        if subscription is None or subscription.is_settling or subscription.is_behind:
            return  # before the reply it is the old subscription that speaks
        if envelope.synthetic and not subscription.expects_snapshot:
            self._begin_anew(subscription)  # we were slower than the log forgets, and cannot tell what still runs
            return
        if subscription.is_full:
            self._fall_behind(subscription)
            return
        match subscription.cursor.take(envelope):
            case Step.APPLY:
                self._deliver(subscription, envelope)
            case Step.GAP:
                self._resync(subscription, envelope)

    def _deliver(self, subscription: Subscription, envelope: Envelope) -> None:
        if envelope.synthetic:
            subscription.expects_snapshot = False
            envelope = msgspec.structs.replace(envelope, active_run_id=subscription.active_run_id)
        elif subscription.gap is not None and not _is_before(envelope, subscription.gap):
            subscription.gap = None
        subscription.put(envelope)

    def _resync(self, subscription: Subscription, envelope: Envelope) -> None:
        """Something is missing. Ask for it once; if that does not close the gap, it will not be closed."""
        if subscription.gap is not None:
            self._lose(subscription, Ended("GAP", "the server leaves out events of this thread; subscribe anew"))
        else:
            subscription.gap = envelope.position
            self._subscribe(subscription)

    def _begin_anew(self, subscription: Subscription) -> None:
        subscription.cursor = Cursor()
        self._subscribe(subscription)

    def _fall_behind(self, subscription: Subscription) -> None:
        """The reader is slow: what comes now stays on the server until it has caught up."""
        subscription.is_behind = True
        self._say_unsubscribe(subscription)

    def _subscribe(self, subscription: Subscription, *, first: bool = False, failures: int = 0) -> None:
        command: dict[str, Any] = {"type": "thread.subscribe", "thread_id": subscription.thread_id}
        if (place := subscription.cursor.position) is not None:
            command |= {"epoch": place.epoch, "after_seq": place.seq}
        if not subscription.creates:
            command["create"] = False
        subscription.is_settling = True
        subscription.stop_retrying()
        try:
            self._give(command, partial(self._replied, subscription, failures), first=first)
        except LimitError:
            self._later(subscription, failures)

    def _replied(self, subscription: Subscription, failures: int, reply: Reply | ChatError) -> None:
        if not self._is_followed(subscription):
            return
        if not isinstance(reply, ChatError):
            subscription.is_settling = False
            subscription.expects_snapshot = reply.get("resumed") is not True
            active = reply.get("active_run_id")
            subscription.confirmed(active if isinstance(active, str) else None)
        elif reply.code in PASSING:
            self._later(subscription, failures)
        elif reply.code not in AWAY:
            self._lose(subscription, reply)

    def _later(self, subscription: Subscription, failures: int) -> None:
        timing = self._timing
        delay = next_delay(
            failures,
            base_seconds=timing.backoff_base_seconds,
            cap_seconds=timing.backoff_cap_seconds,
            uniform=self._uniform(),
        )
        subscription.retry = asyncio.get_running_loop().call_later(delay, self._retry, subscription, failures + 1)

    def _retry(self, subscription: Subscription, failures: int) -> None:
        if self._is_in and self._is_followed(subscription):
            self._subscribe(subscription, failures=failures)

    def _say_unsubscribe(self, subscription: Subscription) -> None:
        command = {"type": "thread.unsubscribe", "thread_id": subscription.thread_id}
        with suppress(LimitError):  # then what still comes is dropped here
            self._give(command, _ignore)

    def _give(
        self, command: dict[str, Any], on_reply: Callable[[Reply | ChatError], None], *, first: bool = False
    ) -> None:
        """For this connection alone: on the next one an old `thread.unsubscribe` would end the new subscription."""
        seconds = self._timing.command_seconds
        self._commands.give(command, within_seconds=seconds, on_reply=on_reply, first=first, outlives=False)

    def _lose(self, subscription: Subscription, error: ChatError) -> None:
        self._threads.pop(subscription.thread_id, None)
        subscription.stop_retrying()
        subscription.fail(error)

    def _is_followed(self, subscription: Subscription) -> bool:
        return self._threads.get(subscription.thread_id) is subscription


def _is_before(envelope: Envelope, gap: tuple[str, int]) -> bool:
    epoch, seq = gap
    return envelope.epoch == epoch and (envelope.seq or 0) < seq


def _ignore(_: Reply | ChatError) -> None:
    """Nobody waits for it."""
