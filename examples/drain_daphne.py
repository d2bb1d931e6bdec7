"""Drain under daphne, which by itself cuts every socket and every handshake: it stops after the drain."""

from __future__ import annotations

import asyncio
import signal

from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from starlette_app import app

from doorward import rare_collections


def run(port: int = 8000) -> None:
    async def drain() -> None:
        await app.drain(spread_seconds=10.0)
        server.stop()

    def listen() -> None:
        loop = asyncio.get_event_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(drain()))

    endpoints = build_endpoint_description_strings(host="127.0.0.1", port=port)
    server = Server(app, endpoints=endpoints, signal_handlers=False, ready_callable=listen)
    with rare_collections():
        server.run()


if __name__ == "__main__":
    run()
