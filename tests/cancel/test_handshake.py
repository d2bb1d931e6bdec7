"""A whole ASGI call, from the server's scope to the end of the app, is cancelled at each of its awaits, on a real door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cancel.driver import Moment, at_every_suspension, struck_at
from tests.door_server import RunningDoor, running_door

from doorward.asgi.types import Message, Receive, Scope, Send
from doorward.core.breaker import State
from doorward.testing import eventually, no_leaks, opaque_token


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """One message, and the end."""
    if scope["type"] != "websocket":
        raise RuntimeError("no lifespan")
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": str(await receive())})
    await send({"type": "websocket.close", "code": 1000})


class FakeServer:
    """The server's side of one ASGI call; every step of it suspends."""

    def __init__(self, token: str | None) -> None:
        self.sent: list[Message] = []
        headers = [(b"host", b"chat.test")]
        if token is not None:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        self.scope: Scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "path": "/ws",
            "scheme": "ws",
            "headers": headers,
            "subprotocols": [],
            "client": ("192.0.2.7", 4711),
            "extensions": {"websocket.http.response": {}},
        }
        self._events: list[Message] = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "hello"},
        ]

    async def receive(self) -> Message:
        await asyncio.sleep(0.001)
        return self._events.pop(0) if self._events else {"type": "websocket.disconnect", "code": 1006}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0.001)
        self.sent.append(message)


def quiet(running: RunningDoor) -> bool:
    door = running.door
    issuer = running.issuer
    bulkhead = issuer.gate.bulkhead
    return (
        bulkhead.total == 0
        and bulkhead.abandoned == 0
        and len(door.reaper) == 0
        and len(issuer.registry) == 0
        and door.authenticator.pending == 0
        and not issuer.verifier._flights
    )


KINDS: dict[str, tuple[Callable[[RunningDoor], str | None], int]] = {
    "proven": (lambda running: running.auth.issue(), 6),
    "opaque": (lambda running: running.auth.issue_opaque(), 6),
    "rejected": (lambda _: opaque_token(), 3),
    "forged": (lambda running: running.auth.mint.forged(), 2),
    "none": (lambda _: None, 2),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handshake_and_its_connection(kind: str, tmp_path: Path) -> None:
    token_for, at_least = KINDS[kind]
    async with running_door(tmp_path, app=echo, auth_settings={"revocations": "off"}) as running:
        await eventually(
            lambda: running.issuer.memory.last_contact and running.issuer.keys.keyset, what="the door is settled"
        )
        await eventually(lambda: quiet(running), what="the door is quiet")

        async def world(at: int, moment: Moment) -> bool:
            server = FakeServer(token_for(running))
            tasks = asyncio.all_tasks()
            struck = await struck_at(at, moment, call(running.app, server))
            await eventually(lambda: quiet(running), what="everything was given back")
            await eventually(lambda: asyncio.all_tasks() <= tasks, what="every task ended")
            assert running.issuer.gate.breaker.state is State.CLOSED
            assert not running.issuer.gate.in_outage
            return struck

        async with no_leaks():
            await at_every_suspension(world, at_least=at_least)
        server = FakeServer(running.auth.issue())
        await call(running.app, server)
        assert [message["type"] for message in server.sent] == [
            "websocket.accept",
            "websocket.send",
            "websocket.close",
        ]


async def call(app: Callable[[Scope, Receive, Send], Awaitable[None]], server: FakeServer) -> Any:
    await app(server.scope, server.receive, server.send)
