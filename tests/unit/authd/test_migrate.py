"""The migrations make exactly the schema that the code uses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import URL

from doorward.adapters.worker import Worker
from doorward.authd.migrate import migrate
from doorward.authd.schema import metadata
from doorward.errors import ConfigError


@pytest.fixture
def url(tmp_path: Path) -> URL:
    return URL.create("sqlite+aiosqlite", database=str(tmp_path / "new" / "authd.sqlite3"))


def sync_url(url: URL) -> URL:
    return url.set(drivername="sqlite")


def write_junk(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 500)


async def run(url: URL) -> None:
    worker = Worker("test-migrate")
    try:
        await migrate(url, worker)
    finally:
        worker.stop_nowait()


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_the_migrated_database_is_the_schema(url: URL) -> None:
    await run(url)
    await run(url)
    engine = create_engine(sync_url(url))
    with engine.connect() as connection:
        assert differences(connection) == []
        assert set(metadata.tables) < set(inspect(connection).get_table_names())
    engine.dispose()


async def test_two_processes_may_start_at_once(url: URL) -> None:
    await asyncio.gather(*(run(url) for _ in range(4)))
    engine = create_engine(sync_url(url))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM feed")).scalar_one() == 1
    engine.dispose()


async def test_a_database_of_a_newer_version_is_refused(url: URL) -> None:
    await run(url)
    engine = create_engine(sync_url(url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigError, match="another version"):
        await run(url)


async def test_a_file_that_is_no_database_is_refused(url: URL) -> None:
    write_junk(Path(str(url.database)))
    with pytest.raises(ConfigError, match="not a database"):
        await run(url)


async def test_a_path_that_cannot_be_made_is_refused(url: URL) -> None:
    Path(str(url.database)).parent.write_text("a file in the way")
    with pytest.raises(ConfigError, match="cannot be used"):
        await run(url)
