"""Bring a database to this version's schema, at start.

Alembic is loaded only where it has something to change, so that no other start waits for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, select

from doorward.errors import ConfigError

_VERSIONS: Final = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""As alembic makes it."""


def bring_up_to_date(connection: Connection, scripts: Path, *, name: str, schema: MetaData | None = None) -> None:
    """Run the migrations that are missing, in the caller's transaction.

    Args:
        scripts: alembic's folder; below it `versions/v0001_what_it_does.py`, and so on.
        name: of the database, for the error.
        schema: what all migrations together make of an empty database, where that is all they do: it is made at once.

    Raises:
        ConfigError: another version of Doorward made it.
        SQLAlchemyError: the database says no.
    """
    tables = inspect(connection).get_table_names()
    newest = newest_version(scripts)
    if _VERSIONS.name in tables and connection.scalar(select(_VERSIONS.c.version_num)) == newest:
        return
    if schema is not None and not tables:
        schema.create_all(connection)
        _VERSIONS.create(connection)
        connection.execute(insert(_VERSIONS).values(version_num=newest))
        return
    _upgrade(connection, scripts, name)


def newest_version(scripts: Path) -> str:
    """By the names of the files."""
    return max(script.name[1:5] for script in (scripts / "versions").glob("v[0-9]*.py"))


def _upgrade(connection: Connection, scripts: Path, name: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(f"{name} was made by another version of Doorward: {error}") from error
