"""The chat backend without its sockets: log, threads, runs and their bounds, made and drained in one place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from doorward.chat.eventlog import MemoryEventLog
from doorward.chat.limits import ChatLimits
from doorward.chat.runs import Runs
from doorward.chat.telemetry import ChatTelemetry
from doorward.chat.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from doorward.chat.agents.port import Agent
    from doorward.chat.eventlog import EventLog
    from doorward.core.deadline import Deadline


class Chat:
    """What all sockets of this process share.

    Args:
        agent: answers every question.
        limits: every bound.
        log: the event log; in memory by default.
        registry: where the counters go; nowhere by default.
        wall: wall-clock seconds.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        limits: ChatLimits | None = None,
        log: EventLog | None = None,
        registry: CollectorRegistry | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or ChatLimits()
        self.wall = wall
        self.log = log or MemoryEventLog(retained=self.limits.events_per_thread, wall=wall)
        self.telemetry = ChatTelemetry(registry)
        self.threads = Threads(self.log, self.limits)
        self.runs = Runs(self.log, agent, self.limits, self.telemetry)

    async def drain(self, deadline: Deadline) -> None:
        """Begin no more runs, let the active ones go on until `deadline`, then end them as interrupted.

        Returns at most `reap_seconds` twice after the deadline, whatever an agent does.

        Cancellation: the runs that are left go on, and no new one begins.
        """
        await self.runs.drain(deadline)
