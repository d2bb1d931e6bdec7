"""What was late counts from when it is asked about; and a loop that is held up is seen to be late."""

from __future__ import annotations

import time

from doorward.drill.lag import LEAST_SECONDS, Lag, watched
from doorward.testing.waiting import eventually


def test_the_largest_lag_since_then() -> None:
    lag = Lag()
    lag.add(1.0, 0.4)
    lag.add(2.0, 0.1)
    lag.add(3.0, 0.2)

    assert [lag.most_since(at) for at in (0.0, 1.5, 2.5, 3.5)] == [0.4, 0.2, 0.2, 0.0]


def test_what_is_hardly_late_is_not() -> None:
    lag = Lag()
    lag.add(1.0, LEAST_SECONDS / 2)

    assert lag.most_since(0.0) == 0.0


async def test_a_loop_that_is_held_up_is_late() -> None:
    async with watched() as lag:
        time.sleep(0.1)  # noqa: ASYNC251 - that is what it is about
        await eventually(lambda: lag.most_since(0.0) >= 0.05, what="the lag was seen")
