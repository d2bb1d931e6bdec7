"""A server that gives every event of one source to all who listen, in one of several ways, each on the default server.

`python -m benchmarks.fanout_server bare|socketio|channels|chat|chat-log`. Nobody is asked who they are: the fan-out is measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.echo_server import AT_ONCE
from doorward.adapters.logs import configure
from doorward.asgi.opening import OpeningPolicy
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.process import run_process
from doorward.cli.server import run_server
from doorward.core.verdict import Assurance, Principal

EVENT = {"type": "CUSTOM", "name": "tick", "value": "x" * 40}
ENOUGH = 1_000_000
ADA = Principal("ada", "https://issuer.example")


def bare() -> App:
    """A set of `send`s."""
    listeners: set[Send] = set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        _only_sockets(scope)
        await receive()
        await send({"type": "websocket.accept"})
        listeners.add(send)
        while (message := await receive())["type"] == "websocket.receive":
            for _ in range(int(message["text"])):
                text = json.dumps(EVENT)
                for tell in list(listeners):
                    await tell({"type": "websocket.send", "text": text})
        listeners.discard(send)

    return app


def socketio() -> App:
    """python-socketio's asynchronous server."""
    from socketio import ASGIApp, AsyncServer

    server = AsyncServer(async_mode="asgi")

    async def go(_: str, count: int) -> None:
        for _number in range(count):
            await server.emit("event", EVENT)

    server.on("go", go)
    app: App = ASGIApp(server)
    return app


def channels() -> App:
    """Django Channels with its layer in memory, which is given room for all events: past its capacity it drops them."""
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.layers import channel_layers
    from django.conf import settings

    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": ENOUGH}}
    settings.configure(CHANNEL_LAYERS={"default": layer})

    class Listener(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.channel_layer.group_add("all", self.channel_name)
            await self.accept()

        async def disconnect(self, _: int) -> None:
            await self.channel_layer.group_discard("all", self.channel_name)

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            for _ in range(int(text_data or bytes_data or 0)):
                await self.channel_layer.group_send("all", {"type": "tick", "event": EVENT})

        async def tick(self, message: dict[str, Any]) -> None:
            await self.send(json.dumps(message["event"]))

    assert channel_layers["default"] is not None
    consumer = Listener.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        _only_sockets(scope)
        await consumer(scope, receive, send)

    return app


def chat(file: Path | None = None) -> App:
    """Our chat, with its log in this file or in memory: one thread, and an agent that says so many events."""
    from ag_ui.core import BaseEvent, CustomEvent

    from doorward.chat.agents.port import RunRequest
    from doorward.chat.service import Chat
    from doorward.chat.socket import ChatEndpoint

    class Source:
        async def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
            for _ in range(int(request.message)):
                yield CustomEvent(name="tick", value=EVENT["value"])

    service = Chat(Source(), file=file)
    endpoint = ChatEndpoint(service, close_codes="iana")
    opened = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal opened
        _only_sockets(scope)
        if not opened:
            opened = True
            await service.open()
        scope["doorward"] = ANYBODY
        await endpoint(scope, receive, send)

    return app


def chat_log() -> App:
    return chat(Path(tempfile.mkdtemp(prefix="doorward-bench-")) / "chat.sqlite3")


@dataclass(frozen=True, slots=True)
class Anybody:
    """Whom a door would have let in."""

    permissions: frozenset[str] = frozenset()
    assurance: Assurance = Assurance.LIVE
    degraded: bool = False
    decision_id: str = "bench"
    expires_at: float | None = None
    principal: Principal = ADA


ANYBODY = Anybody()


def _only_sockets(scope: Scope) -> None:
    if scope["type"] != "websocket":
        raise RuntimeError("this app has neither a lifespan nor HTTP")


KINDS: dict[str, Callable[[], App]] = {
    "bare": bare,
    "socketio": socketio,
    "channels": channels,
    "chat": chat,
    "chat-log": chat_log,
}


def main() -> int:
    app = KINDS[sys.argv[1]]()
    writer = configure(level="warning", style="json")
    opening = OpeningPolicy()

    async def serve() -> int:
        return await run_server(app, name="serve", host="127.0.0.1", port=0, opening=opening, drain=AT_ONCE)

    return run_process(serve, last=writer.aclose)


if __name__ == "__main__":
    sys.exit(main())
