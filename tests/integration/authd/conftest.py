"""A running auth service for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.authd_support import Authd, Serve, serve_in
from tests.postgres import postgres

__all__ = ["postgres"]


@pytest.fixture
def database_url() -> str | None:
    """Where accounts are; authd's own SQLite file, unless a module tries all databases."""
    return None


@pytest.fixture
def serve(tmp_path: Path, database_url: str | None) -> Serve:
    return serve_in(tmp_path / "state", database_url=database_url)


@pytest.fixture
async def authd(serve: Serve) -> AsyncIterator[Authd]:
    async with serve() as running:
        yield running
