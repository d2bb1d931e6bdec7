"""Fixtures for your own end-to-end tests; see docs/how-to/test-your-app.md.

    # conftest.py
    pytest_plugins = ["doorward.testing.pytest_plugin"]

    @pytest.fixture
    def door_app():
        return app          # yours, with or without its door

It is not loaded by itself: a project that has Doorward installed need not pay for it in every test run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from doorward.testing.guarded_app import GuardedApp


@pytest.fixture
def door_app() -> Any:
    """The ASGI app to test. Override it."""
    raise pytest.UsageError("override the fixture door_app: return your ASGI app, e.g. in conftest.py")


@pytest.fixture
def door_settings() -> Mapping[str, Any]:
    """Settings of the door, as for `Settings(...)`. Override it where the defaults do not do."""
    return {}


@pytest.fixture
def door(door_app: Any, door_settings: Mapping[str, Any]) -> Iterator[GuardedApp]:
    """Your app behind a door, with an auth service that knows whom you say, and breaks when you say."""
    with GuardedApp(door_app, door_settings) as guarded:
        yield guarded
