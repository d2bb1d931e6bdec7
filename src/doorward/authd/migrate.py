"""Bring the database to this version's schema, at start."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from doorward.adapters.schema_version import bring_up_to_date
from doorward.adapters.worker import Worker
from doorward.authd.store import make_engine, prepare_file
from doorward.errors import ConfigError, StoreError

MIGRATION_SECONDS = 60.0
LOCK_SECONDS = 20.0
"""How long a process waits for another one that migrates the same database."""
RETRY_SECONDS = 0.05

_SCRIPTS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x646F6F72  # "door": any constant that all versions share


async def migrate(url: URL, worker: Worker, *, setting: str) -> None:
    """Run what is missing, in one transaction, on the worker's thread.

    Args:
        setting: by which the database was chosen, for whoever has to choose another.

    Raises:
        ConfigError: the database cannot be opened, or is of a newer version.
        StoreError: it did not get done in `MIGRATION_SECONDS`.

    Cancellation: the thread goes on to the end of its transaction.
    """
    try:
        await worker.run(lambda: asyncio.run(_migrate(url)), bound_seconds=MIGRATION_SECONDS)
    except TimeoutError as error:
        raise StoreError(f"the database was not migrated in {MIGRATION_SECONDS:g} s") from error
    except (SQLAlchemyError, OSError) as error:
        where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
        reason = getattr(error, "orig", None) or error
        raise ConfigError(f"{setting}: {where} cannot be used: {reason}") from error


async def _migrate(url: URL) -> None:
    prepare_file(url)
    engine = make_engine(url, bound_seconds=LOCK_SECONDS)
    ends_at = asyncio.get_running_loop().time() + LOCK_SECONDS
    try:
        while not await _upgraded(engine, last_try=asyncio.get_running_loop().time() >= ends_at):  # noqa: ASYNC110 - another process tells nobody
            await asyncio.sleep(RETRY_SECONDS)
    finally:
        await engine.dispose()


async def _upgraded(engine: AsyncEngine, *, last_try: bool) -> bool:
    """False if another process holds the database: SQLite does not wait for its lock while it switches to WAL."""
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)
    except OperationalError as error:
        if last_try or "locked" not in str(error.orig):
            raise
        return False
    return True


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    bring_up_to_date(connection, _SCRIPTS, name="authd.database_url: the database")
