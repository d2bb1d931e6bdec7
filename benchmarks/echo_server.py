"""The server under test, as a process of its own: an accept-only echo app, bare or behind the door.

It runs on the default server (`doorward.cli.server`), on uvicorn as it comes, or on granian, with the metrics, the decision log
and the settings as shipped. Only the auth service, the data directory and `verify` are given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

from doorward import rare_collections
from doorward.adapters.logs import LogWriter, configure
from doorward.asgi.door import Door
from doorward.asgi.middleware import Doorward
from doorward.asgi.opening import OpeningPolicy
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import DrainPolicy, run_server
from doorward.config import Settings
from doorward.drill.peers import free_port

SERVERS = ("default", "uvicorn", "granian")
ARGUMENTS = "BENCH_ARGUMENTS"
"""Granian makes the app anew in a process of its own; this variable tells it how."""

_while_it_serves = contextlib.ExitStack()

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
    options = _options(sys.argv[1:])
    if options.server == "granian":
        return _on_granian()
    app, writer = _app(options)
    if options.server == "uvicorn":
        return _on_uvicorn(app)

    async def serve() -> int:
        return await run_server(app, name="serve", host="127.0.0.1", port=0, opening=OpeningPolicy(), drain=AT_ONCE)

    return run_process(serve, last=writer.aclose)


def app_of_environment() -> App:
    """What granian serves. It says nothing that a program could wait for: a thread of the worker tells when it listens.

    Not one of the process that forks the worker: what it locks meanwhile, an import say, would stay locked there.
    """
    options = _options(json.loads(os.environ[ARGUMENTS]))
    threading.Thread(target=_tell_when_ready, args=(options.port,), daemon=True).start()
    _while_it_serves.enter_context(rare_collections())
    return _app(options)[0]


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--auth-url", help="put the door before the app, and ask this auth service")
    parser.add_argument("--issuer", default="https://issuer.example")
    parser.add_argument("--verify", choices=("remote", "local"), default="remote")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--server", choices=SERVERS, default="default")
    parser.add_argument("--port", type=int, help="of granian, which cannot choose one and tell")
    return parser.parse_args(arguments)


def _app(options: argparse.Namespace) -> tuple[App, LogWriter]:
    if options.auth_url is None:
        return echo, configure(level="info", style="auto")
    auth = {"url": options.auth_url, "issuer": options.issuer, "service_secret": "unused"}
    settings = Settings(auth=auth, verify=options.verify, data_dir=options.data_dir)
    return behind_the_door(settings), configure(level=settings.log_level, style=settings.log_format)


def _on_uvicorn(app: App) -> int:
    """Its fastest protocols, without what the default server goes without: compression, an access log, headers of its own."""
    from uvicorn import Config, Server

    class Told(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"ready {self.servers[0].sockets[0].getsockname()[1]}", flush=True)

    config = Config(
        app,
        port=0,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        backlog=4096,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    Told(config).run()
    return 0


def _on_granian() -> int:
    from granian import Granian
    from granian.constants import Interfaces

    port = free_port()
    os.environ[ARGUMENTS] = json.dumps([*sys.argv[1:], "--port", str(port)])
    target = f"{__spec__.name}:{app_of_environment.__name__}"
    Granian(target, factory=True, port=port, interface=Interfaces.ASGI, websockets=True, log_enabled=False).serve()
    return 0


def _tell_when_ready(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            print(f"ready {port}", flush=True)
            return


if __name__ == "__main__":
    sys.exit(main())
