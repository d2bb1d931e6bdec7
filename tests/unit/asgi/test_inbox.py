from __future__ import annotations

import asyncio

import pytest

from doorward.asgi.inbox import Inbox

SECONDS = 5.0


def inbox() -> Inbox[int]:
    return Inbox(asyncio.get_running_loop())


async def test_events_come_in_order_before_and_after_somebody_waits() -> None:
    box = inbox()
    assert not box.put(1)
    assert not box.put(2)
    assert len(box) == 2
    assert [await box.take(), await box.take()] == [1, 2]
    waiting = asyncio.ensure_future(box.take())
    await asyncio.sleep(0)
    assert box.put(3)
    assert not box.put(4), "the one who waited is awake already"
    assert await asyncio.wait_for(waiting, SECONDS) == 3
    assert await box.take() == 4


async def test_what_is_put_while_others_are_taken_comes_behind_them() -> None:
    box = inbox()
    taken: list[int] = []
    for number in range(0, 30, 3):
        for event in range(number, number + 3):
            box.put(event)
        taken += [await box.take(), await box.take()]
    assert len(box) == 10
    taken += [await box.take() for _ in range(10)]
    assert taken == list(range(30))
    assert len(box) == 0


async def test_several_may_wait() -> None:
    box = inbox()
    waiting = [asyncio.ensure_future(box.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(3):
        box.put(number)
    assert await asyncio.wait_for(asyncio.gather(*waiting), SECONDS) == [0, 1, 2]


@pytest.mark.parametrize("woken", [False, True])
async def test_who_is_cancelled_takes_no_event_with_it(woken: bool) -> None:
    box = inbox()
    first, second = (asyncio.ensure_future(box.take()) for _ in range(2))
    await asyncio.sleep(0)
    if woken:
        box.put(1)
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    if not woken:
        box.put(1)
    assert await asyncio.wait_for(second, SECONDS) == 1
    assert len(box) == 0
