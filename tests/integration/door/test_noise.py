"""A refusal is an everyday thing: it leaves one decision line and no error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.door_server import running_door


async def test_a_refusal_over_http_is_no_error_of_the_app(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_door(tmp_path) as running:
            assert (await running.ask(None)).code == "AUTH_REQUIRED"
    assert [record.getMessage() for record in caplog.records] == []
