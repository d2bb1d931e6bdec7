"""Decisions recorded, counted and summed up; a bounded number of them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs
from tests.runtime_kit import FakeMetrics

from doorward.core.breaker import State
from doorward.runtime.insight import DecisionRecord, Timeline
from doorward.runtime.telemetry import KEPT_DECISIONS, Telemetry, Trace
from doorward.testing import ManualClock

RECORD = DecisionRecord(
    id="d",
    at=0.0,
    path="/ws",
    address="192.0.2.7",
    verdict="allow",
    source="remote",
    reason="live",
    code=None,
    assurance="live",
    degraded=False,
    provisional=False,
    user_id="ada",
    fingerprint="abcdef",
    detail="",
    total_ms=1.0,
    overrun_ms=0.0,
    steps={},
)


class Told:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = FakeMetrics()
        self.emitted: list[DecisionRecord] = []
        self.telemetry = Telemetry(self.metrics, clock=self.clock, emit=self.emitted.append)

    def decided(self, number: int = 0, **fields: object) -> DecisionRecord:
        record = replace(RECORD, **{"id": f"d{number}", "at": self.clock.wall(), **fields})
        self.telemetry.decided(record)
        return record


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_log_that_raises_holds_up_nobody(told: Told) -> None:
    def full(_: DecisionRecord) -> None:
        raise OSError("disk full")

    telemetry = Telemetry(told.metrics, clock=told.clock, emit=full)
    with capture_logs() as lines:
        telemetry.decided(RECORD)
    assert telemetry.decision("d") is RECORD
    assert [(line["log_level"], line["id"]) for line in lines] == [("error", "d")]


def test_a_decision_is_counted_emitted_and_found(told: Told) -> None:
    record = told.decided()
    assert told.emitted == [record]
    assert told.telemetry.decision("d0") is record
    assert told.telemetry.decision("unknown") is None
    assert told.metrics.counts["decision", "allow", "remote", "live"] == 1
    assert told.metrics.counts["deadline_overrun",] == 0


def test_an_overrun_is_counted_and_the_largest_kept(told: Told) -> None:
    for overrun_ms in (5.0, 40.0, 7.0):
        told.decided(overrun_ms=overrun_ms)
    assert told.metrics.counts["deadline_overrun",] == 3
    assert told.telemetry.largest_overrun_seconds == pytest.approx(0.04)


def test_the_newest_come_first_and_no_more_than_asked_for(told: Told) -> None:
    for number in range(5):
        told.decided(number)
    assert [record.id for record in told.telemetry.decisions(3)] == ["d4", "d3", "d2"]
    assert len(told.telemetry.decisions(99)) == 5


def test_only_so_many_are_kept(told: Told) -> None:
    for number in range(KEPT_DECISIONS + 10):
        told.decided(number)
    assert len(told.telemetry.decisions(10 * KEPT_DECISIONS)) == KEPT_DECISIONS
    assert told.telemetry.decision("d9") is None
    assert told.telemetry.decision("d10") is not None


def test_statistics_of_the_last_minutes(told: Told) -> None:
    told.decided(0, total_ms=9_000.0)
    told.clock.advance(301.0)
    for number in range(1, 101):
        told.decided(number, total_ms=float(number), verdict="deny" if number > 90 else "allow", reason="r")
    found = told.telemetry.statistics(300.0)
    assert found.total == 100
    assert found.by_verdict == {"allow": 90, "deny": 10}
    assert found.by_reason == {"r": 100}
    assert (found.p50_ms, found.p99_ms, found.max_ms) == (51.0, 100.0, 100.0)


def test_statistics_of_one_kind(told: Told) -> None:
    for number, kind in enumerate(("websocket", "http", "http")):
        told.decided(number, kind=kind)
    assert [told.telemetry.statistics(300.0, kind).total for kind in (None, "websocket", "http")] == [3, 1, 2]


def test_statistics_of_nothing(told: Told) -> None:
    found = told.telemetry.statistics(300.0)
    assert (found.total, found.p50_ms, found.p99_ms, found.max_ms) == (0, None, None, None)


def test_lag_is_told_and_the_largest_kept(told: Told) -> None:
    for seconds in (0.01, 0.2, 0.03):
        told.telemetry.lagged(seconds)
    assert told.telemetry.largest_lag_seconds == pytest.approx(0.2)
    assert told.metrics.counts["loop_lag",] == 3


def test_the_state_of_the_breaker_is_told(told: Told) -> None:
    told.telemetry.breaker_is("auth", State.CLOSED)
    told.telemetry.breaker_moved("auth", State.CLOSED, State.OPEN)
    assert told.metrics.counts["breaker", "auth", "closed"] == 1
    assert told.metrics.counts["breaker_transition", "auth", "open"] == 1


def test_a_trace_is_a_timeline() -> None:
    clock = ManualClock()
    trace = Trace(clock)
    for name, seconds in (("local", 0.001), ("remote", 0.5)):
        clock.advance(seconds)
        trace.mark(name)
    assert list(trace.steps.items()) == [("local", 1.0), ("remote", 500.0)]
    assert trace.total_seconds == pytest.approx(0.501)


def test_a_timeline_is_a_mapping_of_milliseconds() -> None:
    steps = Timeline(100.0, {"open": 100.0, "local": 100.0015, "remote": 100.2515})
    assert steps == {"open": 0.0, "local": 1.5, "remote": 250.0}
    assert list(steps) == ["open", "local", "remote"]
    assert len(steps) == 3
    assert steps["remote"] == 250.0
    assert "gate" not in steps
    assert repr(steps) == "{'open': 0.0, 'local': 1.5, 'remote': 250.0}"
    assert Timeline(100.0, {}) == {}


def test_a_trace_without_a_step_took_no_time() -> None:
    clock = ManualClock()
    trace = Trace(clock)
    clock.advance(1.0)
    assert trace.total_seconds == 0.0
    assert trace.steps == {}
