"""Calls over real sockets and writes to the real store, cancelled at each await: no task, no file, no broken pool is left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.cancel.driver import Moment, at_every_suspension, struck_at

from doorward.adapters.node_store import SqliteNodeStore
from doorward.adapters.service_credential import ServiceCredential
from doorward.adapters.transport import Caps, HttpTransport
from doorward.adapters.validate_http import HttpValidator
from doorward.core.answer import Valid
from doorward.core.deadline import Deadline
from doorward.runtime.clock import SystemClock
from doorward.runtime.ports import Address, RevocationItem, RevocationPage, StoredBar
from doorward.runtime.resolver import Resolver
from doorward.testing import Endpoint, FakeAuthService, eventually, no_leaks

CAPS = Caps(connect_seconds=2.0, read_seconds=2.0, write_seconds=2.0, pool_seconds=2.0)


class Dns:
    """Knows one name, and takes a moment."""

    async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
        await asyncio.sleep(0.005)
        return [Address("127.0.0.1", socket.AF_INET)], 60.0

    async def aclose(self) -> None: ...


@pytest.fixture
async def auth() -> AsyncIterator[FakeAuthService]:
    async with FakeAuthService() as service:
        yield service


def soon() -> Deadline:
    return Deadline.after(asyncio.get_running_loop().time(), 5.0)


@pytest.mark.parametrize("warm", [False, True], ids=["a new connection", "a kept-alive one"])
async def test_a_call_to_the_auth_service(auth: FakeAuthService, warm: bool) -> None:
    token = auth.issue()

    async def world(at: int, moment: Moment) -> bool:
        async with no_leaks():
            resolver = Resolver(Dns(), SystemClock(), tls=False)
            transport = HttpTransport(resolver, limit=1)
            validator = HttpValidator(
                transport,
                url=f"http://auth.test:{auth.port}{Endpoint.VALIDATE}",
                audiences=("doorward",),
                credential=ServiceCredential(auth.service_id, auth.service_secret),
                caps=CAPS,
            )
            if warm:
                await validator.validate(token, deadline=soon())
            struck = await struck_at(at, moment, validator.validate(token, deadline=soon()))
            # The one place in the pool is free again, or this is a PoolTimeout.
            assert isinstance(await validator.validate(token, deadline=soon()), Valid)
            await transport.aclose()
            await resolver.aclose()
        return struck

    await at_every_suspension(world, at_least=1 if warm else 2)


async def test_a_write_to_the_store(tmp_path: Path) -> None:
    """The call itself goes on, whoever leaves: in the end the store is as if nobody had."""
    store = SqliteNodeStore(tmp_path / "data", issuer="iss", keyset_url="https://auth.test/jwks", bound_seconds=5.0)
    await store.open()
    digests: list[bytes] = []

    async def write(digest: bytes) -> None:
        await store.add_bar(StoredBar(digest, 9e9, proven=True))
        page = RevocationPage("e", digest.hex(), 0.0, False, [RevocationItem(jti=digest.hex())])
        await store.apply_page(page, forget_at=9e9, last_feed=1.0)
        await store.note_contact(2.0)

    async def world(at: int, moment: Moment) -> bool:
        digest = bytes([at, moment is Moment.DONE]) + bytes(30)
        digests.append(digest)
        return await struck_at(at, moment, write(digest))

    tasks = asyncio.all_tasks()
    await at_every_suspension(world, at_least=2)
    assert asyncio.all_tasks() <= tasks
    await store.aclose()
    again = SqliteNodeStore(tmp_path / "data", issuer="iss", keyset_url="https://auth.test/jwks")
    state = await again.open()
    assert {bar.digest for bar in state.bars} == set(digests)
    assert state.last_contact == 2.0
    await again.aclose()
    await eventually(lambda: not again._worker._thread or not again._worker._thread.is_alive(), what="the thread ended")
