"""The app that runs on every server: a guarded socket, a guarded event stream, and what the door makes of a peer.

`/ws` greets and echoes. `/api/stream` is an event stream without an end. `/who` says as whom the door counts the peer; nobody is
asked for a token there. Settings come from the environment, as in the examples.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from doorward import Doorward, Settings
from doorward.asgi.opening import OpeningPolicy
from doorward.asgi.types import Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import DrainHooks, DrainPolicy, run_server


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": "doorward.v1" if "doorward.v1" in offered else None})
    await send({"type": "websocket.send", "text": f"hello {scope['doorward'].principal.user_id}"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text")})


async def stream(receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: hello\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, content: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError("no lifespan")
    if scope["type"] == "websocket":
        await chat(scope, receive, send)
    elif scope["path"] == "/api/stream":
        await stream(receive, send)
    else:
        door = app.door
        handshake = door.reader.read(scope)
        client, extensions = scope.get("client"), sorted(scope.get("extensions") or {})
        seen = {"address": handshake.address, "scheme": handshake.scheme, "client": client, "extensions": extensions}
        await answer(send, seen | {"opened": door.opened_at is not None})


app = Doorward(application, Settings.load())


def main() -> int:
    """On the runner of `doorward serve`, with a drain that waits for no load balancer."""
    drain = DrainPolicy(delay_seconds=0.0, spread_seconds=0.5, run_until_seconds=8.0, exit_seconds=10.0)
    hooks = DrainHooks(unready=app.door.turn_away, drain=app.door.drain)
    opening = OpeningPolicy.of(app.settings)

    async def serve() -> int:
        port = int(sys.argv[1])
        return await run_server(
            app, name="serve", host="127.0.0.1", port=port, opening=opening, drain=drain, hooks=hooks
        )

    return run_process(serve)


if __name__ == "__main__":
    sys.exit(main())
