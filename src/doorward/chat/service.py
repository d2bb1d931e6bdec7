"""The chat backend without its sockets: store, log, threads, runs and their bounds, made, opened and closed in one place."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

from doorward.chat.database import ChatDatabase
from doorward.chat.eventlog import Retention
from doorward.chat.housekeeping import Housekeeping
from doorward.chat.limits import ChatLimits
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.notices import Notices
from doorward.chat.recovery import Recovery
from doorward.chat.runs import Runs
from doorward.chat.snapshots import Snapshots
from doorward.chat.sqlite_log import SqliteEventLog
from doorward.chat.store import ChatStore
from doorward.chat.telemetry import ChatTelemetry
from doorward.chat.threads import Threads
from doorward.chat.tidying import Tidying
from doorward.chat.unsent import UnsentBudget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from doorward.chat.agents.port import Agent
    from doorward.chat.eventlog import EventLog
    from doorward.core.deadline import Deadline


class Chat:
    """What all sockets of this process share. Open it before use and close it after.

    Args:
        agent: answers every question.
        limits: every bound.
        file: where threads and events are kept; in memory by default, until the process ends.
        synchronous: `normal` survives the end of the process, `full` a power cut too.
        retention: what is kept of each thread's events.
        log: an event log of the caller's own, open already.
        registry: where the counters go; nowhere by default.
        wall: wall-clock seconds.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        limits: ChatLimits | None = None,
        file: Path | None = None,
        synchronous: Literal["normal", "full"] = "normal",
        retention: Retention | None = None,
        log: EventLog | None = None,
        registry: CollectorRegistry | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or ChatLimits()
        self.wall = wall
        self._database = ChatDatabase(file, synchronous=synchronous)
        self.telemetry = ChatTelemetry(registry)
        self.log = log or self._own_log(file, retention or Retention())
        self.snapshots = Snapshots(self.log, wall=wall)
        self.unsent = UnsentBudget(self.limits.unsent_bytes)
        self.telemetry.watch_unsent(lambda: self.unsent.bytes)
        self.notices = Notices()
        self.store = ChatStore(
            self._database,
            wall=wall,
            recent_messages=self.limits.history_messages,
            recent_runs=self.limits.run_ids_per_thread,
            threads_per_user=self.limits.threads_per_user,
        )
        self.threads = Threads(self.store, self.log, self.limits, self.notices)
        self.tidying = Tidying(self.store, self.log, self.limits, wall=wall)
        self.runs = Runs(self.store, self.log, agent, self.limits, self.telemetry, self.notices, self.tidying)
        self._recovery = Recovery(self.store, self.log, self.threads, self.limits, self.notices)
        self.housekeeping = Housekeeping(self._recovery, self.tidying, self.limits)
        self._background: asyncio.Task[None] | None = None

    def _own_log(self, file: Path | None, retention: Retention) -> EventLog:
        if file is None:
            return MemoryEventLog(wall=self.wall, retention=retention)
        return SqliteEventLog(self._database, wall=self.wall, retention=retention, committed=self.telemetry.committed)

    def delivered(self, ts: int) -> None:
        """An event of that time (wall-clock milliseconds) has gone out on a socket that followed it."""
        self.telemetry.delivered(max(self.wall() - ts / 1000, 0.0))

    async def open(self) -> None:
        """Take the file, and end the runs that a process before this one left behind.

        Raises:
            ConfigError: the file cannot be used; the text says the mend.
            StoreError: it does not answer.

        Cancellation: close it.
        """
        await self._database.open()
        if isinstance(self.log, SqliteEventLog):
            await self.log.start()
        await self._recovery.run()
        self._background = asyncio.create_task(self.housekeeping.run(), name="chat-housekeeping")

    async def aclose(self) -> None:
        """Let go of the file. Drain first. Twice is once.

        Cancellation: the file is let go when the process ends.
        """
        background, self._background = self._background, None
        if background is not None:
            background.cancel()
            await asyncio.wait({background}, timeout=self.limits.reap_seconds)
        if isinstance(self.log, SqliteEventLog):
            await self.log.aclose()
        await self._database.aclose()

    async def drain(self, deadline: Deadline) -> None:
        """Begin no more runs, let the active ones go on until `deadline`, then end them as interrupted.

        Returns at most `reap_seconds` three times after the deadline, whatever an agent does.

        Cancellation: the runs that are left go on, and no new one begins.
        """
        await self.runs.drain(deadline)
