from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, inspect, text

from doorward.chat import migrations
from doorward.chat.agents.port import TOLD, AgentFault
from doorward.chat.database import LOCK_SUFFIX, ChatDatabase
from doorward.chat.schema import metadata
from doorward.chat.store import ChatStore
from doorward.chat.views import RunFailure, RunView
from doorward.errors import ConfigError, StoreError

MIGRATIONS = Path(migrations.__file__).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "chat.sqlite3"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def put(path: Path, content: bytes, file_mode: int) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    path.chmod(file_mode)


def epochs(connection: Connection) -> int:
    return len(connection.execute(text("SELECT * FROM log_state")).all())


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO log_state VALUES (1, 'e', 'b', 0, 0, 0)"))


async def test_what_was_written_is_there_after_another_start(path: Path) -> None:
    for expected in (0, 1):
        database = ChatDatabase(path)
        await database.open()
        assert await database.read(epochs) == expected
        if not expected:
            await database.run(insert)
        await database.aclose()
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


async def test_an_exception_rolls_back(path: Path) -> None:
    database = ChatDatabase(path)
    await database.open()

    def failing(connection: Connection) -> None:
        insert(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await database.run(failing)
    assert await database.run(epochs) == 0
    await database.aclose()


async def test_a_second_owner_is_refused_and_told_the_mend(path: Path) -> None:
    first, second = ChatDatabase(path), ChatDatabase(path, lock_seconds=0.1)
    await first.open()
    with pytest.raises(ConfigError, match=r"belongs to another process .* set another chat.file"):
        await second.open()
    await first.aclose()
    await second.open()
    assert (path.parent / (path.name + LOCK_SUFFIX)).exists()
    await second.aclose()


async def test_the_reader_cannot_write(path: Path) -> None:
    database = ChatDatabase(path)
    await database.open()
    with pytest.raises(StoreError, match="readonly"):
        await database.read(insert)
    await database.aclose()


async def test_a_costly_question_is_stopped_and_holds_up_no_writer(path: Path) -> None:
    database = ChatDatabase(path, read_seconds=0.05)
    await database.open()

    def endless(connection: Connection) -> None:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        connection.execute(text(numbers)).all()

    with pytest.raises(StoreError, match="interrupted"):
        await database.read(endless)
    assert await database.read(epochs) == 0
    await database.aclose()


async def test_a_search_holds_up_nothing_but_other_searches(path: Path) -> None:
    database, found = ChatDatabase(path), threading.Event()
    await database.open()
    search = asyncio.create_task(database.search(lambda connection: found.wait(10) and epochs(connection)))
    for _ in range(3):
        assert await database.read(epochs) == 0
        await database.run(epochs)
    assert not search.done()
    found.set()
    assert await search == 0
    await database.aclose()


async def test_nothing_is_read_before_it_is_open_nor_after_it_is_closed(path: Path) -> None:
    database = ChatDatabase(path)
    for look in (database.read, database.search):
        with pytest.raises(StoreError, match="not open"):
            await look(epochs)
    await database.open()
    await database.search(epochs)
    await database.aclose()
    for look in (database.read, database.search):
        with pytest.raises(StoreError):
            await look(epochs)


async def test_a_disk_that_hangs_is_waited_for_in_bounds(path: Path) -> None:
    database = ChatDatabase(path, bound_seconds=0.1)
    await database.open()
    released = threading.Event()
    with pytest.raises(StoreError, match="no answer"):
        await database.run(lambda _: released.wait(10))
    released.set()
    await database.aclose()
    with pytest.raises(StoreError):
        await database.run(epochs)


async def test_a_file_that_cannot_be_used_stops_the_start(path: Path) -> None:
    put(path, b"this is not SQLite, and never was" * 40, 0o600)
    database = ChatDatabase(path)
    with pytest.raises(ConfigError, match=r"cannot be used: .*; restore it, or move it away"):
        await database.open()
    await database.aclose()


async def test_a_file_of_another_version_is_not_touched(path: Path) -> None:
    database = ChatDatabase(path)
    await database.open()
    await database.run(lambda found: found.execute(text("UPDATE alembic_version SET version_num = '9999'")).rowcount)
    await database.aclose()
    database = ChatDatabase(path)
    with pytest.raises(ConfigError, match="made by another version of Doorward"):
        await database.open()
    await database.aclose()


async def test_a_file_that_others_may_write_is_not_believed(path: Path) -> None:
    put(path, b"", 0o666)
    database = ChatDatabase(path)
    with pytest.raises(ConfigError):
        await database.open()
    await database.aclose()


def columns(connection: Connection) -> dict[str, set[tuple[str, str, bool]]]:
    found = inspect(connection)
    return {
        table: {(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)}
        for table in metadata.tables
    }


def first_version(path: Path) -> None:
    """A file as version 0001 made it, with a run that failed."""
    path.parent.mkdir(mode=0o700)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO threads VALUES ('t', 'alice', NULL, '', 0, 0, 0, 0, 0)"))
        connection.execute(text("INSERT INTO runs VALUES ('t', 'r', 1, 'why?', 0, 1, 'failed')"))
    engine.dispose()
    path.chmod(0o600)


async def test_a_file_of_the_first_version_becomes_one_of_this(path: Path) -> None:
    first_version(path)
    migrated, fresh = ChatDatabase(path), ChatDatabase(None)
    await migrated.open()
    await fresh.open()
    assert await migrated.read(columns) == await fresh.read(columns)
    store = ChatStore(migrated, wall=lambda: 0, recent_messages=1, recent_runs=1, threads_per_user=1)
    runs = await store.runs("t", "alice", limit=1)
    assert runs is not None
    assert RunView.of(runs[0]).error == RunFailure("agent_failed", TOLD[AgentFault.FAILED], retryable=True)
    await migrated.aclose()
    await fresh.aclose()
