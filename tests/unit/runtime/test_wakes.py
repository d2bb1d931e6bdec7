"""Many sleepers on one timer."""

from __future__ import annotations

import asyncio
import math

import pytest
from tests.runtime_kit import virtual

from doorward.runtime.wakes import LOOK_SECONDS, SPAN_SECONDS, Wakes
from doorward.testing import VirtualClock

CLOCK = VirtualClock()
FAR_SECONDS = 10 * SPAN_SECONDS


class Dozer:
    """Notes when it was woken."""

    def __init__(self, wakes: Wakes, seconds: float) -> None:
        self.wake_at: float | None = CLOCK.wall() + seconds
        self.woken: list[float] = []
        wakes.add(self, CLOCK.wall() + seconds)

    def wake(self) -> None:
        self.woken.append(CLOCK.wall())


def timers() -> int:
    return len([each for each in asyncio.get_running_loop()._scheduled if not each.cancelled()])  # type: ignore[attr-defined]


@virtual
async def test_each_is_woken_at_its_own_time() -> None:
    wakes = Wakes(CLOCK)
    dozers = [Dozer(wakes, seconds) for seconds in (0.5, SPAN_SECONDS + 0.25, FAR_SECONDS, FAR_SECONDS + 1.5, 3_600)]
    await asyncio.sleep(3_601)
    assert [[round(at - (dozer.wake_at or 0), 3) for at in dozer.woken] for dozer in dozers] == [[0.0]] * 5
    assert len(wakes) == 0


@virtual
async def test_what_has_passed_is_woken_at_once() -> None:
    dozer = Dozer(Wakes(CLOCK), -60)
    await asyncio.sleep(0.001)
    assert len(dozer.woken) == 1


@virtual
async def test_infinity_is_never_and_nan_is_refused_and_neither_leaves_anything_behind() -> None:
    wakes = Wakes(CLOCK)
    endless = Dozer(wakes, math.inf)
    with pytest.raises(ValueError, match="NaN"):
        Dozer(wakes, math.nan)
    wakes.discard(endless, math.inf)
    assert (len(wakes), timers()) == (0, 0)


@virtual
async def test_thousands_need_one_timer() -> None:
    wakes = Wakes(CLOCK)
    dozers = [Dozer(wakes, FAR_SECONDS + number / 100) for number in range(2_000)]
    assert (timers(), len(wakes)) == (1, 2_000)
    await asyncio.sleep(FAR_SECONDS + 21)
    assert all(len(dozer.woken) == 1 for dozer in dozers)


@virtual
async def test_one_who_is_due_earlier_moves_the_timer() -> None:
    wakes = Wakes(CLOCK)
    late, early = Dozer(wakes, 2 * FAR_SECONDS), Dozer(wakes, FAR_SECONDS)
    await asyncio.sleep(FAR_SECONDS + 1)
    assert (len(late.woken), len(early.woken), len(wakes)) == (0, 1, 1)


@virtual
async def test_who_has_left_is_not_woken_and_leaves_nothing_behind() -> None:
    wakes = Wakes(CLOCK)
    stays, leaves, changed = (Dozer(wakes, FAR_SECONDS) for _ in range(3))
    assert leaves.wake_at is not None
    wakes.discard(leaves, leaves.wake_at)
    wakes.discard(leaves, leaves.wake_at)
    changed.wake_at = None
    await asyncio.sleep(FAR_SECONDS + 1)
    assert [len(dozer.woken) for dozer in (stays, leaves, changed)] == [1, 0, 0]
    alone = Dozer(wakes, FAR_SECONDS)
    assert alone.wake_at is not None
    wakes.discard(alone, alone.wake_at)
    assert wakes._spans == {}


class Jumping(VirtualClock):
    """Its wall clock can be set apart from the time that passes."""

    ahead_seconds = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead_seconds


@virtual
async def test_a_wall_clock_that_goes_forward_is_noticed_soon() -> None:
    """A host that was suspended, or a late step of NTP: a token must not live on for what the clock went forward."""
    clock = Jumping()
    wakes = Wakes(clock)
    dozers = [Dozer(wakes, seconds) for seconds in (3_600, 7_200)]
    await asyncio.sleep(LOOK_SECONDS / 2)
    clock.ahead_seconds = 5_000
    await asyncio.sleep(LOOK_SECONDS)
    assert [len(dozer.woken) for dozer in dozers] == [1, 0]
    assert timers() == 1


@virtual
async def test_nobody_is_woken_after_the_end() -> None:
    wakes = Wakes(CLOCK)
    dozer = Dozer(wakes, FAR_SECONDS)
    wakes.aclose()
    Wakes(CLOCK).aclose()
    await asyncio.sleep(FAR_SECONDS + 1)
    assert dozer.woken == []
