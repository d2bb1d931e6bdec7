"""Every call to the store is bounded, and a failure is a `StoreError`."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from doorward.authd import accounts
from doorward.authd.store import MAX_CALLS, POOL_SIZE, Store, database_url
from doorward.config import Settings
from doorward.errors import ConfigError, StoreError, UsageError

LONG_QUERY = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000) SELECT max(i) FROM n"
)
BOUND_SECONDS = 0.5
SLACK_SECONDS = 1.0


class Noted(sqlite3.Connection):
    is_closed = False

    def close(self) -> None:
        self.is_closed = True
        super().close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    """Every connection of SQLite that was opened."""
    connections: list[Noted] = []

    class Kept(Noted):
        def __init__(self, *given: Any, **named: Any) -> None:
            connections.append(self)
            super().__init__(*given, **named)

    monkeypatch.setattr("sqlite3.connect", partial(sqlite3.connect, factory=Kept))
    return connections


async def count_users(tx: AsyncConnection) -> int:
    return int((await tx.execute(text("SELECT count(*) FROM users"))).scalar_one())


async def add_user(tx: AsyncConnection) -> None:
    await accounts.create(tx, "ann@example.com", password_hash=None, permissions=(), wall_now=1.0)


async def hang(tx: AsyncConnection) -> None:
    await tx.execute(LONG_QUERY)


def database(tmp_path: Path) -> Path:
    return tmp_path / "state" / "authd" / "authd.sqlite3"


async def test_a_call_that_hangs_is_given_up_in_time_and_the_store_goes_on(hasty: Store) -> None:
    started = time.monotonic()
    with pytest.raises(StoreError, match="did not answer"):
        await hasty.read(hang)
    assert BOUND_SECONDS <= time.monotonic() - started < BOUND_SECONDS + SLACK_SECONDS
    assert await hasty.read(count_users) == 0


async def test_a_shorter_bound_may_be_asked_for(store: Store) -> None:
    started = time.monotonic()
    with pytest.raises(StoreError):
        await store.read(hang, bound_seconds=0.05)
    assert time.monotonic() - started < BOUND_SECONDS


async def test_a_failing_statement_is_a_store_error_without_values(store: Store) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.execute(text("SELECT * FROM nowhere WHERE x = :x"), {"x": "s3cret"})

    with pytest.raises(StoreError) as caught:
        await store.read(work)
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}"


async def test_an_exception_of_the_work_rolls_back_and_passes_through(store: Store) -> None:
    async def work(tx: AsyncConnection) -> None:
        await add_user(tx)
        raise UsageError("no")

    with pytest.raises(UsageError):
        await store.write(work)
    assert await store.read(count_users) == 0


async def test_a_database_locked_by_another_process_is_a_store_error_in_time(hasty: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(database(tmp_path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StoreError):
        await hasty.write(add_user)
    assert time.monotonic() - started < BOUND_SECONDS + SLACK_SECONDS
    assert await hasty.read(count_users) == 0
    other.close()
    await hasty.write(add_user)
    assert await hasty.read(count_users) == 1


async def test_a_cancelled_call_leaves_no_lock(store: Store) -> None:
    entered = asyncio.Event()

    async def work(tx: AsyncConnection) -> None:
        await add_user(tx)
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.write(work))
    await asyncio.wait_for(entered.wait(), 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(add_user)
    assert await store.read(count_users) == 1


async def test_a_connection_that_nobody_waits_for_is_closed(opened: list[Noted], store: Store) -> None:
    before = len(opened)
    calls = [asyncio.create_task(store.read(count_users)) for _ in range(POOL_SIZE)]
    while len(opened) == before:  # noqa: ASYNC110 - until the first is just being opened, on a thread that tells nobody
        await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await store.aclose()
    assert [each.is_closed for each in opened] == [True] * len(opened)


async def test_too_many_calls_are_refused_at_once(store: Store) -> None:
    release = asyncio.Event()

    async def work(tx: AsyncConnection) -> None:
        await release.wait()

    calls = [asyncio.create_task(store.read(work)) for _ in range(MAX_CALLS)]
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="too many"):
        await store.read(count_users)
    release.set()
    await asyncio.gather(*calls)
    assert await store.read(count_users) == 0


async def test_the_files_are_private(store: Store, tmp_path: Path) -> None:
    await store.write(add_user)
    files = list(database(tmp_path).parent.glob("authd.sqlite3*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(database(tmp_path).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "driver"),
    [("sqlite:////var/lib/x.db", "sqlite+aiosqlite"), ("postgresql://u@h/d", "postgresql+asyncpg")],
)
def test_the_driver_is_chosen_by_us(url: str, driver: str) -> None:
    assert database_url(Settings(authd={"database_url": url})).drivername == driver


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:s3cret@h/d"])
def test_another_database_is_refused_without_showing_the_url(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url") as caught:
        database_url(Settings(authd={"database_url": url}))
    assert "s3cret" not in str(caught.value)
