"""The chat's SQLite file, owned by one process: a connection that writes, one that reads and one that searches, each on its own
thread.

A call is one transaction. Readers see what was committed when they began and never hold up the writer (SQLite's write-ahead log).

Threads and runs use SQLAlchemy on it, the event log plain SQL in the same transactions (docs/adr/0011). The owner holds a lock
on a file beside it, which the kernel takes back when the process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from doorward.adapters.private_files import distrust_dir, distrust_file, make_private_dir
from doorward.adapters.schema_version import bring_up_to_date
from doorward.adapters.worker import Worker
from doorward.chat.schema import metadata
from doorward.errors import ConfigError, StoreError

T = TypeVar("T")

FILE_NAME: Final = "chat.sqlite3"
LOCK_SUFFIX: Final = ".lock"
MARK_SUFFIX: Final = ".mark"
CALL_SECONDS: Final = 5.0
READ_SECONDS: Final = 2.0
OPEN_SECONDS: Final = 30.0
LOCK_SECONDS: Final = 3.0

_POLL_SECONDS = 0.05
_CHECK_INSTRUCTIONS = 10_000
"""Of SQLite's virtual machine, between two looks at the clock."""

_SCRIPTS = Path(__file__).parent / "migrations"


class ChatDatabase:
    """Open it before use and close it after.

    Args:
        path: the file; `None` keeps everything in memory.
        synchronous: `normal` survives the end of the process, `full` a power cut too.
        bound_seconds: of each call; the opening has `OPEN_SECONDS`.
        read_seconds: a question that takes longer is stopped.
        lock_seconds: how long to wait for a process that is just ending.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        synchronous: Literal["normal", "full"] = "normal",
        bound_seconds: float = CALL_SECONDS,
        read_seconds: float = READ_SECONDS,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        self.path = path
        self.synchronous = synchronous
        self._bound_seconds = bound_seconds
        self._lock_seconds = lock_seconds
        self._writer = Worker("doorward-chat")
        self._reader, self._searcher = (
            _Reader(Worker(name, drops=True), path, synchronous, bound_seconds, read_seconds)
            for name in ("doorward-chat-read", "doorward-chat-search")
        )
        self._connection: Connection | None = None
        self._lock: int | None = None

    async def open(self) -> None:
        """Take the file, making it if it is not there, and bring it to this version's schema.

        Raises:
            ConfigError: it cannot be used; the text says the mend.
            StoreError: it did not get done in time.

        Cancellation: the thread finishes by itself; `aclose` closes what it opened.
        """
        await self._call(self._writer, self._open, OPEN_SECONDS)
        if self.path is not None:
            await self._call(self._reader.worker, self._reader.open, OPEN_SECONDS)

    async def run(self, work: Callable[[Connection], T], *, after: Callable[[T], None] | None = None) -> T:
        """`work` on the database's thread, in one transaction that begins IMMEDIATE. An exception of its own rolls back.

        Args:
            after: called there with the result, once it is committed.

        Raises:
            StoreError: it failed, or did not answer in time; it may have been committed in the latter case.

        Cancellation: as a `StoreError`.
        """
        return await self._call(self._writer, partial(self._transaction, work, after), self._bound_seconds)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """`work` that changes nothing, beside the writer; stopped after `read_seconds`.

        Raises:
            StoreError: it failed, or did not answer in time.

        Cancellation: it goes on until it is done or stopped, and its result is dropped.
        """
        return await self._read_by(self._reader, work)

    async def search(self, work: Callable[[Connection], T]) -> T:
        """As `read`, for what may take long: it holds up nothing but other searches."""
        return await self._read_by(self._searcher, work)

    async def aclose(self) -> None:
        """Close the file. Bounded; what hangs is left to the thread."""
        for reader in (self._reader, self._searcher):
            with contextlib.suppress(StoreError):
                if reader.is_open:
                    await self._call(reader.worker, reader.close, self._bound_seconds)
        with contextlib.suppress(StoreError):
            await self._call(self._writer, self._close, self._bound_seconds)
        for worker in (self._reader.worker, self._searcher.worker, self._writer):
            worker.stop_nowait()

    async def _read_by(self, reader: _Reader, work: Callable[[Connection], T]) -> T:
        if self.path is None:
            return await self.run(work)
        if not self._reader.is_open:
            raise StoreError("the chat's database is not open")
        return await self._call(reader.worker, partial(reader.do, work), self._bound_seconds)

    async def _call(self, worker: Worker, call: Callable[[], T], bound_seconds: float) -> T:
        try:
            return await worker.run(call, bound_seconds=bound_seconds)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            reason = getattr(error, "orig", None) or error
            raise StoreError(f"{self.path or 'the chat in memory'}: {reason}") from error

    # What follows runs on the writer's thread.

    def _open(self) -> None:
        self._close()
        if self.path is not None:
            self._prepare_file(self.path)
        try:
            self._connection = _engine(self.path, self.synchronous, self._bound_seconds).connect()
            with self._connection.begin():
                bring_up_to_date(self._connection, _SCRIPTS, name=str(self.path), schema=metadata)
        except ConfigError:
            self._close()
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self._close()
            reason = getattr(error, "orig", None) or error
            raise ConfigError(f"{self.path} cannot be used: {reason}; restore it, or move it away") from error

    def _prepare_file(self, path: Path) -> None:
        try:
            make_private_dir(path.parent)
            reason = distrust_dir(path.parent)
            if not reason:
                self._lock = _lock(path, self._lock_seconds)
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
                reason = distrust_file(path.lstat(), path)
        except OSError as error:
            self._close()
            raise ConfigError(f"{path} cannot be made: {error}") from error
        if reason:
            self._close()
            raise ConfigError(reason)

    def _transaction(self, work: Callable[[Connection], T], after: Callable[[T], None] | None) -> T:
        if self._connection is None:
            raise StoreError("the chat's database is not open")
        with self._connection.begin():
            result = work(self._connection)
        if after is not None:
            after(result)
        return result

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            engine = connection.engine
            connection.close()
            engine.dispose()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


class _Reader:
    """A connection for questions. All but `worker` and `is_open` is for its thread; it opens itself for the first one."""

    def __init__(
        self, worker: Worker, path: Path | None, synchronous: str, bound_seconds: float, seconds: float
    ) -> None:
        self.worker = worker
        self._path = path
        self._synchronous = synchronous
        self._bound_seconds = bound_seconds
        self._seconds = seconds
        self._connection: Connection | None = None
        self._deadline = 0.0

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self) -> Connection:
        self.close()
        engine = _engine(self._path, self._synchronous, self._bound_seconds, begin="BEGIN")
        connection = self._connection = engine.connect()
        plain = driver(connection)
        plain.execute("PRAGMA query_only = ON")
        plain.set_progress_handler(lambda: time.monotonic() > self._deadline, _CHECK_INSTRUCTIONS)
        return connection

    def do(self, work: Callable[[Connection], T]) -> T:
        connection = self._connection or self.open()
        self._deadline = time.monotonic() + self._seconds
        with connection.begin():
            return work(connection)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            engine = connection.engine
            connection.close()
            engine.dispose()


def _lock(path: Path, wait_seconds: float) -> int:
    name = path.with_name(path.name + LOCK_SUFFIX)
    descriptor = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    end = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise ConfigError(
                    f"{path} belongs to another process that is running; stop it, or set another chat.file"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return descriptor


def _engine(path: Path | None, synchronous: str, bound_seconds: float, *, begin: str = "BEGIN IMMEDIATE") -> Engine:
    engine = create_engine(
        f"sqlite:///{path}" if path else "sqlite://",
        poolclass=StaticPool,
        hide_parameters=True,
        connect_args={"timeout": bound_seconds / 2, "check_same_thread": True},
    )
    event.listen(engine, "connect", partial(_configure, synchronous))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _configure(synchronous: str, connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; the engine does
    for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")


def driver(connection: Connection) -> sqlite3.Connection:
    """The plain connection below, inside the same transaction."""
    plain: Any = connection.connection.driver_connection
    assert isinstance(plain, sqlite3.Connection)  # noqa: S101 - it is what `_engine` makes
    return plain
