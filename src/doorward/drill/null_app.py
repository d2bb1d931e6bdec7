"""A server that lets everybody in and asks nobody: `python -m doorward.drill.null_app`. What it takes is not the door's doing.

Prints its port, serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvicorn

BACKLOG = 4096


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Accept, say the first word, wait for the end."""
    if scope["type"] != "websocket":
        return
    await receive()
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    await send({"type": "websocket.send", "text": '{"notice":"auth.assurance","assurance":"live"}'})
    await receive()


async def _main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: setattr(server, "should_exit", True))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve([listener])


if __name__ == "__main__":
    asyncio.run(_main())
