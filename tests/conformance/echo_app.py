"""An app that echoes, `python echo_app.py PORT HOW MAX_MESSAGE_BYTES`.

`HOW` is `serve` (the server of `doorward serve`, with the door), `guarded` (uvicorn, with the door) or `bare` (uvicorn alone).
The settings come from the environment.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import uvicorn

from doorward import Doorward, Settings
from doorward.asgi.opening import OpeningPolicy
from doorward.asgi.types import Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import DrainHooks, DrainPolicy, run_server


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise NotImplementedError("WebSockets only")
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        content = {"text": event["text"]} if event.get("text") is not None else {"bytes": event["bytes"]}
        await send({"type": "websocket.send", **content})


def on_uvicorn(app: object, port: int, max_message_bytes: int) -> int:
    uvicorn.run(
        app,  # type: ignore[arg-type]
        port=port,
        ws="websockets-sansio",
        ws_max_size=max_message_bytes,
        log_level="error",
        access_log=False,
        lifespan="auto",
    )
    return 0


def on_ours(app: Doorward, port: int, max_message_bytes: int) -> int:
    """With its bound of a message raised: the drain and everything else as shipped."""
    opening = replace(OpeningPolicy.of(app.settings), max_message_bytes=max_message_bytes)
    drain = DrainPolicy(delay_seconds=0.0, spread_seconds=0.5, run_until_seconds=8.0, exit_seconds=10.0)
    hooks = DrainHooks(unready=app.door.turn_away, drain=app.door.drain)

    async def serve() -> int:
        return await run_server(
            app, name="serve", host="127.0.0.1", port=port, opening=opening, drain=drain, hooks=hooks
        )

    return run_process(serve)


def main() -> int:
    port, how, max_message_bytes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if how == "bare":
        return on_uvicorn(echo, port, max_message_bytes)
    app = Doorward(echo, Settings.load())
    return (on_ours if how == "serve" else on_uvicorn)(app, port, max_message_bytes)


if __name__ == "__main__":
    sys.exit(main())
