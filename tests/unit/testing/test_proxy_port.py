"""A proxy on a known port: taken at once again after it was closed, and never shared with somebody who listens."""

from __future__ import annotations

import asyncio
import socket

import pytest

from doorward.cli.server import bind
from doorward.errors import ConfigError
from doorward.testing import Fault, FaultProxy


@pytest.fixture
async def upstream() -> asyncio.Server:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    return await asyncio.start_server(echo, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def exchange(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_known_port_can_be_taken_again_at_once(upstream: asyncio.Server) -> None:
    port = free_port()
    for _ in range(3):
        bind("127.0.0.1", port, "authd").close()
        async with FaultProxy("127.0.0.1", port_of(upstream), port=port) as proxy:
            assert proxy.port == port
            assert await exchange(port) == b"x"
            with pytest.raises(ConfigError, match="already in use"):
                bind("127.0.0.1", port, "authd")
    upstream.close()
    await upstream.wait_closed()


async def test_it_leads_to_a_server_that_came_back_elsewhere(upstream: asyncio.Server) -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy:
        with pytest.raises(ConnectionError):
            await exchange(proxy.port)
        proxy.lead_to(port_of(upstream))
        assert await exchange(proxy.port) == b"x"
        proxy.fault = Fault.REFUSE
        with pytest.raises(ConnectionRefusedError):
            await exchange(proxy.port)
    upstream.close()
    await upstream.wait_closed()
