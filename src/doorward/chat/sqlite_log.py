"""The durable event log: SQLite, in the chat's own file.

A number is given out in the transaction that stores the event, and nobody is told of an event before its commit: so a process
that is killed never uses a number twice. While one commit is under way what comes next is gathered, and committed together.

With `synchronous = normal` a power cut may take the last commits, and a restored copy lacks what came after it. Numbers given out
meanwhile would then be used again, so the log starts another epoch: when the host was started anew, when the file is another one,
and when it holds less than was once committed (a mark beside the file says how much).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from doorward.chat.database import CALL_SECONDS, MARK_SUFFIX, ChatDatabase, driver
from doorward.chat.envelope import Envelope, compacted
from doorward.chat.eventlog import COMPACTED_BYTES, PAGE, Lease, LeaseLost, OutOfWindow, Retention, begun, first_page
from doorward.chat.lane import Lane
from doorward.chat.memory_log import retained
from doorward.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from sqlalchemy import Connection

MAX_BATCH: Final = 256
"""Appends that share a commit, at most."""

MAX_WAITING: Final = 4_096
"""Appends that wait for a commit; more are refused."""

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_READ: Final = """
SELECT seq_from, seq, run_id, ts, event FROM log_events WHERE thread_id = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_READ_BACK: Final = """
SELECT seq_from, seq, run_id, ts, event FROM log_events WHERE thread_id = ? AND seq <= ? ORDER BY seq DESC
"""
_INSERT: Final = "INSERT INTO log_events (thread_id, seq_from, seq, run_id, ts, event) VALUES (?, ?, ?, ?, ?, ?)"
_PLACE: Final = "INSERT OR IGNORE INTO log_threads (thread_id, head, fence) SELECT ?, base, 0 FROM log_state"
_FENCE: Final = "UPDATE log_state SET fence = fence + 1 RETURNING fence"
_HEAD: Final = "SELECT coalesce((SELECT head FROM log_threads WHERE thread_id = ?), base) FROM log_state"
_FIRST: Final = "SELECT seq_from FROM log_events WHERE thread_id = ? ORDER BY seq LIMIT 1"


@dataclass(frozen=True, slots=True)
class _Append:
    lease: Lease
    events: Sequence[bytes]
    done: asyncio.Future[int]


class SqliteEventLog:
    """An `EventLog` in `database`. Open that first, then start this.

    Args:
        wall: wall-clock seconds.
        boot_id: where the host says which start of it this is.
        committed: told how many seconds each commit took, its wait for the database's thread included.
    """

    def __init__(
        self,
        database: ChatDatabase,
        *,
        wall: Callable[[], float],
        retention: Retention | None = None,
        boot_id: Path = BOOT_ID,
        committed: Callable[[float], None] | None = None,
    ) -> None:
        self._database = database
        self._wall = wall
        self._retention = retention or Retention()
        self._boot_id_file = boot_id
        self._committed = committed
        self._epoch = ""
        self._lanes: dict[str, Lane] = {}
        self._waiting: list[_Append] = []
        self._flushing: asyncio.Task[None] | None = None
        self._mark: int | None = None
        self._inode = 0

    async def start(self) -> None:
        """Read the state, and decide whether its numbers can still be vouched for.

        Raises:
            StoreError: it cannot be read.

        Cancellation: it can be started again.
        """
        self._epoch, _ = await self._database.run(self._start, after=self._write_mark)

    async def aclose(self) -> None:
        """Let the appends that wait be committed, as far as the database's bound allows."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing}, timeout=CALL_SECONDS)
        mark, self._mark = self._mark, None
        if mark is not None:
            os.close(mark)

    @property
    def epoch(self) -> str:
        return self._epoch

    async def open(self, thread_id: str) -> int:
        return await self._database.run(partial(_open, thread_id))

    async def acquire(self, thread_id: str, run_id: str) -> Lease:
        return Lease(thread_id, run_id, await self._database.run(partial(_acquire, thread_id)))

    async def append(self, lease: Lease, events: Sequence[bytes]) -> int:
        if len(self._waiting) >= MAX_WAITING:
            raise StoreError("too many events wait to be stored")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Append(lease, events, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="chat-log")
        return await done

    async def read(self, thread_id: str, *, epoch: str, after_seq: int, limit: int) -> Sequence[Envelope]:
        if epoch != self._epoch:
            raise OutOfWindow(thread_id)
        page, head = await self._database.read(partial(self._read, thread_id, after_seq, limit))
        expected = page[0].seq_from - 1 if page else head
        if after_seq != expected:
            raise OutOfWindow(thread_id)
        return page

    async def follow(self, thread_id: str, *, epoch: str, after_seq: int) -> AsyncGenerator[Sequence[Envelope], None]:
        lane = self._lanes.setdefault(thread_id, Lane())
        lane.followers += 1
        try:
            while True:
                grown = lane.grown
                page: Sequence[Envelope] | None = lane.after(after_seq) if epoch == self._epoch else None
                if page is None:
                    page = await self.read(thread_id, epoch=epoch, after_seq=after_seq, limit=PAGE)
                if page:
                    yield page
                    after_seq = page[-1].seq
                else:
                    await grown.wait()
        finally:
            lane.followers -= 1
            if not lane.followers:
                del self._lanes[thread_id]

    async def run_at(self, thread_id: str, *, epoch: str, after_seq: int) -> Sequence[Envelope]:
        following = await self.read(thread_id, epoch=epoch, after_seq=after_seq, limit=1)
        return await self._database.read(partial(self._run_at, thread_id, after_seq, following))

    async def tidy(self, thread_id: str, *, up_to: int) -> None:
        await self._database.run(partial(self._tidy, thread_id, up_to))

    async def forget(self, thread_id: str) -> None:
        await self._database.run(partial(_forget, thread_id))
        if lane := self._lanes.get(thread_id):
            lane.clear()
            lane.wake()

    async def _flush(self) -> None:
        """Commit what waits, until nothing does."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._commit(batch)
        finally:
            self._flushing = None

    async def _commit(self, batch: Sequence[_Append]) -> None:
        ts = int(self._wall() * 1000)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            work = partial(_store, [(item.lease, item.events) for item in batch], ts)
            firsts, _ = await self._database.run(work, after=self._write_mark)
        except StoreError as error:
            self._fail([*batch, *self._waiting], error)
            return
        if self._committed is not None:
            self._committed(loop.time() - began)
        for item, first in zip(batch, firsts, strict=True):
            self._deliver(item, first, ts)

    def _deliver(self, item: _Append, first: int | None, ts: int) -> None:
        thread_id = item.lease.thread_id
        if first is None:
            if not item.done.done():
                item.done.set_exception(LeaseLost(thread_id))
            return
        if not item.done.done():
            item.done.set_result(first + len(item.events) - 1)
        if lane := self._lanes.get(thread_id):
            lane.extend(
                self._envelope(thread_id, first + index, first + index, item.lease.run_id, ts, event)
                for index, event in enumerate(item.events)
            )
            lane.wake()

    def _fail(self, appends: Sequence[_Append], error: StoreError) -> None:
        """Nobody knows what was committed, and what memory says may have a hole from now on. The database knows."""
        self._waiting = []
        for item in appends:
            if not item.done.done():
                item.done.set_exception(StoreError(str(error)))
        for lane in self._lanes.values():
            lane.clear()

    def _envelope(self, thread_id: str, seq_from: int, seq: int, run_id: str, ts: int, event: bytes) -> Envelope:
        return Envelope(
            thread_id=thread_id,
            epoch=self._epoch,
            seq_from=seq_from,
            seq=seq,
            run_id=run_id,
            ts=ts,
            event=msgspec.Raw(event),
        )

    # What follows runs on the database's threads.

    def _run_at(
        self, thread_id: str, after_seq: int, following: Sequence[Envelope], connection: Connection
    ) -> list[Envelope]:
        """Reads no more rows than the run has: the cursor is lazy."""
        with contextlib.closing(driver(connection).execute(_READ_BACK, (thread_id, after_seq))) as rows:
            return begun((self._envelope(thread_id, *row) for row in rows), following)

    def _read(self, thread_id: str, after_seq: int, limit: int, connection: Connection) -> tuple[list[Envelope], int]:
        plain = driver(connection)
        with contextlib.closing(plain.execute(_READ, (thread_id, after_seq, limit))) as rows:
            page = first_page(self._envelope(thread_id, *row) for row in rows)
        return page, plain.execute(_HEAD, (thread_id,)).fetchone()[0]

    def _start(self, connection: Connection) -> tuple[str, int]:
        plain = driver(connection)
        boot_id = _boot_id(self._boot_id_file)
        marked = self._open_mark()
        state = plain.execute("SELECT epoch, boot_id, total FROM log_state").fetchone()
        if state is None:
            state = (secrets.token_hex(8), boot_id, 0)
            plain.execute(
                "INSERT INTO log_state (id, epoch, boot_id, base, total, fence) VALUES (1, ?, ?, 0, 0, 0)", state[:2]
            )
        epoch, booted, total = state
        rebooted = self._database.synchronous == "normal" and (not boot_id or boot_id != booted)
        restored = self._mark is not None and not _holds(marked, self._inode, total)
        if rebooted or (total and restored):
            epoch = secrets.token_hex(8)
        plain.execute("UPDATE log_state SET epoch = ?, boot_id = ?", (epoch, boot_id))
        return str(epoch), int(total)

    def _open_mark(self) -> tuple[int, int] | None:
        """Open the mark; returns the inode and the number of events that it was made for."""
        path = self._database.path
        if path is None:
            return None
        self._inode = path.stat().st_ino
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        self._mark = os.open(path.with_name(path.name + MARK_SUFFIX), flags, 0o600)
        words = os.pread(self._mark, 64, 0).split()
        with contextlib.suppress(ValueError):
            inode, total = map(int, words)
            return inode, total
        return None

    def _write_mark(self, stored: tuple[object, int]) -> None:
        """In place and without a sync: it has to survive the process, and after a new start of the host it is not asked."""
        total = stored[1]
        if self._mark is not None:
            os.pwrite(self._mark, f"{self._inode:020d} {total:020d}\n".encode(), 0)

    def _tidy(self, thread_id: str, up_to: int, connection: Connection) -> None:
        plain = driver(connection)
        rows = plain.execute(_READ, (thread_id, -1, -1)).fetchall()
        old = [self._envelope(thread_id, *row) for row in rows if row[1] <= up_to]
        joined = compacted(old, max_bytes=COMPACTED_BYTES)
        kept = retained(joined, len(rows) - len(old), self._retention, now=self._wall())
        before, after = ({(one.seq_from, one.seq) for one in envelopes} for envelopes in (old, kept))
        plain.executemany(
            "DELETE FROM log_events WHERE thread_id = ? AND seq = ?", [(thread_id, seq) for _, seq in before - after]
        )
        new = [one for one in kept if (one.seq_from, one.seq) not in before]
        plain.executemany(
            _INSERT, [(thread_id, one.seq_from, one.seq, one.run_id, one.ts, bytes(one.event)) for one in new]
        )


def _open(thread_id: str, connection: Connection) -> int:
    plain = driver(connection)
    plain.execute(_PLACE, (thread_id,))
    first = plain.execute(_FIRST, (thread_id,)).fetchone()
    return int(first[0] - 1 if first else plain.execute(_HEAD, (thread_id,)).fetchone()[0])


def _acquire(thread_id: str, connection: Connection) -> int:
    plain = driver(connection)
    plain.execute(_PLACE, (thread_id,))
    fence = int(plain.execute(_FENCE).fetchall()[0][0])
    plain.execute("UPDATE log_threads SET fence = ? WHERE thread_id = ?", (fence, thread_id))
    return fence


def _store(
    batch: Sequence[tuple[Lease, Sequence[bytes]]], ts: int, connection: Connection
) -> tuple[list[int | None], int]:
    """The first number of each append, `None` where the lease is lost; and how many events there have ever been."""
    plain = driver(connection)
    firsts: list[int | None] = []
    rows: list[tuple[Any, ...]] = []
    for lease, events in batch:
        first = _claim(plain, lease, len(events))
        firsts.append(first)
        if first is not None:
            numbers = range(first, first + len(events))
            rows += [
                (lease.thread_id, seq, seq, lease.run_id, ts, event) for seq, event in zip(numbers, events, strict=True)
            ]
    plain.executemany(_INSERT, rows)
    total = plain.execute("UPDATE log_state SET total = total + ? RETURNING total", (len(rows),)).fetchall()[0][0]
    return firsts, total


def _claim(plain: sqlite3.Connection, lease: Lease, number: int) -> int | None:
    """Take the next numbers, if the lease still holds."""
    row = plain.execute(
        "UPDATE log_threads SET head = head + ? WHERE thread_id = ? AND fence = ? RETURNING head",
        (number, lease.thread_id, lease.fence),
    ).fetchall()
    return row[0][0] - number + 1 if row else None


def _forget(thread_id: str, connection: Connection) -> None:
    plain = driver(connection)
    plain.execute(
        "UPDATE log_state SET base = max(base, coalesce((SELECT head + 1 FROM log_threads WHERE thread_id = ?), 0))",
        (thread_id,),
    )
    for table in ("log_events", "log_threads"):
        plain.execute(f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,))  # noqa: S608 - names from above


def _holds(marked: tuple[int, int] | None, inode: int, total: int) -> bool:
    """Is this the file that the mark was made for, with everything that was in it?"""
    return marked is not None and marked[0] == inode and marked[1] <= total


def _boot_id(file: Path) -> str:
    """Empty where the host does not say."""
    try:
        return file.read_text(encoding="ascii").strip()[:64]
    except (OSError, ValueError):
        return ""
