"""A real store on disk, and the service on it with a clock that obeys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from doorward.authd.service import AuthService, open_store
from doorward.authd.store import Store
from doorward.config import Settings
from doorward.testing import ManualClock

SettingsOf = Callable[..., Settings]


@pytest.fixture
def settings_of(tmp_path: Path) -> SettingsOf:
    """Settings with a data directory and a service secret; keyword arguments go to the section `authd`."""

    def make(**authd: Any) -> Settings:
        return Settings(data_dir=tmp_path / "state", auth={"service_secret": "s3cret-of-the-door"}, authd=authd)

    return make


@pytest.fixture
async def store(settings_of: SettingsOf) -> AsyncIterator[Store]:
    opened, worker = await open_store(settings_of(store_seconds=0.5))
    yield opened
    await opened.aclose()
    worker.stop_nowait()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def service(settings_of: SettingsOf, clock: ManualClock) -> AsyncIterator[AuthService]:
    settings = settings_of(login_account_burst=3, login_address_burst=5)
    opened = await AuthService.open(settings, issuer="https://auth.test", clock=clock)
    yield opened
    await opened.aclose()
