"""Drain under granian, which by itself cuts every socket: the server runs in our own event loop, and stops after the drain."""

from __future__ import annotations

import asyncio
import signal

from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from starlette_app import app

from doorward import rare_collections


async def serve(port: int = 8000) -> None:
    bounded = HTTP1Settings(header_read_timeout=2000)
    server = Server(app, port=port, interface=Interfaces.ASGI, http1_settings=bounded)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)

    async def drain() -> None:
        await asked.wait()
        await app.drain(spread_seconds=10.0)
        server.stop()

    with rare_collections():
        await asyncio.gather(server.serve(), drain())


if __name__ == "__main__":
    asyncio.run(serve())
