"""The books of the ops page: bounded, and right at the edges."""

from __future__ import annotations

import pytest
from tests.runtime_kit import FakeMetrics, virtual

from doorward.core.deadline import Deadline
from doorward.errors import ConnectError
from doorward.runtime.bounded import Reaper
from doorward.runtime.health_monitor import HealthMonitor
from doorward.runtime.history import COLUMN_SECONDS, COLUMNS, EDGES_MS, LatencyHistory
from doorward.runtime.insight import DecisionRecord
from doorward.runtime.telemetry import Telemetry
from doorward.testing import ManualClock, VirtualClock


def test_a_decision_counts_in_its_column_and_row() -> None:
    history = LatencyHistory()
    history.add(100.0, 0.3, "allow")
    history.add(104.9, 1_950.0, "unavailable")
    history.add(105.0, 9_000.0, "deny")
    first, second = history.columns(0.0)
    assert (first.at, second.at) == (100.0, 105.0)
    assert first.counts[0] == 1
    assert first.counts[EDGES_MS.index(2_000.0)] == 1
    assert second.counts[-1] == 1
    assert first.verdicts == {"allow": 1, "unavailable": 1}


@pytest.mark.parametrize(("index", "edge"), list(enumerate(EDGES_MS)))
def test_an_edge_belongs_to_the_row_below_it(index: int, edge: float) -> None:
    history = LatencyHistory()
    history.add(0.0, edge, "allow")
    history.add(0.0, edge + 0.01, "allow")
    (column,) = history.columns(0.0)
    assert column.counts[index : index + 2] == [1, 1]


def test_no_more_columns_than_are_shown() -> None:
    history = LatencyHistory()
    for number in range(COLUMNS * 2):
        history.add(number * COLUMN_SECONDS, 1.0, "allow")
    assert len(history.columns(0.0)) == COLUMNS
    assert history.columns(0.0)[-1].at == (COLUMNS * 2 - 1) * COLUMN_SECONDS


def test_old_columns_are_left_out() -> None:
    history = LatencyHistory()
    history.add(0.0, 1.0, "allow")
    history.add(50.0, 1.0, "allow")
    assert [column.at for column in history.columns(5.0)] == [50.0]
    assert [column.at for column in history.columns(4.9)] == [0.0, 50.0]


def test_telemetry_keeps_how_long_a_decision_took() -> None:
    telemetry = Telemetry(FakeMetrics(), clock=ManualClock(), emit=lambda _: None)
    telemetry.decided(RECORD)
    (column,) = telemetry.latency.columns(0.0)
    assert (sum(column.counts), column.verdicts) == (1, {"allow": 1})


@virtual
async def test_the_health_monitor_remembers_its_changes_and_no_more() -> None:
    probe, clock = Probe(), VirtualClock()
    monitor = HealthMonitor(
        "auth", probe, FakeMetrics(), clock=clock, reaper=Reaper(), uniform=lambda: 0.5, in_outage=lambda: False
    )
    for fails in (False, False, True, True, True, False, False):
        probe.fails = fails
        await monitor.check()
    assert [change.after for change in monitor.changes] == ["healthy", "unhealthy", "healthy"]


class Probe:
    fails = False

    async def probe(self, *, deadline: Deadline) -> None:
        if self.fails:
            raise ConnectError("refused")


RECORD = DecisionRecord(
    id="d", at=100.0, path="/ws", address="192.0.2.7", verdict="allow", source="remote", reason="live", code=None, assurance="live",
    degraded=False, provisional=False, user_id="ada", fingerprint="f", detail="", total_ms=1.0, overrun_ms=0.0, steps={},
)  # fmt: skip
