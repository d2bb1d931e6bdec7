from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from doorward.chat.eventlog import PAGE, MemoryEventLog, OutOfWindow
from doorward.testing.waiting import eventually


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog(retained=10, wall=lambda: 12.5)


async def fill(log: MemoryEventLog, number: int, thread_id: str = "t") -> int:
    return await log.append(thread_id, "r", [b"{}"] * number)


async def test_numbers_are_contiguous_and_each_thread_has_its_own(log: MemoryEventLog) -> None:
    assert await fill(log, 3) == 3
    assert await fill(log, 2) == 5
    assert await fill(log, 1, "other") == 1
    entries = await log.read("t", epoch=log.epoch, after_seq=0, limit=100)
    assert [(entry.seq_from, entry.seq) for entry in entries] == [(seq, seq) for seq in range(1, 6)]
    assert {entry.ts for entry in entries} == {12_500}


async def test_reads_in_pages_from_anywhere_in_the_window(log: MemoryEventLog) -> None:
    await fill(log, 15)
    assert [entry.seq for entry in await log.read("t", epoch=log.epoch, after_seq=5, limit=3)] == [6, 7, 8]
    assert list(await log.read("t", epoch=log.epoch, after_seq=15, limit=3)) == []


@pytest.mark.parametrize("after_seq", [0, 4, 16])
async def test_refuses_what_it_cannot_vouch_for(log: MemoryEventLog, after_seq: int) -> None:
    await fill(log, 15)
    with pytest.raises(OutOfWindow):
        await log.read("t", epoch=log.epoch, after_seq=after_seq, limit=3)


async def test_another_epoch_is_out_of_the_window(log: MemoryEventLog) -> None:
    await fill(log, 3)
    other = MemoryEventLog(retained=10, wall=lambda: 0.0)
    assert other.epoch != log.epoch
    with pytest.raises(OutOfWindow):
        await log.read("t", epoch=other.epoch, after_seq=1, limit=3)


async def test_a_forgotten_thread_is_not_resumed_in_its_successor(log: MemoryEventLog) -> None:
    await fill(log, 5)
    await log.forget("t")
    for position in (3, 5):
        with pytest.raises(OutOfWindow):
            await log.read("t", epoch=log.epoch, after_seq=position, limit=3)
    assert await fill(log, 1) == 7
    with pytest.raises(OutOfWindow):
        await log.read("t", epoch=log.epoch, after_seq=5, limit=3)


async def test_follows_without_gap_or_duplicate() -> None:
    log = MemoryEventLog(retained=5_000, wall=lambda: 0.0)
    await fill(log, PAGE + 10)
    seen: list[int] = []

    async def reader() -> None:
        async with aclosing(log.follow("t", epoch=log.epoch, after_seq=3)) as pages:
            async for page in pages:
                assert len(page) <= PAGE
                seen.extend(entry.seq for entry in page)

    task = asyncio.create_task(reader())
    for _ in range(50):
        await fill(log, 2)
        await asyncio.sleep(0)
    await eventually(lambda: seen[-1:] == [PAGE + 110])
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert seen == list(range(4, PAGE + 111))


async def test_a_reader_that_is_too_slow_is_told() -> None:
    log = MemoryEventLog(retained=10, wall=lambda: 0.0)
    async with aclosing(log.follow("t", epoch=log.epoch, after_seq=0)) as pages:
        await fill(log, 2)
        assert [entry.seq for entry in await anext(pages)] == [1, 2]
        await fill(log, 30)
        with pytest.raises(OutOfWindow):
            await anext(pages)


async def test_a_cancelled_reader_leaves_nothing(log: MemoryEventLog) -> None:
    async def reader() -> None:
        async with aclosing(log.follow("t", epoch=log.epoch, after_seq=0)) as pages:
            async for _ in pages:
                pass

    task = asyncio.create_task(reader())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
