"""Drain under uvicorn: the door closes its sockets with 1012 and advice before uvicorn closes anything."""

from __future__ import annotations

import socket

import uvicorn
from starlette_app import app

from doorward import UvicornProtocol, rare_collections


class DrainingServer(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await app.drain(spread_seconds=10.0)
        await super().shutdown(sockets)


if __name__ == "__main__":
    config = uvicorn.Config(app, port=8000, http=UvicornProtocol, timeout_graceful_shutdown=15, access_log=False)
    with rare_collections():
        DrainingServer(config).run()
