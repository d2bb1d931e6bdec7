"""A running auth service for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.authd_support import Authd, Serve, serve_in


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    return serve_in(tmp_path / "state")


@pytest.fixture
async def authd(serve: Serve) -> AsyncIterator[Authd]:
    async with serve() as running:
        yield running
