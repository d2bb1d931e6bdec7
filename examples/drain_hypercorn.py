"""Drain under hypercorn: that is what it waits for before it stops.

By itself it closes every socket with 1011; from Python 3.12 on it waits for them all to leave, without a bound.
"""

from __future__ import annotations

import asyncio
import signal

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette_app import app

from doorward import rare_collections


async def main(port: int = 8000) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)

    async def drained() -> None:
        await asked.wait()
        await app.drain(spread_seconds=10.0)

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.websocket_ping_interval = 20.0
    with rare_collections():
        await serve(app, config, shutdown_trigger=drained)


if __name__ == "__main__":
    asyncio.run(main())
