"""The server under test, as a process of its own: an accept-only echo app, bare or behind the door.

It runs on the default server (`doorward.cli.server`), with the metrics, the decision log and the settings as shipped. Only
the auth service, the data directory and `verify` are given.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from doorward.adapters.logs import configure
from doorward.asgi.door import Door
from doorward.asgi.middleware import Doorward
from doorward.asgi.opening import OpeningPolicy
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import DrainPolicy, run_server
from doorward.config import Settings

AT_ONCE = DrainPolicy(delay_seconds=0, spread_seconds=0, run_until_seconds=0.5, exit_seconds=2)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Accepts everybody, gives back what it is told, and does nothing else."""
    if scope["type"] != "websocket":
        raise RuntimeError("this app has neither a lifespan nor HTTP")
    if (await receive())["type"] != "websocket.connect":
        return
    subprotocols = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": subprotocols[0] if subprotocols else None})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


def behind_the_door(settings: Settings) -> Doorward:
    return Doorward(echo, settings, door=Door(settings))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--auth-url", help="put the door before the app, and ask this auth service")
    parser.add_argument("--issuer", default="https://issuer.example")
    parser.add_argument("--verify", choices=("remote", "local"), default="remote")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    app: App = echo
    level, style = "info", "auto"
    if options.auth_url is not None:
        auth = {"url": options.auth_url, "issuer": options.issuer, "service_secret": "unused"}
        settings = Settings(auth=auth, verify=options.verify, data_dir=options.data_dir)
        app, level, style = behind_the_door(settings), settings.log_level, settings.log_format
    return _serve(app, level, style)


def _serve(app: App, level: str, style: Any) -> int:
    writer = configure(level=level, style=style)

    async def serve() -> int:
        return await run_server(app, name="serve", host="127.0.0.1", port=0, opening=OpeningPolicy(), drain=AT_ONCE)

    return run_process(serve, last=writer.aclose)


if __name__ == "__main__":
    sys.exit(main())
