"""The migrations make exactly the schema that the code uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from tests.postgres import DATABASES, empty_database

from doorward.adapters.worker import Worker
from doorward.authd.migrate import migrate
from doorward.authd.schema import metadata
from doorward.errors import ConfigError

T = TypeVar("T")


@pytest.fixture
def url(tmp_path: Path) -> URL:
    return URL.create("sqlite+aiosqlite", database=str(tmp_path / "new" / "authd.sqlite3"))


@pytest.fixture(params=DATABASES)
def each_url(request: pytest.FixtureRequest, url: URL) -> URL:
    """An empty database of each kind."""
    return make_url(configured).set(drivername="postgresql+asyncpg") if (configured := empty_database(request)) else url


def write_junk(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 500)


async def run(url: URL) -> None:
    worker = Worker("test-migrate")
    try:
        await migrate(url, worker, setting="authd.database_url")
    finally:
        worker.stop_nowait()


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def looked_at(url: URL, look: Callable[[Connection], T]) -> T:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(look)
    finally:
        await engine.dispose()


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_the_migrated_database_is_the_schema(each_url: URL) -> None:
    await run(each_url)
    await run(each_url)
    assert await looked_at(each_url, differences) == []
    assert set(metadata.tables) < await looked_at(each_url, table_names)


async def test_several_processes_may_start_at_once(each_url: URL) -> None:
    await asyncio.gather(*(run(each_url) for _ in range(4)))
    assert await looked_at(each_url, lambda found: found.scalar(text("SELECT count(*) FROM feed"))) == 1


async def test_a_database_of_a_newer_version_is_refused(each_url: URL) -> None:
    await run(each_url)
    await looked_at(each_url, lambda found: found.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(ConfigError, match="another version"):
        await run(each_url)


async def test_a_file_that_is_no_database_is_refused(url: URL) -> None:
    write_junk(Path(str(url.database)))
    with pytest.raises(ConfigError, match="not a database"):
        await run(url)


async def test_a_path_that_cannot_be_made_is_refused(url: URL) -> None:
    Path(str(url.database)).parent.write_text("a file in the way")
    with pytest.raises(ConfigError, match="cannot be used"):
        await run(url)
