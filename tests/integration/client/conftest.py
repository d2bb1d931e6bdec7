"""One auth service and one chat server, as processes, for all tests of the client and of `doorward chat`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.chat_product import Paths, Product, paths, product
from tests.integration.test_up import free_port

SETTINGS = {"session__expiring_notice_seconds": "600", "cache__positive_seconds": "0"}
"""The door reminds clients of their tokens' end all the time, so every connection renews its token every two seconds; and it
asks the auth service about each handshake."""


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with product(tmp_path_factory.mktemp("product"), auth_port=free_port(), **SETTINGS) as running:
        yield running


@pytest.fixture
async def ways(running: Product) -> AsyncIterator[Paths]:
    async with paths(running) as ways:
        yield ways
