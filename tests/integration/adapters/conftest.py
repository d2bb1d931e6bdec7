"""The adapters run on asyncio's own loop in tests and on uvloop in the default server, whose transports differ: both are tested."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest
import uvloop

from doorward.adapters.transport import HttpTransport
from doorward.core.deadline import Deadline
from doorward.runtime.clock import SystemClock
from doorward.runtime.ports import Address
from doorward.runtime.resolver import Resolver
from doorward.testing import FakeAuthService


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


class NoDns:
    async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
        raise AssertionError(f"{host} is a literal address")

    async def aclose(self) -> None: ...


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthService]:
    async with FakeAuthService() as service:
        yield service


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(Resolver(NoDns(), SystemClock(), tls=False), limit=8)
    yield transport
    await transport.aclose()
