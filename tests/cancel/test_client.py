"""The Python client, cancelled at each await: no task, no socket, no lost token, and the next call works."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from tests.cancel.driver import Moment, at_every_suspension, struck_at
from tests.integration.client.test_session import NOW, Auth, kept, serving
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from doorward.client import Client, FixedToken, MemoryStore, Session, Timing, Tokens
from doorward.client.http import Network
from doorward.client.line import WebSocketDial
from doorward.core.deadline import Deadline
from doorward.testing import eventually, no_leaks

TOKENS = Tokens("a1", "r1", NOW + 600.0)
TIMING = Timing(close_seconds=0.5)


class Chat:
    """A server that lets everybody in, confirms everything, and answers each question in two events."""

    def __init__(self) -> None:
        self.url = ""
        self.open: set[ServerConnection] = set()
        self.seq = 0

    async def handle(self, connection: ServerConnection) -> None:
        self.open.add(connection)
        try:
            await connection.send(json.dumps({"notice": "auth.assurance", "assurance": "live", "degraded": False}))
            async for text in connection:
                await self.reply(connection, json.loads(text))
        finally:
            self.open.discard(connection)

    async def reply(self, connection: ServerConnection, command: dict[str, Any]) -> None:
        await connection.send(json.dumps({"reply_to": command["id"], "ok": True, "resumed": True}))
        if command["type"] == "run.start":
            for kind in ("RUN_STARTED", "RUN_FINISHED"):
                self.seq += 1
                place = {"thread_id": "t", "epoch": "e", "seq_from": self.seq, "seq": self.seq}
                event = {"v": 1, **place, "run_id": command["run_id"], "event": {"type": kind}}
                await connection.send(json.dumps(event))


@asynccontextmanager
async def chatting() -> AsyncIterator[Chat]:
    chat = Chat()
    protocols = [Subprotocol("doorward.v1")]
    async with serve(chat.handle, "127.0.0.1", 0, subprotocols=protocols, compression=None, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        chat.url = f"http://127.0.0.1:{port}"
        yield chat


async def nothing_open(chat: Chat) -> None:
    await eventually(lambda: not chat.open, what="the server has seen every connection end")


def soon() -> Deadline:
    return Deadline.after(asyncio.get_running_loop().time(), 5.0)


async def test_opening_a_connection() -> None:
    async with chatting() as chat:

        async def world(at: int, moment: Moment) -> bool:
            async with no_leaks():
                network = Network(chat.url)
                dial = WebSocketDial(network, carrier="header", close_seconds=0.5)

                async def open_and_close() -> None:
                    line = await dial("t1", deadline=soon())
                    try:
                        await line.receive()
                    finally:
                        await line.aclose()

                struck = await struck_at(at, moment, open_and_close())
                await nothing_open(chat)
                await network.aclose()
            return struck

        await at_every_suspension(world, at_least=4)


async def test_the_life_of_a_client() -> None:
    """In, a question, out: cancelled anywhere in between, the client closes what it has opened."""
    async with chatting() as chat:

        async def world(at: int, moment: Moment) -> bool:
            async with no_leaks():

                async def live() -> None:
                    async with Client(chat.url, FixedToken("t1"), timing=TIMING) as client:
                        await client.ready()
                        async with aclosing(client.ask("t", "hello")) as envelopes:
                            assert [envelope.kind async for envelope in envelopes] == ["RUN_STARTED", "RUN_FINISHED"]

                struck = await struck_at(at, moment, live())
                await nothing_open(chat)
            return struck

        await at_every_suspension(world, at_least=5)


async def test_a_question_on_a_client_that_lives_on() -> None:
    async with chatting() as chat, Client(chat.url, FixedToken("t1"), timing=TIMING) as client:
        await client.ready()

        async def asked() -> list[str]:
            async with aclosing(client.ask("t", "hello")) as envelopes:
                return [envelope.kind async for envelope in envelopes]

        async def world(at: int, moment: Moment) -> bool:
            tasks = asyncio.all_tasks()
            struck = await struck_at(at, moment, asked())
            await eventually(lambda: asyncio.all_tasks() <= tasks)
            assert await asked() == ["RUN_STARTED", "RUN_FINISHED"]
            assert len(client._commands) <= 1, "only an unsubscribe may wait for its reply"
            assert client._following._threads == {}
            return struck

        await at_every_suspension(world, at_least=1)
        assert len(chat.open) == 1


async def test_signing_in() -> None:
    async with serving() as auth:
        auth.grants(1, path="/auth/login")

        async def world(at: int, moment: Moment) -> bool:
            async with no_leaks(), Session(auth.url, wall=lambda: NOW) as session:
                struck = await struck_at(at, moment, session.sign_in(email="ada@example.com", password="right"))
                assert await session.sign_in(email="ada@example.com", password="right")
            return struck

        await at_every_suspension(world, at_least=2)


async def test_a_refresh_is_nobodys_so_its_answer_is_never_lost() -> None:
    """The refresh token is used up by the first call, whoever has left by then: what it gave must be kept."""

    class Rotating(Auth):
        async def handle(self, request: Any) -> Any:
            used = (await request.json())["refresh_token"]
            assert used == f"r{self.current}", "a refresh token was used twice: the session would be revoked"
            self.current += 1
            self.answers.clear()
            self.grants(self.current)
            return await super().handle(request)

        current = 1

    async with serving(Rotating) as auth:

        async def world(at: int, moment: Moment) -> bool:
            assert isinstance(auth, Rotating)
            auth.current = 1
            store: MemoryStore = await kept(TOKENS)
            async with no_leaks():
                async with Session(auth.url, store=store, wall=lambda: NOW) as session:
                    struck = await struck_at(at, moment, session.token(stale="a1"))
                tokens = await store.load()
                assert tokens is not None
                assert tokens.refresh_token == f"r{auth.current}"
            return struck

        await at_every_suspension(world, at_least=1)
