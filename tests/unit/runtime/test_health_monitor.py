"""Background probes: for the eyes and the alerts only."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.runtime_kit import FakeMetrics, virtual

from doorward.core.deadline import Deadline
from doorward.core.health import Condition
from doorward.errors import ConnectError
from doorward.runtime.bounded import Reaper
from doorward.runtime.health_monitor import EVERY_SECONDS, PROBE_SECONDS, HealthMonitor
from doorward.testing import VirtualClock


class Probe:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.seconds = 0.0
        self.probes = 0

    async def probe(self, *, deadline: Deadline) -> None:
        self.probes += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


class Watched:
    def __init__(self) -> None:
        self.probe = Probe()
        self.metrics = FakeMetrics()
        self.reaper = Reaper()
        self.outage = False
        self.changes: list[Condition] = []
        self.clock = VirtualClock()
        self.monitor = HealthMonitor(
            "auth",
            self.probe,
            self.metrics,
            clock=self.clock,
            reaper=self.reaper,
            uniform=lambda: 0.5,
            in_outage=lambda: self.outage,
        )
        self.monitor.on_change = lambda: self.changes.append(self.monitor.health.condition)


@virtual
async def test_three_failures_make_it_unhealthy_and_two_successes_healthy() -> None:
    watched = Watched()
    await watched.monitor.check()
    watched.probe.error = ConnectError("refused")
    for _ in range(3):
        assert watched.monitor.health.condition is Condition.HEALTHY
        await watched.monitor.check()
    assert watched.monitor.health.condition is Condition.UNHEALTHY
    assert watched.monitor.last_error == "ConnectError: refused"
    watched.probe.error = None
    await watched.monitor.check()
    assert watched.monitor.health.condition is Condition.UNHEALTHY
    await watched.monitor.check()
    assert watched.changes == [Condition.HEALTHY, Condition.UNHEALTHY, Condition.HEALTHY]
    assert watched.monitor.last_error is None
    assert [watched.metrics.counts["probe", "auth", result] for result in ("success", "failure")] == [3, 3]


@virtual
async def test_remembers_since_when_it_fails() -> None:
    watched = Watched()
    watched.probe.error = ConnectError("refused")
    since = watched.clock.wall()
    for _ in range(2):
        await watched.monitor.check()
        await asyncio.sleep(5.0)
    assert watched.monitor.failing_since == since
    watched.probe.error = None
    await watched.monitor.check()
    assert watched.monitor.failing_since is None


@virtual
async def test_a_probe_that_hangs_takes_half_a_second() -> None:
    watched = Watched()
    watched.probe.seconds = 60.0
    began = watched.clock.monotonic()
    await watched.monitor.check()
    assert watched.clock.monotonic() - began == pytest.approx(PROBE_SECONDS)
    assert watched.monitor.last_ms == pytest.approx(PROBE_SECONDS * 1000)
    assert watched.monitor.last_error == "DeadlinePassed: no answer before the deadline"
    await watched.reaper.aclose(seconds=1.0)
    assert len(watched.reaper) == 0


@pytest.mark.parametrize(("outage", "probes"), [(False, 12), (True, 60)])
def test_looks_every_five_seconds_and_in_an_outage_every_second(outage: bool, probes: int) -> None:
    @virtual
    async def main() -> None:
        watched = Watched()
        watched.outage = outage
        task = asyncio.create_task(watched.monitor.run())
        await asyncio.sleep(12 * EVERY_SECONDS - 0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert watched.probe.probes == probes

    main()
