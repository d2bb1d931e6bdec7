"""10,000 handshakes whose clients leave at any moment, while the auth service is sick now and then: nothing is left of them."""

from __future__ import annotations

import asyncio
import base64
import gc
import random
import resource
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.door_server import BEARER, RunningDoor, running_door
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

from doorward.asgi.session import AdmittedConnection
from doorward.asgi.upgrade import Accepted
from doorward.asgi.uvicorn_protocol import DoorwardHttpProtocol
from doorward.asgi.uvicorn_websocket import DoorwardWebSocketProtocol
from doorward.runtime.telemetry import Trace
from doorward.runtime.verifier import Judgement
from doorward.testing import Fault, eventually, opaque_token, open_files

HANDSHAKES = 10_000
AT_ONCE = 120
"""Clients at the same time. Each costs a few files: client, server, and for a moment one towards the auth service."""

ALLOWED_EXTRA = 12
"""Tasks and files of the kit's own, for the two or three connections that probes and the feed hold at any moment."""

ALLOWED_GROWTH_BYTES = 8 * 1024 * 1024
CLIENT_SECONDS = 10.0
DEPARTURES = (
    "half a request",
    "after the request",
    "after the request, RST",
    "after a while, RST",
    "after the answer",
    "after the answer, RST",
    "after a message",
    "properly",
)
FAULTS = (
    Fault.RESET,
    Fault.SILENCE,
    Fault.status(500),
    Fault.latency(0.05, jitter_seconds=0.1),
    Fault.REFUSE,
    Fault.DRIP,
)
CLOSE_FRAME = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
TEXT_FRAME = b"\x81\x82\x00\x00\x00\x00hi"


def upgrade(port: int, token: str | None, *, browser: bool) -> bytes:
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    if browser:
        offered = ["doorward.v1"]
        if token is not None:
            offered.append(BEARER + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode())
        lines += [f"Origin: http://127.0.0.1:{port}", f"Sec-WebSocket-Protocol: {', '.join(offered)}"]
    elif token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


class Crowd:
    """Raw clients. What each does is drawn with a seed."""

    def __init__(self, running: RunningDoor, *, seed: int) -> None:
        self.running = running
        self.departures: Counter[str] = Counter()
        self.answers: Counter[bytes] = Counter()
        self.random = random.Random(seed)
        good = [running.auth.issue(f"user-{number}") for number in range(200)]
        forged = [running.auth.mint.forged(f"user-{number}") for number in range(5)]
        self._tokens: Sequence[str | None] = [*good, *forged, running.auth.mint.expired(), None]

    async def come(self, count: int) -> None:
        left = deque(range(count))

        async def one_after_the_other() -> None:
            while left:
                left.pop()
                async with asyncio.timeout(CLIENT_SECONDS):
                    await self._visit()

        async with asyncio.TaskGroup() as clients:
            for _ in range(AT_ONCE):
                clients.create_task(one_after_the_other())

    async def _visit(self) -> None:
        departure = self.random.choice(DEPARTURES)
        self.departures[departure] += 1
        token = opaque_token() if self.random.random() < 0.1 else self.random.choice(self._tokens)
        request = upgrade(self.running.port, token, browser=self.random.random() < 0.5)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(departure, request, reader, writer)
        if departure.endswith("RST"):
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _talk(
        self, departure: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if departure == "half a request":
            writer.write(request[: self.random.randrange(1, len(request) - 1)])
            await writer.drain()
            return
        writer.write(request)
        await writer.drain()
        if departure.startswith("after a while"):
            await asyncio.sleep(self.random.random() * 0.05)
        elif not departure.startswith("after the request"):
            head = await reader.readuntil(b"\r\n\r\n")
            self.answers[head.split(b" ", 2)[1]] += 1
            if departure == "after a message":
                writer.write(TEXT_FRAME)
                await reader.read(1)
            elif departure == "properly":
                writer.write(CLOSE_FRAME)
                await reader.read()


async def make_trouble(running: RunningDoor, dice: random.Random) -> None:
    """Well for a moment, sick for a moment, and never as slow as the moment before."""
    while True:
        running.auth.latency_seconds = dice.random() * 0.02
        running.proxy.fault = Fault.NONE
        running.records.clear()  # the test's own, without a bound
        await asyncio.sleep(0.3 + dice.random() * 0.4)
        running.proxy.fault = dice.choice(FAULTS)
        await asyncio.sleep(0.2 + dice.random() * 0.4)


def is_quiet(running: RunningDoor) -> bool:
    door, issuer = running.door, running.issuer
    registry = issuer.registry
    return (
        len(registry) == 0
        and not registry._named
        and door.authenticator.pending == 0
        and len(issuer.verifier._flights) == 0
        and issuer.gate.bulkhead.total == 0
        and issuer.gate.bulkhead.abandoned == 0
        and len(door.reaper) == 0
        and door.denier.lingering == 0
    )


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def alive(*kinds: type) -> int:
    gc.collect()
    return present(*kinds)


def present(*kinds: type) -> int:
    """How many the door and its server have; the test's own client has a `Protocol` too."""
    return sum(issubclass(type(thing), kinds) and type(thing) is not ClientProtocol for thing in gc.get_objects())


@pytest.mark.slow
async def test_ten_thousand_clients_that_leave_as_they_like(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "deadline_seconds": 0.5,
        "patience_seconds": 0.1,
        "degrade": {"mode": "local_jwt"},
        "limits": {"address_rate_per_second": 1e6, "address_burst": 10**6},
    }
    async with running_door(tmp_path, **options) as running:
        await running.settled()
        running.auth.requests = deque(maxlen=10)  # what the fake remembers is no leak of ours
        crowd = Crowd(running, seed=20)
        await crowd.come(500)
        await calm(running)
        tasks, files = len(asyncio.all_tasks()), open_files()
        kept = (AdmittedConnection, Judgement, Trace)
        assert alive(*kept) == 0
        began = time.monotonic()
        trouble = asyncio.create_task(make_trouble(running, random.Random(21)))
        try:
            await crowd.come(HANDSHAKES // 2)
            half_way, objects = resident_bytes(), alive(object)
            await crowd.come(HANDSHAKES // 2)
        finally:
            trouble.cancel()
        took = time.monotonic() - began
        await calm(running)
        await gone(lambda: len(asyncio.all_tasks()) <= tasks + ALLOWED_EXTRA, what="the tasks have ended")
        await gone(lambda: open_files() <= files + ALLOWED_EXTRA, what="the files are closed")
        await gone(lambda: alive(*kept) == 0, what="nothing is kept of a connection")
        grown, more = resident_bytes() - half_way, alive(object) - objects
        print(
            f"\n{HANDSHAKES} handshakes in {took:.1f} s: {dict(crowd.departures)}\nanswers {dict(crowd.answers)}, "
            f"over the second half {grown / 1e6:+.1f} MB and {more:+} objects"
        )
        assert grown <= ALLOWED_GROWTH_BYTES
        assert more <= HANDSHAKES // 2, "an object a handshake stays"
        assert min(crowd.departures.values()) > HANDSHAKES / 20
        assert {b"101", b"401", b"503"} <= set(crowd.answers), "without a fault that was felt this shows little"
        assert (await running.ask(running.auth.issue("afterwards"))).status == 101
        assert running.issuer.gate.breaker.state == "closed"


async def test_a_closed_connection_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    """Its objects go when the last of them is let go of: a collection that has to find them holds up all the others."""
    kinds = (DoorwardHttpProtocol, DoorwardWebSocketProtocol, Protocol, AdmittedConnection, Judgement, Trace)

    async with running_door(tmp_path) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await running.ask(token)).status == 101
        gc.collect()
        gc.disable()
        try:
            for answer in [await running.ask(token), await running.ask(None), await running.ask(token)]:
                assert answer.status in {101, 401}
            async with running.connect(token):
                assert present(*kinds) > 0
            await gone(lambda: present(*kinds) == 0, what="nothing is left of a connection")
        finally:
            gc.enable()


@pytest.mark.parametrize("connection", [b"Upgrade", b"te, upgrade"], ids=["plain", "for websockets to judge"])
async def test_an_open_connection_keeps_nothing_of_its_handshake_beside_the_scope(
    tmp_path: Path, connection: bytes
) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        request = upgrade(running.port, running.auth.issue("ada"), browser=False)
        gc.collect()
        before = handshakes()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request.replace(b"Connection: Upgrade", b"Connection: " + connection))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert running.door.connection_count == 1
        assert handshakes() == before
        writer.close()


def handshakes() -> int:
    return present(Headers, ServerProtocol, DoorwardHttpProtocol, Accepted)


async def calm(running: RunningDoor) -> None:
    """The auth service is well, everybody has left, and no connection to it is kept for later.

    What was still asked when the clients had left is answered first: it leaves connections behind, for the next question.
    """
    running.auth.latency_seconds = 0.0
    running.proxy.fault = Fault.RESET
    running.proxy.fault = Fault.NONE
    await running.healed(within_seconds=10.0)
    await gone(lambda: is_quiet(running), what="everything was given back")
    running.proxy.fault = Fault.RESET
    running.proxy.fault = Fault.NONE


async def gone(condition: Callable[[], bool], *, what: str) -> None:
    """
    Raises:
        AssertionError: it did not come true; with the tasks that there are.
    """
    try:
        await eventually(condition, within_seconds=10.0, what=what)
    except AssertionError as error:
        tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
        raise AssertionError(f"{error}; tasks: {dict(tasks)}") from None
