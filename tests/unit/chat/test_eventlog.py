"""The contract of an event log, on every adapter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from doorward.chat.database import ChatDatabase
from doorward.chat.envelope import Envelope
from doorward.chat.eventlog import PAGE, PAGE_BYTES, EventLog, Lease, LeaseLost, OutOfWindow, Retention
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.sqlite_log import SqliteEventLog
from doorward.testing.waiting import eventually

RETENTION = Retention(events=10, seconds=100.0)


@dataclass
class Bench:
    """One log, and what a test needs around it."""

    log: EventLog
    wall: list[float]
    leases: dict[str, Lease] = field(default_factory=dict)

    async def fill(self, number: int, thread_id: str = "t") -> int:
        if thread_id not in self.leases:
            self.leases[thread_id] = await self.log.acquire(thread_id, "r")
        return await self.log.append(self.leases[thread_id], [b'{"type":"CUSTOM"}'] * number)

    async def read(self, after_seq: int, thread_id: str = "t", limit: int = 1_000) -> Sequence[Envelope]:
        return await self.log.read(thread_id, epoch=self.log.epoch, after_seq=after_seq, limit=limit)


@pytest.fixture(params=["memory", "sqlite", "sqlite-full"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    wall = [12.5]
    if request.param == "memory":
        yield Bench(MemoryEventLog(wall=lambda: wall[0], retention=RETENTION), wall)
        return
    path = tmp_path / "data" / "chat.sqlite3"
    database = ChatDatabase(path, synchronous="full" if request.param == "sqlite-full" else "normal")
    await database.open()
    log = SqliteEventLog(database, wall=lambda: wall[0], retention=RETENTION)
    await log.start()
    yield Bench(log, wall)
    await log.aclose()
    await database.aclose()


def delta(text: str, message_id: str = "m", kind: str = "TEXT_MESSAGE_CONTENT") -> bytes:
    name = "toolCallId" if kind == "TOOL_CALL_ARGS" else "messageId"
    return json.dumps({"type": kind, name: message_id, "delta": text}).encode()


async def test_numbers_are_contiguous_and_each_thread_has_its_own(bench: Bench) -> None:
    assert await bench.fill(3) == 3
    assert await bench.fill(2) == 5
    assert await bench.fill(1, "other") == 1
    entries = await bench.read(0)
    assert [(entry.seq_from, entry.seq) for entry in entries] == [(seq, seq) for seq in range(1, 6)]
    assert {(entry.thread_id, entry.run_id, entry.epoch) for entry in entries} == {("t", "r", bench.log.epoch)}
    assert {entry.ts for entry in entries} == {12_500}
    assert bytes(entries[0].event) == b'{"type":"CUSTOM"}'


async def test_reads_in_pages_from_anywhere_in_the_window(bench: Bench) -> None:
    await bench.fill(15)
    assert [entry.seq for entry in await bench.read(5, limit=3)] == [6, 7, 8]
    assert list(await bench.read(15)) == []


async def test_past_the_head_is_out_of_the_window(bench: Bench) -> None:
    await bench.fill(15)
    with pytest.raises(OutOfWindow):
        await bench.read(16)


async def test_another_epoch_is_out_of_the_window(bench: Bench) -> None:
    await bench.fill(3)
    assert bench.log.epoch
    with pytest.raises(OutOfWindow):
        await bench.log.read("t", epoch="another", after_seq=1, limit=3)
    with pytest.raises(OutOfWindow):
        async with aclosing(bench.log.follow("t", epoch="another", after_seq=1)) as pages:
            await anext(pages)


async def test_only_the_newest_lease_may_append(bench: Bench) -> None:
    first = await bench.log.acquire("t", "r1")
    assert await bench.log.append(first, [b"{}"]) == 1
    second = await bench.log.acquire("t", "r2")
    assert second.fence > first.fence
    with pytest.raises(LeaseLost):
        await bench.log.append(first, [b"{}"])
    other = await bench.log.acquire("other", "r1")
    outcomes = await asyncio.gather(
        bench.log.append(first, [b"{}"]),
        bench.log.append(second, [b"{}", b"{}"]),
        bench.log.append(other, [b"{}"]),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], LeaseLost)
    assert list(outcomes[1:]) == [3, 1], "what shares a commit with a lost lease is stored"
    assert [entry.run_id for entry in await bench.read(0)] == ["r1", "r2", "r2"]


async def test_appends_at_once_are_in_order_and_without_holes(bench: Bench) -> None:
    leases = [await bench.log.acquire(f"t{number}", "r") for number in range(5)]
    lasts = await asyncio.gather(*(bench.log.append(lease, [b"{}"] * 2) for lease in leases for _ in range(20)))
    assert lasts == [2 * (index + 1) for _ in leases for index in range(20)]
    for lease in leases:
        assert [entry.seq for entry in await bench.read(0, lease.thread_id)] == list(range(1, 41))


async def test_a_forgotten_thread_is_not_resumed_in_its_successor(bench: Bench) -> None:
    await bench.fill(5)
    await bench.log.forget("t")
    with pytest.raises(LeaseLost):
        await bench.fill(1)
    bench.leases.clear()
    for position in (3, 5):
        with pytest.raises(OutOfWindow):
            await bench.read(position)
    assert await bench.fill(1) == 7
    with pytest.raises(OutOfWindow):
        await bench.read(5)


async def test_follows_without_gap_or_duplicate(bench: Bench) -> None:
    await bench.fill(PAGE + 10)
    seen: list[int] = []

    async def reader() -> None:
        async with aclosing(bench.log.follow("t", epoch=bench.log.epoch, after_seq=3)) as pages:
            async for page in pages:
                assert len(page) <= PAGE
                seen.extend(entry.seq for entry in page)

    task = asyncio.create_task(reader())
    for _ in range(50):
        await bench.fill(2)
    await eventually(lambda: seen[-1:] == [PAGE + 110])
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert seen == list(range(4, PAGE + 111))


async def test_tidying_joins_deltas_and_keeps_the_ranges_contiguous(bench: Bench) -> None:
    lease = await bench.log.acquire("t", "r")
    words = [delta("a"), delta("b"), delta("c", "other"), b'{"type":"X"}', delta("d", "x", "TOOL_CALL_ARGS")]
    await bench.log.append(lease, [*words, delta("e", "x", "TOOL_CALL_ARGS"), delta("f")])
    await bench.log.append(lease, [delta("g"), delta("h")])
    await bench.log.tidy("t", up_to=7)
    entries = await bench.read(0)
    assert [(entry.seq_from, entry.seq) for entry in entries] == [
        (1, 2),
        (3, 3),
        (4, 4),
        (5, 6),
        (7, 7),
        (8, 8),
        (9, 9),
    ]
    contents = [json.loads(bytes(entry.event)) for entry in entries]
    assert [content.get("delta") for content in contents] == ["ab", "c", None, "de", "f", "g", "h"]
    assert contents[3] == {"type": "TOOL_CALL_ARGS", "toolCallId": "x", "delta": "de"}
    with pytest.raises(OutOfWindow):
        await bench.read(1)
    assert [entry.seq for entry in await bench.read(6)] == [7, 8, 9]
    before = await bench.read(0)
    await bench.log.tidy("t", up_to=7)
    assert await bench.read(0) == before


async def test_retains_a_number_of_envelopes_and_never_drops_what_came_later(bench: Bench) -> None:
    await bench.fill(15)
    await bench.log.tidy("t", up_to=2)
    assert [entry.seq for entry in await bench.read(2)] == list(range(3, 16))
    with pytest.raises(OutOfWindow):
        await bench.read(1)
    await bench.log.tidy("t", up_to=15)
    assert [entry.seq for entry in await bench.read(5)] == list(range(6, 16))
    with pytest.raises(OutOfWindow):
        await bench.read(4)


async def test_retains_nothing_that_is_too_old(bench: Bench) -> None:
    await bench.fill(3)
    bench.wall[0] += 99
    await bench.fill(3)
    bench.wall[0] += 2
    await bench.log.tidy("t", up_to=6)
    assert [entry.seq for entry in await bench.read(3)] == [4, 5, 6]
    with pytest.raises(OutOfWindow):
        await bench.read(2)
    bench.wall[0] += 1_000
    await bench.log.tidy("t", up_to=6)
    assert list(await bench.read(6)) == []
    assert await bench.fill(1) == 7


async def test_tidying_a_thread_that_is_not_there_does_nothing(bench: Bench) -> None:
    await bench.log.tidy("never", up_to=10)
    assert list(await bench.read(0, "never")) == []


async def test_a_reader_that_is_too_slow_is_told(bench: Bench) -> None:
    async with aclosing(bench.log.follow("t", epoch=bench.log.epoch, after_seq=0)) as pages:
        await bench.fill(2)
        assert [entry.seq for entry in await anext(pages)] == [1, 2]
        await bench.fill(PAGE + 30)
        await bench.log.tidy("t", up_to=PAGE + 32)
        with pytest.raises(OutOfWindow):
            await anext(pages)


async def test_a_follower_of_a_forgotten_thread_is_told(bench: Bench) -> None:
    async with aclosing(bench.log.follow("t", epoch=bench.log.epoch, after_seq=0)) as pages:
        await bench.fill(2)
        await anext(pages)
        following = asyncio.create_task(_next(pages))
        await asyncio.sleep(0)
        await bench.log.forget("t")
        done, _ = await asyncio.wait({following}, timeout=5)
        assert done
        assert isinstance(following.exception(), OutOfWindow)


async def _next(pages: AsyncIterator[Sequence[Envelope]]) -> Sequence[Envelope]:
    return await anext(pages)


async def test_a_cancelled_reader_leaves_nothing(bench: Bench) -> None:
    async def reader() -> None:
        async with aclosing(bench.log.follow("t", epoch=bench.log.epoch, after_seq=0)) as pages:
            async for _ in pages:
                pass

    task = asyncio.create_task(reader())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_a_cancelled_append_is_whole_or_not_there(bench: Bench) -> None:
    lease = await bench.log.acquire("t", "r")
    task = asyncio.create_task(bench.log.append(lease, [b"{}"] * 3))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    last = await bench.log.append(lease, [b"{}"])
    assert last in {1, 4}
    assert [entry.seq for entry in await bench.read(0)] == list(range(1, last + 1))


def run_of(name: str) -> list[bytes]:
    return [json.dumps({"type": kind}).encode() for kind in ("RUN_STARTED", name, name, "RUN_FINISHED")]


async def test_the_run_at_a_position_is_all_that_came_of_it(bench: Bench) -> None:
    for name in ("one", "two"):
        await bench.log.append(await bench.log.acquire("t", name), run_of(name))

    async def numbers(after_seq: int) -> list[int]:
        return [one.seq for one in await bench.log.run_at("t", epoch=bench.log.epoch, after_seq=after_seq)]

    assert [await numbers(position) for position in range(9)] == [
        [],
        [1],
        [1, 2],
        [1, 2, 3],
        [],
        [5],
        [5, 6],
        [5, 6, 7],
        [],
    ]
    with pytest.raises(OutOfWindow):
        await numbers(9)
    with pytest.raises(OutOfWindow):
        await bench.log.run_at("t", epoch="another", after_seq=2)
    await bench.log.append(await bench.log.acquire("t", "three"), run_of("three")[:2])
    assert await numbers(10) == [9, 10], "at the head too"


async def test_a_run_whose_beginning_is_not_retained_is_not_there(bench: Bench) -> None:
    assert RETENTION.events == 10
    lease = await bench.log.acquire("t", "r")
    await bench.log.append(lease, [*run_of("r")[:3] * 3, run_of("r")[3], *run_of("r")])
    await bench.log.tidy("t", up_to=14)
    for position in (4, 5, 6):
        with pytest.raises(OutOfWindow):
            await bench.log.run_at("t", epoch=bench.log.epoch, after_seq=position)
    assert len(await bench.log.run_at("t", epoch=bench.log.epoch, after_seq=12)) == 2


async def test_the_run_at_a_position_inside_a_joined_range_is_not_there(bench: Bench) -> None:
    lease = await bench.log.acquire("t", "r")
    await bench.log.append(lease, [b'{"type":"RUN_STARTED"}', delta("a"), delta("b"), b'{"type":"RUN_FINISHED"}'])
    await bench.log.tidy("t", up_to=4)
    assert [one.seq for one in await bench.log.run_at("t", epoch=bench.log.epoch, after_seq=3)] == [1, 3]
    with pytest.raises(OutOfWindow):
        await bench.log.run_at("t", epoch=bench.log.epoch, after_seq=2)


async def test_a_page_holds_so_many_bytes_and_one_event_at_least(bench: Bench) -> None:
    lease = await bench.log.acquire("t", "r")
    await bench.log.append(lease, [delta("x" * (PAGE_BYTES // 3))] * 5)
    await bench.log.append(lease, [delta("y" * (2 * PAGE_BYTES)), delta("z")])
    pages: list[list[int]] = []
    async with aclosing(bench.log.follow("t", epoch=bench.log.epoch, after_seq=0)) as following:
        async for page in following:
            pages.append([entry.seq for entry in page])
            if page[-1].seq == 7:
                break
    assert pages == [[1, 2], [3, 4], [5], [6], [7]]
    assert [entry.seq for entry in await bench.read(0)] == [1, 2]
