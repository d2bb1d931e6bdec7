"""The database behind the auth service: every call bounded in time, every failure a `StoreError`.

SQLite runs in WAL mode with `synchronous=FULL`: what was answered is on disk. Writers begin with `BEGIN IMMEDIATE` and take
turns in this process first, so that only another process can make SQLite say "busy".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from doorward.config import Settings
from doorward.core.deadline import Deadline
from doorward.errors import BackendError, ConfigError, StoreError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.clock import SystemClock

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

POOL_SIZE = 8
MAX_CALLS = 256
"""Calls running or waiting for a connection, and those given up on whose clean-up still runs."""

CLOSE_SECONDS = 2.0
_WRITES = "doorward_writes"


def database_url(settings: Settings) -> URL:
    """Where the data is: `authd.database_url`, else a SQLite file in the data directory.

    Raises:
        ConfigError: it is not a database URL that works here.
    """
    configured = settings.authd.database_url
    if configured is None:
        return URL.create("sqlite+aiosqlite", database=str(directory(settings) / "authd.sqlite3"))
    try:
        url = make_url(configured)
    except ArgumentError:
        raise ConfigError("authd.database_url is not a database URL; write e.g. postgresql://user@host/name") from None
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    if url.get_backend_name() not in drivers:
        raise ConfigError(f"authd.database_url: {url.get_backend_name()} is not supported; use sqlite or postgresql")
    return url.set(drivername=drivers[url.get_backend_name()])


def directory(settings: Settings) -> Path:
    """The auth service's own part of the data directory."""
    return settings.data_dir / "authd"


def prepare_directory(path: Path) -> None:
    """Make it with mode 0700, parents included. Blocking."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def prepare_file(url: URL) -> None:
    """Make the SQLite file with mode 0600 before SQLite makes it with the umask's; its journals take the mode over. Blocking."""
    if url.get_backend_name() == "sqlite" and url.database:
        prepare_directory(Path(url.database).parent)
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def make_engine(url: URL, *, bound_seconds: float) -> AsyncEngine:
    """An engine whose transactions begin as the module's text says.

    Raises:
        ConfigError: the driver for this database is not installed.
    """
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": url.get_backend_name() != "sqlite"}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": bound_seconds / 2}
    try:
        engine = create_async_engine(url, pool_size=POOL_SIZE, max_overflow=0, pool_timeout=bound_seconds, **options)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"authd.database_url needs the package {error.name}: pip install 'doorward[postgres]'"
        ) from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


class Store:
    """Transactions under a bound. `work` gets the open connection and returns the result; an exception of its own rolls back."""

    def __init__(self, engine: AsyncEngine, *, bound_seconds: float) -> None:
        self._engine = engine
        self._bound_seconds = bound_seconds
        self._clock = SystemClock()
        self._reaper = Reaper()
        self._in_flight = 0
        self._writer = asyncio.Lock() if engine.dialect.name == "sqlite" else None

    async def read(self, work: Work[T], *, bound_seconds: float | None = None) -> T:
        """One consistent look.

        Raises:
            StoreError: the store failed, or did not answer in time.

        Cancellation: the transaction is rolled back, after a statement of SQLite's is interrupted.
        """
        return await self._run(work, writes=False, bound_seconds=bound_seconds)

    async def write(self, work: Work[T]) -> T:
        """One transaction, alone among writers where the database is SQLite.

        Raises:
            StoreError: the store failed, or did not answer in time; the transaction may have been committed all the same.

        Cancellation: as `StoreError`.
        """
        return await self._run(work, writes=True)

    async def aclose(self) -> None:
        """Close the connections, waiting for calls given up on no longer than `CLOSE_SECONDS`."""
        await self._reaper.aclose(seconds=CLOSE_SECONDS)
        deadline = Deadline.after(self._clock.monotonic(), CLOSE_SECONDS)
        await bounded(self._engine.dispose(), deadline, clock=self._clock, reaper=self._reaper)

    async def _run(self, work: Work[T], *, writes: bool, bound_seconds: float | None = None) -> T:
        if self._in_flight + len(self._reaper) >= MAX_CALLS:
            raise StoreError("too many calls to the store are waiting already")
        seconds = min(bound_seconds or self._bound_seconds, self._bound_seconds)
        deadline = Deadline.after(self._clock.monotonic(), seconds)
        self._in_flight += 1
        try:
            return await bounded(
                self._transaction(work, writes=writes), deadline, clock=self._clock, reaper=self._reaper
            )
        except StoreError:
            raise
        except BackendError as error:
            raise StoreError(f"the store did not answer in {seconds:g} s") from error
        finally:
            self._in_flight -= 1

    async def _transaction(self, work: Work[T], *, writes: bool) -> T:
        try:
            async with self._turn(writes=writes), self._connected() as connection:
                await connection.execution_options(**{_WRITES: writes})
                async with connection.begin():
                    return await self._interruptible(work, connection)
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool. One that SQLite is just opening is waited for: given up midway, aiosqlite never closes it.

        Who gives up does not wait: `bounded` answers in time, and the reaper counts what is still opening.
        """
        if self._engine.dialect.name != "sqlite":
            async with self._engine.connect() as connection:
                yield connection
            return
        connection = self._engine.connect()
        opening = asyncio.ensure_future(connection.start())
        try:
            await asyncio.shield(opening)
            yield connection
        finally:
            await asyncio.wait({opening})
            if opening.exception() is None:
                await asyncio.shield(connection.close())

    async def _interruptible(self, work: Work[T], connection: AsyncConnection) -> T:
        """The work; what SQLite is still doing when nobody waits any more is ended at once.

        aiosqlite runs a statement to its end on a thread of its own. A connection that is closed meanwhile, then stopped
        by SQLAlchemy two seconds later, waits for that thread for ever.
        """
        if connection.dialect.name != "sqlite":
            return await work(connection)
        driver: Any = (await connection.get_raw_connection()).driver_connection
        task = asyncio.ensure_future(work(connection))
        try:
            return await asyncio.shield(task)
        finally:
            if not task.done():
                await driver.interrupt()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def _turn(self, *, writes: bool) -> AsyncIterator[None]:
        async with self._writer if writes and self._writer is not None else nullcontext():
            yield


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin_sqlite` does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
