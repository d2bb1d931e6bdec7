"""A new database made at once is the one that all migrations make, and alembic is not loaded for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from doorward.adapters.schema_version import bring_up_to_date, newest_version
from doorward.authd import migrations as of_authd
from doorward.chat import migrations as of_chat
from doorward.chat.schema import metadata

SCRIPTS = Path(of_chat.__file__).parent
TABLE_FACTS = ("table_xinfo", "foreign_key_list")
START_TWICE = """
import asyncio, sys
from pathlib import Path
from doorward.chat.database import ChatDatabase

async def main():
    for _ in range(2):
        database = ChatDatabase(Path(sys.argv[1]))
        await database.open()
        await database.aclose()

asyncio.run(main())
print([name for name in sys.modules if name.startswith("alembic")])
"""


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def facts(connection: Connection) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """All that SQLite knows of its tables and their indices."""
    ask = connection.exec_driver_sql
    tables = [name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found = {
        (table, fact): sorted(map(tuple, ask(f"PRAGMA {fact}({table})"))) for table in tables for fact in TABLE_FACTS
    }
    indices = ask("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").all()
    kinds = ask("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' ORDER BY name").all()
    return found | {("", "indices"): list(map(tuple, indices)), ("", "kinds"): list(map(tuple, kinds))}


def test_a_new_database_is_as_the_migrations_make_it(connection: Connection) -> None:
    bring_up_to_date(connection, SCRIPTS, name="new", schema=metadata)
    engine = create_engine("sqlite://")
    with engine.begin() as migrated:
        bring_up_to_date(migrated, SCRIPTS, name="migrated")
        assert facts(connection) == facts(migrated)
        assert migrated.scalar(text("SELECT version_num FROM alembic_version")) == newest_version(SCRIPTS)
    engine.dispose()


@pytest.mark.parametrize("module", [of_authd, of_chat], ids=["authd", "chat"])
def test_the_newest_version_is_alembics_head(module: object) -> None:
    scripts = Path(str(module.__file__)).parent  # type: ignore[attr-defined]
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    assert newest_version(scripts) == ScriptDirectory.from_config(config).get_current_head()


def test_a_chat_that_needs_no_migration_does_not_load_alembic(tmp_path: Path) -> None:
    path = tmp_path / "data" / "chat.sqlite3"
    done = subprocess.run(
        [sys.executable, "-c", START_TWICE, path], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
