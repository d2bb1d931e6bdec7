"""Yes or no before the auth service, and whether there is an outage."""

from __future__ import annotations

import pytest
from tests.runtime_kit import FakeMetrics

from doorward.core.breaker import BreakerPolicy, CircuitBreaker, Permit, Refused, State
from doorward.core.limits import Bulkhead, Lane
from doorward.core.verdict import Cause, Code
from doorward.runtime.gate import UNHEARD_SECONDS, Gate, Pass, Unanswered
from doorward.runtime.history import KEPT_CHANGES
from doorward.runtime.telemetry import Telemetry
from doorward.testing import ManualClock

DOWN = Unanswered(Code.SERVICE_UNAVAILABLE, Cause.UPSTREAM, "ConnectError: refused")
SLOW_DOWN = Unanswered(Code.SERVICE_UNAVAILABLE, Cause.THROTTLED, retry_after_seconds=7.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> FakeMetrics:
    return FakeMetrics()


@pytest.fixture
def gate(clock: ManualClock, metrics: FakeMetrics) -> Gate:
    telemetry = Telemetry(metrics, clock=clock, emit=lambda _: None)
    breaker = CircuitBreaker(BreakerPolicy(failures=2), clock.monotonic())
    return Gate("auth", breaker, Bulkhead(2, unproven=1, abandoned=1), clock=clock, telemetry=telemetry)


@pytest.fixture
def recoveries(gate: Gate) -> list[str]:
    said: list[str] = []
    gate.on_recovered = lambda: said.append("recovered")
    return said


def entered(gate: Gate, lane: Lane = Lane.PROVEN) -> Pass:
    passed = gate.enter(lane)
    assert isinstance(passed, Pass)
    return passed


def permit(gate: Gate, *, canary: bool = False) -> Permit:
    granted = gate.acquire(canary=canary)
    assert isinstance(granted, Permit)
    return granted


def break_it(gate: Gate) -> None:
    for _ in range(2):
        gate.failed(permit(gate), 0.1, DOWN)
    assert gate.breaker.state is State.OPEN


def test_a_full_lane_is_overloaded_and_a_slot_given_back_is_free(gate: Gate) -> None:
    stranger = entered(gate, Lane.UNPROVEN)
    refused = gate.enter(Lane.UNPROVEN)
    assert isinstance(refused, Unanswered)
    assert (refused.code, refused.cause) == (Code.OVERLOADED, None)
    entered(gate, Lane.PROVEN)
    gate.leave(stranger)
    entered(gate, Lane.UNPROVEN)


def test_abandoned_calls_fill_it_too(gate: Gate) -> None:
    gate.bulkhead.abandoned = 1
    refused = gate.enter(Lane.PROVEN)
    assert isinstance(refused, Unanswered)
    assert refused.code is Code.OVERLOADED


def test_a_throttled_lane_stays_quiet_and_the_other_goes_on(gate: Gate, clock: ManualClock) -> None:
    gate.held_off(Lane.UNPROVEN, SLOW_DOWN)
    refused = gate.enter(Lane.UNPROVEN)
    assert isinstance(refused, Unanswered)
    assert (refused.cause, refused.retry_after_seconds) == (Cause.THROTTLED, 7.0)
    entered(gate, Lane.PROVEN)
    assert gate.breaker.state is State.CLOSED
    clock.advance(7.0)
    entered(gate, Lane.UNPROVEN)


def test_a_throttle_that_names_no_time_is_a_second(gate: Gate) -> None:
    gate.held_off(Lane.PROVEN, DOWN)
    assert gate.throttled_seconds(Lane.PROVEN) == pytest.approx(1.0)


def test_an_open_breaker_lets_nobody_in_but_a_probe_in_its_time(gate: Gate, clock: ManualClock) -> None:
    break_it(gate)
    for probe in (False, True):
        refused = gate.enter(Lane.PROVEN, probe=probe)
        assert isinstance(refused, Unanswered)
        assert refused.cause is Cause.BREAKER_OPEN
    clock.advance(5.0)
    assert isinstance(gate.enter(Lane.PROVEN), Unanswered)
    assert isinstance(gate.enter(Lane.PROVEN, probe=True), Pass)
    assert isinstance(gate.acquire(), Refused)


def test_transitions_are_counted(gate: Gate, metrics: FakeMetrics) -> None:
    break_it(gate)
    for _ in range(2):
        gate.answered(permit(gate, canary=True), 0.1)
    assert gate.breaker.state is State.CLOSED
    moves = ("open", "half_open", "closed")
    assert [metrics.counts["breaker_transition", "auth", state] for state in moves] == [1, 1, 1]
    assert [change.after for change in gate.changes] == list(moves)


def test_what_the_breaker_did_is_remembered_and_no_more(gate: Gate, clock: ManualClock) -> None:
    for _ in range(KEPT_CHANGES):
        break_it(gate)
        clock.advance(3.0)
        for _ in range(2):
            gate.answered(permit(gate, canary=True), 0.1)
    assert len(gate.changes) == KEPT_CHANGES
    opened, closed = list(gate.changes)[-3], list(gate.changes)[-1]
    assert (opened.before, opened.after, closed.after) == ("closed", "open", "closed")
    assert closed.at - opened.at == pytest.approx(3.0)


def test_one_question_without_an_answer_is_an_outage_until_the_next_answer(gate: Gate, recoveries: list[str]) -> None:
    gate.failed(permit(gate), 0.1, DOWN)
    assert gate.in_outage
    assert gate.suspect is DOWN
    gate.answered(permit(gate), 0.1)
    assert not gate.in_outage
    assert gate.suspect is None
    assert recoveries == ["recovered"]


def test_an_open_breaker_has_recovered_when_it_closes_and_not_before(gate: Gate, recoveries: list[str]) -> None:
    break_it(gate)
    gate.answered(permit(gate, canary=True), 0.1)
    assert gate.in_outage
    assert recoveries == []
    gate.answered(permit(gate, canary=True), 0.1)
    assert not gate.in_outage
    assert recoveries == ["recovered"]
    gate.answered(permit(gate), 0.1)
    assert recoveries == ["recovered"]


def test_our_own_refused_secret_is_an_outage_and_not_the_breakers_business(gate: Gate, recoveries: list[str]) -> None:
    for _ in range(10):
        gate.misconfigured(Unanswered(Code.SERVICE_UNAVAILABLE, Cause.CONFIG))
    assert gate.in_outage
    assert gate.breaker.state is State.CLOSED
    gate.answered(permit(gate), 0.1)
    assert recoveries == ["recovered"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_trouble_that_nobody_asks_about_any_more_says_nothing_in_the_end(
    failures: int, gate: Gate, clock: ManualClock
) -> None:
    for _ in range(failures):
        gate.failed(permit(gate), 0.1, DOWN)
    allowed_from = max(gate.breaker.retry_at, clock.monotonic())
    clock.advance(allowed_from - clock.monotonic() + UNHEARD_SECONDS - 1)
    assert not gate.is_unheard
    clock.advance(1.0)
    assert gate.is_unheard
    gate.misconfigured(DOWN)
    assert not gate.is_unheard


def test_slow_answers_open_it_and_are_no_recovery(clock: ManualClock, gate: Gate, recoveries: list[str]) -> None:
    gate.failed(permit(gate), 0.1, DOWN)
    for _ in range(8):
        gate.breaker.record(permit(gate), succeeded=True, now=clock.monotonic(), seconds=3.0)
    gate.answered(permit(gate), 3.0)
    assert gate.breaker.state is State.OPEN
    assert gate.in_outage
    assert recoveries == []
