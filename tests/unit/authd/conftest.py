"""A real store on disk, and the service on it with a clock that obeys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import postgres

from doorward.authd.service import AuthService, open_store
from doorward.authd.store import Store
from doorward.config import Settings
from doorward.testing import ManualClock

__all__ = ["postgres"]

SettingsOf = Callable[..., Settings]

PATIENT_SECONDS = 20.0
HASTY_SECONDS = 0.5


@pytest.fixture
def database_url() -> str | None:
    """Where accounts are; authd's own SQLite file, unless a module tries all databases."""
    return None


@pytest.fixture
def settings_of(tmp_path: Path, database_url: str | None) -> SettingsOf:
    """Settings with a data directory and a service secret; keyword arguments go to the section `authd`."""

    def make(**authd: Any) -> Settings:
        authd.setdefault("database_url", database_url)
        return Settings(data_dir=tmp_path / "state", auth={"service_secret": "s3cret-of-the-door"}, authd=authd)

    return make


@pytest.fixture
async def store(settings_of: SettingsOf) -> AsyncIterator[Store]:
    async with opened_store(settings_of(store_seconds=PATIENT_SECONDS)) as opened:
        yield opened


@pytest.fixture
async def hasty(settings_of: SettingsOf) -> AsyncIterator[Store]:
    """The same store with a bound that a test can wait for."""
    async with opened_store(settings_of(store_seconds=HASTY_SECONDS)) as opened:
        yield opened


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[Store]:
    opened, worker = await open_store(settings)
    try:
        yield opened
    finally:
        await opened.aclose()
        worker.stop_nowait()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def service(settings_of: SettingsOf, clock: ManualClock) -> AsyncIterator[AuthService]:
    settings = settings_of(login_account_burst=3, login_address_burst=5, store_seconds=PATIENT_SECONDS)
    opened = await AuthService.open(settings, issuer="https://auth.test", clock=clock)
    yield opened
    await opened.aclose()
