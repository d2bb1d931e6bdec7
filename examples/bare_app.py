from collections.abc import Awaitable, Callable
from typing import Any

from doorward import Doorward, Settings

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def chat(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    subprotocol = "doorward.v1" if "doorward.v1" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    await send({"type": "websocket.send", "text": f"hello {scope['doorward'].principal.user_id}"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


async def about(send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"about": "nobody is asked for a token here"}'})


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await chat(scope, receive, send)
    elif scope["type"] == "http":
        await about(send)
    else:
        raise NotImplementedError(scope["type"])  # no lifespan: the door opens itself at the first request


app = Doorward(application, Settings.load())
