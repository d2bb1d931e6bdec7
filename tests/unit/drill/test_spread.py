"""The bound on how many come back in a second: a door that keeps the law stays under it, one that does not goes over it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from heapq import heappop, heappush

import pytest

from doorward.core.reconnect import Crowd, retry_after
from doorward.drill.spread import FALSE_ALARMS, Second, Told, margin, seconds

RATE = 100.0
WINDOW = (1.0, 5.0)
LATENCY_SECONDS = 0.02
REPAIRED_SECONDS = 2.0
"""After the last has come."""

Advice = Callable[[int, float], float]
"""Of how many that wait, and a number in [0, 1): seconds."""


def law(waiting: int, uniform: float) -> float:
    return retry_after(WINDOW, waiting=waiting, rate_per_second=RATE, uniform=uniform)


def storm(
    advice: Advice, *, clients: int = 2_000, over: float = 4.0, seed: int = 1, began: float = 100.0
) -> list[Second]:
    """All come, and are sent away, again and again until the repair; then they are let in. Returns every second of it."""
    draw, crowd = random.Random(seed), Crowd()
    told: list[Told] = []
    returns: list[float] = []
    due = [began + over * number / clients for number in range(clients)]
    while due and (at := heappop(due)) <= began + over + REPAIRED_SECONDS:
        crowd.told_to_wait(at)
        told.append(Told(at - LATENCY_SECONDS / 2, at + LATENCY_SECONDS / 2, *WINDOW))
        back = at + LATENCY_SECONDS / 2 + advice(crowd.waiting(at), draw.random())
        returns.append(back)
        heappush(due, back)
    return seconds(told, returns, rate_per_second=RATE, lag_seconds=0.0, origin=began)


def over(curve: list[Second]) -> list[Second]:
    return [second for second in curve if second.count > second.limit]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("began", [100.0, 118.0, 119.5])  # the door forgets in steps of 30 s
def test_a_door_that_keeps_the_law_is_not_blamed(seed: int, began: float) -> None:
    curve = storm(law, seed=seed, began=began)
    assert over(curve) == []
    assert sum(second.count for second in curve) >= 2_000


@pytest.mark.parametrize(
    "advice",
    [
        pytest.param(lambda waiting, uniform: WINDOW[0], id="all of them at once"),
        pytest.param(lambda waiting, uniform: WINDOW[0] + (WINDOW[1] - WINDOW[0]) * uniform, id="whatever the crowd"),
        pytest.param(lambda waiting, uniform: law(waiting // 2, uniform), id="twice the rate"),
        pytest.param(lambda waiting, uniform: law(waiting, uniform / 2), id="in the first half of the wait"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_door_that_does_not_is(advice: Advice, seed: int) -> None:
    assert over(storm(advice, seed=seed))


def test_the_busiest_second_is_expected_to_be_what_the_page_says() -> None:
    """rate * (1 + ln(n / (window * rate))): the harmonic sum of a crowd that grows."""
    clients = 2_000
    told = [Told(number * 1e-9, number * 1e-9, *WINDOW) for number in range(clients)]
    (second,) = seconds(told, [2.5], rate_per_second=RATE, lag_seconds=0.0)
    highest = RATE * (1 + math.log(clients / ((WINDOW[1] - WINDOW[0]) * RATE)))
    assert second.expected == pytest.approx(highest, rel=0.01)


def test_chance_is_given_as_much_room_as_the_inequality_asks_for() -> None:
    room = margin(260.0, bins=30)
    assert 30 * math.exp(-(room**2) / (2 * (260.0 + room / 3))) == pytest.approx(FALSE_ALARMS)


def test_who_was_told_nothing_has_no_reason_to_come() -> None:
    crowd = [float(number % 1) for number in range(50)]
    (second,) = seconds([], crowd, rate_per_second=RATE, lag_seconds=0.0)
    assert second.expected == 0.0
    assert second.count > second.limit


def test_a_late_client_may_belong_to_the_second_before() -> None:
    told = [Told(0.0, 0.0, 1.0, 5.0)] * 400
    late, punctual = (seconds(told, [5.5], rate_per_second=RATE, lag_seconds=lag)[0] for lag in (0.5, 0.0))
    assert late.expected > punctual.expected
