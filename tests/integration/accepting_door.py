"""A door as a process of its own, with an app that accepts: `accepting_door.py '{"auth": {...}, "data_dir": ..., ...}'`."""

from __future__ import annotations

import json
import sys

from doorward import Doorward, Settings
from doorward.adapters.logs import configure
from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.types import Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import run_server


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise RuntimeError("this app has neither a lifespan nor HTTP")
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        pass


async def main() -> int:
    settings = Settings(**json.loads(sys.argv[1]))
    return await run_server(
        Doorward(accept, settings),
        name="serve",
        host="127.0.0.1",
        port=0,
        opening=OpeningPolicy.of(settings),
        counters=OpeningCounters(),
    )


if __name__ == "__main__":
    configure(level="critical", style="json")
    sys.exit(run_process(main))
