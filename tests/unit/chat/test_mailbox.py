from __future__ import annotations

import asyncio

from ag_ui.core import BaseEvent, CustomEvent

from doorward.chat.mailbox import Ending, Mailbox


def event(number: int) -> BaseEvent:
    return CustomEvent(name="n", value=number)


async def test_hands_out_in_order_and_ends() -> None:
    mailbox = Mailbox(4)
    assert await mailbox.put(event(1))
    assert await mailbox.put(event(2))
    mailbox.end(Ending.FINISHED)
    assert await mailbox.take() == [event(1), event(2)]
    assert await mailbox.take() == []
    assert mailbox.ending is Ending.FINISHED
    assert not await mailbox.put(event(3))


async def test_the_writer_waits_for_room() -> None:
    mailbox = Mailbox(2)

    async def write() -> None:
        for number in range(10):
            await mailbox.put(event(number))
        mailbox.end(Ending.FINISHED)

    task = asyncio.create_task(write())
    seen: list[BaseEvent] = []
    async with asyncio.timeout(1):
        while taken := await mailbox.take():
            assert len(taken) <= 2
            seen += taken
        await task
    assert seen == [event(number) for number in range(10)]


async def test_stopping_drops_what_waits_and_wakes_both_sides() -> None:
    mailbox = Mailbox(1)
    await mailbox.put(event(1))
    blocked = asyncio.create_task(mailbox.put(event(2)))
    await asyncio.sleep(0)
    mailbox.stop(Ending.CANCELLED)
    async with asyncio.timeout(1):
        assert await blocked is False
        assert await mailbox.take() == []


async def test_a_stop_outweighs_an_end_and_the_first_stop_holds() -> None:
    mailbox = Mailbox(1)
    mailbox.end(Ending.FINISHED)
    mailbox.end(Ending.FAILED)
    endings = [mailbox.ending]
    mailbox.stop(Ending.TOO_LONG)
    mailbox.stop(Ending.CANCELLED)
    endings.append(mailbox.ending)
    assert endings == [Ending.FINISHED, Ending.TOO_LONG]


async def test_a_cancelled_reader_takes_nothing() -> None:
    mailbox = Mailbox(2)
    reader = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait({reader}, timeout=1)
    await mailbox.put(event(1))
    assert await mailbox.take() == [event(1)]
