"""The watch over opening handshakes: one timer for all connections of a process, and the books of who is incomplete."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from doorward.core.countdown import Countdown
from doorward.core.incomplete import Incomplete

if TYPE_CHECKING:
    from doorward.config import Settings

_TIMER_SLACK_SECONDS = 0.001
"""libuv counts in milliseconds: a timer that fires a fraction early would find nothing due."""


class Stage(StrEnum):
    """What a connection is being waited for."""

    SILENT = "silent"
    """The first byte of the connection."""
    HEADER = "header"
    """The rest of a header block, and for an upgrade the ASGI scope."""
    LINGERING = "lingering"
    """Refused; the peer may still read our answer."""
    BODY = "body"
    """The next part of a request body."""
    UNREAD = "unread"
    """The peer to read what we send."""


class Cut(StrEnum):
    """Why a connection was cut. A metric label, so a closed set."""

    SILENT = "silent"
    HEADER = "header"
    BODY = "body"
    UNREAD = "unread"
    EVICTED = "evicted"
    EARLY = "early"
    """Bytes after the upgrade request and before our answer (RFC 6455, section 4.1: a client must wait)."""
    PIPELINED = "pipelined"
    """A request that cannot be answered because an earlier one on the same connection still is being answered."""


@dataclass(frozen=True, slots=True)
class OpeningPolicy:
    """Bounds of the opening handshake. Seconds and bytes.

    `header_seconds` counts from the first byte of a request until the application has its scope. `body_seconds` without a
    byte of a request body are too many, and so is a whole body that takes `body_total_seconds`. A refused peer gets
    `linger_seconds` and `linger_bytes` to stop talking and read the answer. `unread_seconds` is how long a peer may leave
    everything unread while our buffer is full, `keep_alive_seconds` how long it may stay without another request. A WebSocket
    peer is pinged each `ping_seconds`, and is given up where it does not answer within `pong_seconds`.
    """

    header_seconds: float = 2.0
    silent_seconds: float = 10.0
    incomplete_handshakes: int = 512
    max_line_bytes: int = 8 * 1024
    max_headers: int = 128
    max_header_bytes: int = 64 * 1024
    max_message_bytes: int = 64 * 1024
    linger_seconds: float = 1.0
    linger_bytes: int = 2 * 1024 * 1024
    body_seconds: float = 10.0
    body_total_seconds: float = 60.0
    unread_seconds: float = 30.0
    keep_alive_seconds: int = 5
    ping_seconds: float = 20.0
    pong_seconds: float = 20.0

    @classmethod
    def of(cls, settings: Settings) -> OpeningPolicy:
        return cls(
            header_seconds=settings.deadline_seconds,
            silent_seconds=settings.limits.silent_seconds,
            incomplete_handshakes=settings.limits.incomplete_handshakes,
        )


@dataclass(slots=True)
class OpeningCounters:
    """What the metrics read. `connections`, `incomplete` and `websockets` are of now, the others only grow."""

    connections: int = 0
    incomplete: int = 0
    websockets: int = 0
    headers_too_large: int = 0
    malformed: int = 0
    cut: Counter[Cut] = field(default_factory=Counter)

    @property
    def complete(self) -> int:
        """Connections whose request reached the application, kept-alive ones between two requests included."""
        return self.connections - self.incomplete

    @property
    def evicted(self) -> int:
        return self.cut[Cut.EVICTED]


class Watched(Protocol):
    """A connection, as the watch sees it."""

    address: str
    """What one peer controls: an IPv4 address or an IPv6 /64."""

    def overdue(self, stage: Stage) -> None:
        """It was waited for `stage` long enough; this countdown is over."""
        ...

    def abort(self) -> None:
        """Close the TCP connection now; nothing more is sent."""
        ...


class OpeningWatch:
    """All connections of one event loop. No task and no timer per connection: five countdowns share one timer."""

    def __init__(self, policy: OpeningPolicy, counters: OpeningCounters) -> None:
        self.policy = policy
        self.counters = counters
        self._incomplete: Incomplete[Watched] = Incomplete(policy.incomplete_handshakes)
        self._countdowns: dict[Stage, Countdown[Watched]] = {
            Stage.SILENT: Countdown(policy.silent_seconds),
            Stage.HEADER: Countdown(policy.header_seconds),
            Stage.LINGERING: Countdown(policy.linger_seconds),
            Stage.BODY: Countdown(policy.body_seconds),
            Stage.UNREAD: Countdown(policy.unread_seconds),
        }
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._loop: asyncio.AbstractEventLoop | None = None

    def incomplete(self, connection: Watched, stage: Stage) -> None:
        """The connection has no scope yet and waits for `stage`. Where there are too many, one of them is evicted.

        What it leaves unread goes on counting: another request wins it no time.
        """
        self._stop_all(connection, but=Stage.UNREAD)
        self.start(connection, stage)
        if connection in self._incomplete:  # its age stays: that of its first byte, or of its connection
            return
        victim = self._incomplete.enter(connection, connection.address)
        self.counters.incomplete = len(self._incomplete)
        if victim is not None:
            self.cut(victim, Cut.EVICTED)

    def complete(self, connection: Watched) -> None:
        """The application has the scope, or the peer its answer."""
        self.stop(connection, Stage.SILENT)
        self.stop(connection, Stage.HEADER)
        self._incomplete.leave(connection)
        self.counters.incomplete = len(self._incomplete)

    def start(self, connection: Watched, stage: Stage) -> None:
        """Begin, or begin again, to wait for `stage`."""
        loop = self._loop
        if loop is None or loop.is_closed():  # the first, or another life of the same server
            loop = self._loop = asyncio.get_running_loop()
            self._timer, self._timer_at = None, math.inf
        due = self._countdowns[stage].start(connection, loop.time())
        if due < self._timer_at:
            self._arm(loop, due)

    def stop(self, connection: Watched, stage: Stage) -> None:
        self._countdowns[stage].stop(connection)

    def forget(self, connection: Watched) -> None:
        """The connection is gone."""
        self._stop_all(connection)
        self._incomplete.leave(connection)
        self.counters.incomplete = len(self._incomplete)

    def cut(self, connection: Watched, why: Cut) -> None:
        """Forget it, count it, abort it."""
        self.forget(connection)
        self.counters.cut[why] += 1
        connection.abort()

    def _stop_all(self, connection: Watched, *, but: Stage | None = None) -> None:
        for stage, countdown in self._countdowns.items():
            if countdown.waiting and stage is not but:
                countdown.stop(connection)

    def _arm(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Have the timer fire when `due`, which is earlier than it would."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = loop.call_at(due + _TIMER_SLACK_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._timer_at = None, math.inf
        now = loop.time()
        for stage, countdown in self._countdowns.items():
            for connection in countdown.pop_due(now):
                connection.overdue(stage)
        due = min((at for each in self._countdowns.values() if (at := each.next_due()) is not None), default=math.inf)
        if due < self._timer_at:
            self._arm(loop, due)
