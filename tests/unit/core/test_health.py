from __future__ import annotations

from doorward.core.health import Condition, Health


def conditions(*probes: bool) -> list[Condition]:
    health = Health()
    seen = []
    for succeeded in probes:
        before = health.condition
        changed = health.record(succeeded=succeeded)
        assert changed == (health.condition is not before)
        seen.append(health.condition)
    return seen


def test_the_first_probe_decides_at_once() -> None:
    assert Health().condition is Condition.UNKNOWN
    assert conditions(True) == [Condition.HEALTHY]
    assert conditions(False) == [Condition.UNHEALTHY]


def test_three_failures_in_a_row_make_it_unhealthy() -> None:
    assert conditions(True, False, False, False)[-2:] == [Condition.HEALTHY, Condition.UNHEALTHY]


def test_a_success_between_starts_the_count_again() -> None:
    assert conditions(True, False, False, True, False, False)[-1] is Condition.HEALTHY


def test_two_successes_in_a_row_make_it_healthy() -> None:
    assert conditions(False, True, False, True, True)[-2:] == [Condition.UNHEALTHY, Condition.HEALTHY]
