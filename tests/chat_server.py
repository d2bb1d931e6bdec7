"""The chat application on a real uvicorn, behind a stand-in for the door, and a small client."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.chat_support import Person
from websockets.asyncio.client import ClientConnection, connect

from doorward.testing.waiting import eventually


class StandInDoor:
    """Lets everybody in as the person that the query string names, `?alice` or `?alice,admin`; over HTTP, the bearer token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and b"nobody" not in scope["query_string"]:
            user, _, permission = scope["query_string"].decode().partition(",")
            permissions = frozenset({permission} if permission else ())
            scope["doorward"] = Person(user, permissions, f"d-{user}")
        elif scope["type"] == "http" and (token := dict(scope["headers"]).get(b"authorization")):
            scope["doorward"] = Person(user := token.decode().removeprefix("Bearer "), decision_id=f"d-{user}")
        await self._app(scope, receive, send)


class ChatClient:
    """Speaks the protocol of `/ws` and keeps what arrives in between."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.inbox: list[dict[str, Any]] = []
        self.notices: list[dict[str, Any]] = []
        self._numbers = 0

    async def receive(self) -> dict[str, Any]:
        """The next message that is no notice; those are kept in `notices`."""
        async with asyncio.timeout(5):
            while "notice" in (content := await self.next()):
                self.notices.append(content)
            return content

    async def next(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        content = json.loads(await self.connection.recv())
        assert isinstance(content, dict)
        return content

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One command and its reply; envelopes that come first are kept in `inbox`."""
        self._numbers += 1
        name = f"c{self._numbers}"
        await self.connection.send(json.dumps({"id": name, "type": kind, **fields}))
        while (message := await self.receive()).get("reply_to") != name:
            self.inbox.append(message)
        return message

    async def envelope(self) -> dict[str, Any]:
        """The next envelope."""
        return self.inbox.pop(0) if self.inbox else await self.receive()

    async def run(self) -> list[dict[str, Any]]:
        """Envelopes up to and with the end of a run."""
        envelopes = [await self.envelope()]
        while envelopes[-1]["event"]["type"] not in {"RUN_FINISHED", "RUN_ERROR"}:
            envelopes.append(await self.envelope())
        return envelopes


class ChatServer:
    """Where the application listens."""

    def __init__(self, port: int, app: Starlette) -> None:
        self.port = port
        self.app = app
        self.url = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def client(self, user: str = "alice", permission: str = "", **options: Any) -> AsyncIterator[ChatClient]:
        query = f"{user},{permission}" if permission else user
        async with connect(f"ws://127.0.0.1:{self.port}/ws?{query}", proxy=None, **options) as connection:
            yield ChatClient(connection)

    @classmethod
    @asynccontextmanager
    async def serving(cls, app: Starlette) -> AsyncIterator[Self]:
        """Serve on a free port until the block ends."""
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            StandInDoor(app),
            ws="websockets-sansio",
            proxy_headers=False,
            ws_per_message_deflate=False,
            ws_max_size=1_048_576,
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await eventually(lambda: server.started)
            yield cls(listener.getsockname()[1], app)
        finally:
            server.should_exit = True
            async with asyncio.timeout(10):
                await task
            listener.close()
