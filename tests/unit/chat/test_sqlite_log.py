"""What the SQLite log does beyond the contract: which numbers it vouches for after a restart, a reboot and a restore."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from doorward.chat.database import MARK_SUFFIX, ChatDatabase, driver
from doorward.chat.envelope import Envelope
from doorward.chat.eventlog import LeaseLost
from doorward.chat.lane import TAIL
from doorward.chat.sqlite_log import MAX_WAITING, SqliteEventLog
from doorward.errors import StoreError
from doorward.testing.waiting import eventually


class Host:
    """A host with one file, on which the log is started again and again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "data" / "chat.sqlite3"
        self.boot_id = folder / "boot_id"
        self.reboot(1)

    def reboot(self, number: int) -> None:
        self.boot_id.write_text(f"boot-{number}\n", encoding="ascii")

    @asynccontextmanager
    async def log(self, synchronous: str = "normal") -> AsyncIterator[SqliteEventLog]:
        database = ChatDatabase(self.file, synchronous="full" if synchronous == "full" else "normal")
        await database.open()
        log = SqliteEventLog(database, wall=lambda: 1.0, boot_id=self.boot_id)
        await log.start()
        yield log
        await log.aclose()
        await database.aclose()

    async def append(self, number: int, synchronous: str = "normal") -> str:
        """Append in a process of its own; returns the epoch."""
        async with self.log(synchronous) as log:
            await log.append(await log.acquire("t", "r"), [b"{}"] * number)
            return log.epoch

    async def epoch(self, synchronous: str = "normal") -> str:
        async with self.log(synchronous) as log:
            return log.epoch


def changes(connection: Connection) -> int:
    """Rows that were ever inserted or updated."""
    return driver(connection).total_changes


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_a_restart_goes_on_where_it_was(host: Host) -> None:
    epoch = await host.append(3)
    async with host.log() as log:
        assert log.epoch == epoch
        lease = await log.acquire("t", "r2")
        assert await log.append(lease, [b"{}"]) == 4
        assert [entry.seq for entry in await log.read("t", epoch=epoch, after_seq=2, limit=9)] == [3, 4]


async def test_fences_go_on_after_a_restart(host: Host) -> None:
    async with host.log() as log:
        old = await log.acquire("t", "r")
    async with host.log() as log:
        new = await log.acquire("t", "r")
        assert new.fence > old.fence
        with pytest.raises(LeaseLost):
            await log.append(old, [b"{}"])


async def test_a_reboot_is_another_epoch_unless_each_commit_is_synced(host: Host) -> None:
    epoch = await host.append(3)
    host.reboot(2)
    second = await host.epoch()
    assert second != epoch
    assert await host.epoch() == second
    host.reboot(3)
    assert await host.epoch("full") == second
    host.boot_id.unlink()
    assert await host.epoch() != second, "where the host does not say, the worst is assumed"


async def test_a_restored_copy_is_another_epoch(host: Host) -> None:
    await host.append(3)
    copy = host.file.with_suffix(".copy")
    shutil.copy(host.file, copy)
    epoch = await host.append(2)
    os.replace(copy, host.file)
    second = await host.epoch()
    assert second != epoch
    assert await host.epoch() == second


async def test_a_copy_put_back_into_the_same_file_is_another_epoch(host: Host) -> None:
    await host.append(3)
    before = host.file.read_bytes()
    epoch = await host.append(2)
    host.file.write_bytes(before)
    assert await host.epoch() != epoch


@pytest.mark.parametrize("content", [b"", b"what?", b"1 2 3"])
async def test_a_mark_that_says_nothing_is_another_epoch(host: Host, content: bytes) -> None:
    epoch = await host.append(1)
    host.file.with_name(host.file.name + MARK_SUFFIX).write_bytes(content)
    assert await host.epoch() != epoch


async def test_appends_at_once_share_commits(host: Host) -> None:
    async with host.log() as log:
        leases = [await log.acquire(f"t{number}", "r") for number in range(20)]
        before = await log._database.run(changes)
        await asyncio.gather(*(log.append(lease, [b"{}"]) for lease in leases for _ in range(10)))
        commits = await log._database.run(changes) - before - 400
        assert commits <= 3, "each commit updates the total once, and each append its thread's head"


async def test_what_waits_for_a_commit_is_bounded(host: Host) -> None:
    async with host.log() as log:
        lease = await log.acquire("t", "r")
        appends = [asyncio.create_task(log.append(lease, [b"{}"])) for _ in range(MAX_WAITING + 10)]
        await asyncio.wait(appends)
        refused = [append for append in appends if isinstance(append.exception(), StoreError)]
        assert len(refused) == 10
        assert await log.append(lease, [b"{}"]) == MAX_WAITING + 1


async def test_followers_share_what_memory_holds(host: Host) -> None:
    async with host.log() as log:
        lease = await log.acquire("t", "r")

        async def next_texts(pages: AsyncGenerator[Sequence[Envelope]]) -> list[int]:
            return [id(envelope.encoded) for envelope in await anext(pages)]

        async with AsyncExitStack() as stack:
            followers = [
                await stack.enter_async_context(aclosing(log.follow("t", epoch=log.epoch, after_seq=after_seq)))
                for after_seq in (0, 1, 1)
            ]
            reading = asyncio.create_task(anext(followers[0]))
            await eventually(lambda: "t" in log._lanes)
            await log.append(lease, [b"{}"])
            assert len(await reading) == 1, "from here on memory has all of it, and nobody asks the file"
            waiting = [asyncio.create_task(next_texts(pages)) for pages in followers]
            await asyncio.sleep(0)
            await log.append(lease, [b"{}"] * 20)
            one, two, three = await asyncio.gather(*waiting)
            assert len(one) == 20
            assert one == two == three
        assert not log._lanes


async def test_memory_holds_the_newest_only(host: Host) -> None:
    async with host.log() as log:
        lease = await log.acquire("t", "r")
        async with aclosing(log.follow("t", epoch=log.epoch, after_seq=0)) as pages:
            await log.append(lease, [b"{}"])
            await anext(pages)
            await log.append(lease, [b"{}"] * (TAIL * 3))
            assert len(log._lanes["t"].tail) == TAIL
            page = await anext(pages)
            assert page[0].seq == 2, "the rest comes from the file"


async def test_a_file_that_is_gone_fails_and_says_so(host: Host) -> None:
    async with host.log() as log:
        lease = await log.acquire("t", "r")
        await log._database.aclose()
        for _ in range(2):
            with pytest.raises(StoreError):
                await log.append(lease, [b"{}"])
