"""A whole door as a process of its own: auth service, middleware, echo app, default server, and its books on /counters.

Prints a good token, then the ready line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from doorward import Doorward, Settings
from doorward.adapters.logs import configure
from doorward.asgi.door import Door
from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import run_server
from doorward.testing import FakeAuthService


def echo(counters: OpeningCounters) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan here")
        if scope["type"] == "http":
            cut = {str(why): count for why, count in counters.cut.items()}
            body = json.dumps({"incomplete": counters.incomplete, "cut": cut}).encode()
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    return app


async def main() -> int:
    counters = OpeningCounters()
    with tempfile.TemporaryDirectory() as folder:
        async with FakeAuthService() as auth:
            settings = Settings(
                auth={
                    "url": auth.url,
                    "issuer": auth.issuer,
                    "audience": (auth.audience,),
                    "service_id": auth.service_id,
                    "service_secret": auth.service_secret,
                },
                data_dir=Path(folder) / "data",
            )
            door = Door(settings, emit=lambda _: None)
            sys.stdout.write(auth.issue("honest") + "\n")
            return await run_server(
                Doorward(echo(counters), settings, door=door),
                name="serve",
                host="127.0.0.1",
                port=0,
                opening=OpeningPolicy.of(settings),
                counters=counters,
            )


if __name__ == "__main__":
    configure(level="warning", style="json")
    sys.exit(run_process(main))
