"""What the benchmarks make of their figures: which way a ratio stands, what is more and what is less, and when a goal is met."""

from __future__ import annotations

import pytest
from benchmarks.load import Run
from benchmarks.measurements import _calls_row, _cost_row, _kib_each, _memory_row, _rate_row, _step_rows


def run(per_second: float = 1_000.0, cpu_us: float = 100.0, p99_ms: float = 5.0, headers_used: int = 1) -> Run:
    return Run(per_second, 1.0, p99_ms, cpu_us, 0.5, headers_used)


def rates(*per_second: float) -> list[Run]:
    return [run(each) for each in per_second]


def costs(*cpu_us: float) -> list[Run]:
    return [run(cpu_us=each) for each in cpu_us]


# The more the better


def test_a_rate_is_that_of_the_door_over_that_beside_it_pair_by_pair() -> None:
    row = _rate_row("rate", None, "bare", rates(1_000, 2_000, 500), rates(900, 1_000, 450))
    assert row.samples == [0.9, 0.5, 0.9]
    assert (row.value, row.unit, row.goal, row.met) == (0.9, "ratio", None, None)


@pytest.mark.parametrize(("door", "met"), [(851, True), (850, True), (849, False), (1_200, True)])
def test_a_rate_is_met_from_its_goal_on(door: float, met: bool) -> None:
    row = _rate_row("rate", 0.85, "bare", rates(1_000), rates(door))
    assert (row.goal, row.met) == (">= 0.85", met)


# The less the better


def test_a_cost_is_that_of_the_door_over_that_beside_it_pair_by_pair() -> None:
    row = _cost_row("cost", None, "nginx", costs(400, 200, 100), costs(100, 100, 50))
    assert row.samples == [0.25, 0.5, 0.5]
    assert (row.value, row.unit, row.goal, row.met) == (0.5, "ratio", None, None)


@pytest.mark.parametrize(("door", "met"), [(349, True), (350, True), (351, False), (2_000, False)])
def test_a_cost_is_met_up_to_its_goal(door: float, met: bool) -> None:
    row = _cost_row("cost", 0.35, "nginx", costs(1_000), costs(door))
    assert (row.goal, row.met) == ("<= 0.35", met)


def test_a_run_without_its_pair_is_no_comparison() -> None:
    for row_of in (_rate_row, _cost_row):
        with pytest.raises(ValueError, match="longer"):
            row_of("x", None, "bare", [run()], [run(), run()])


def test_the_sides_are_told_apart() -> None:
    base = [run(1_000, 100, 5.0, 7), run(3_000, 300, 7.0, 8)]
    door = [run(800, 200, 9.0, 1), run(1_000, 400, 11.0, 2)]
    for row in (_rate_row("rate", None, "bare", base, door), _cost_row("cost", None, "bare", base, door)):
        assert row.details == {
            "beside": "bare",
            "base_per_second": 2_000,
            "door_per_second": 900,
            "base_cpu_us": 200,
            "door_cpu_us": 300,
            "base_p99_ms": 6.0,
            "door_p99_ms": 10.0,
            "generator_cpu": 0.5,
            "headers_used": [1, 2],
        }


# Memory


def test_memory_of_one_is_what_was_added_over_how_many() -> None:
    assert _kib_each(before_bytes=1_000_000, after_bytes=1_000_000 + 200 * 2_048, count=200) == 2.0
    assert _kib_each(before_bytes=2_048, after_bytes=0, count=1) == -2.0


def test_extra_memory_is_what_the_door_takes_more() -> None:
    row = _memory_row("memory", None, [(10.0, 13.0), (11.0, 12.0), (10.0, 8.0)])
    assert row.samples == [3.0, 1.0, -2.0]
    assert (row.value, row.unit, row.goal, row.met) == (1.0, "KiB", None, None)
    assert row.details == {"beside": "bare app", "base_kib": 10.0, "door_kib": 12.0}


@pytest.mark.parametrize(("door", "met"), [(13.9, True), (14.0, True), (14.1, False), (5.0, True)])
def test_extra_memory_is_met_up_to_its_goal(door: float, met: bool) -> None:
    row = _memory_row("memory", 4.0, [(10.0, door)])
    assert (row.goal, row.met) == ("<= 4", met)


# Calls and steps


@pytest.mark.parametrize(
    ("counts", "worst", "met"), [([1.0, 1.0], 1, True), ([0.0], 0, True), ([1.0, 2.0, 1.0], 2, False)]
)
def test_of_calls_the_worst_run_counts(counts: list[float], worst: float, met: bool) -> None:
    row = _calls_row(counts)
    assert (row.value, row.met, row.samples) == (worst, met, counts)


def test_a_step_is_the_median_of_those_who_took_it_in_microseconds() -> None:
    timelines = [{"admit": 0.010, "remote": 1.0}, {"admit": 0.030}, {"admit": 0.020, "cache": 0.005}]
    rows = {row.name: row for row in _step_rows("cached", timelines)}
    assert {name: row.unit for name, row in rows.items()} == {"step admit, cached": "us", "step cache, cached": "us"}
    assert rows["step admit, cached"].value == pytest.approx(20.0)
    assert rows["step cache, cached"].value == pytest.approx(5.0)
    assert rows["step cache, cached"].details == {"step": "cache", "kind": "cached"}
