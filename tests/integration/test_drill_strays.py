"""How a client at fault says it ended: against servers that end it in each way, and in none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from doorward.drill.clients import PROTOCOL
from doorward.drill.crowds import besiege
from doorward.drill.evidence import Stray
from doorward.drill.scenarios import CUT, Behaviour, Siege, answered, closed
from doorward.drill.strays import stray

PATIENCE_SECONDS = 0.3
GENEROUS_SECONDS = 20.0
GREETING = '{"notice":"auth.assurance","assurance":"live"}'
RAW = (Behaviour.HALF_SENT, Behaviour.SAYS_NOTHING, Behaviour.BIG_COOKIE, Behaviour.MANY_HEADERS)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """A TCP server that does this with each connection."""
    leaving = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talk(reader, writer)
        await leaving.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        leaving.set()


@asynccontextmanager
async def speaking(talk: Callable[[ServerConnection], Awaitable[None]], **options: float) -> AsyncIterator[str]:
    """A WebSocket server that does this with each connection."""
    async with serve(talk, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)], **options) as server:  # type: ignore[arg-type]
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n")
    writer.write_eof()


async def answer_and_stay(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n")


async def stay(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return


async def ended(url: str, behaviour: Behaviour, *, patience: float = GENEROUS_SECONDS) -> str | None:
    found = await stray(url, behaviour, patience_seconds=patience, token="any")
    assert isinstance(found, Stray)
    assert found.behaviour is behaviour
    return found.end


@pytest.mark.parametrize("behaviour", [*RAW, Behaviour.NO_AUTH_FRAME])
async def test_cut(behaviour: Behaviour) -> None:
    async with talking(cut) as url:
        assert await ended(url, behaviour) == CUT


async def test_it_asks_for_what_the_url_names() -> None:
    asked: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        await answer(reader, writer)

    async with talking(note) as url:
        await ended(f"{url.removesuffix('/ws')}/chat/socket?v=1", Behaviour.HALF_SENT)
    assert asked == [b"GET /chat/socket?v=1 HTTP/1.1\r\n"]


@pytest.mark.parametrize("behaviour", RAW)
async def test_answered_and_left_open_is_not_ended(behaviour: Behaviour) -> None:
    async with talking(answer) as url:
        assert await ended(url, behaviour) == answered(431)
    async with talking(answer_and_stay) as url:
        assert await ended(url, behaviour, patience=PATIENCE_SECONDS) is None


@pytest.mark.parametrize("behaviour", [*RAW, Behaviour.NO_AUTH_FRAME])
async def test_left_open(behaviour: Behaviour) -> None:
    async with talking(stay) as url:
        assert await ended(url, behaviour, patience=PATIENCE_SECONDS) is None


@pytest.mark.parametrize("behaviour", list(Behaviour))
async def test_one_that_could_not_be_opened_has_no_end(behaviour: Behaviour) -> None:
    async with talking(stay) as url:
        pass
    assert await ended(url, behaviour) is None


async def refuse(socket: ServerConnection) -> None:
    await socket.send('{"type":"auth.error","code":"AUTH_TIMEOUT"}')
    await socket.close(3008)


async def test_closed_for_want_of_a_token() -> None:
    """It does not answer the close frame either, so it is not at its end before the server cuts it."""
    async with speaking(refuse, close_timeout=0.1) as url:
        assert await ended(url, Behaviour.NO_AUTH_FRAME) == closed(3008, "AUTH_TIMEOUT")


async def test_closed_and_never_cut_is_not_ended() -> None:
    async with speaking(refuse, close_timeout=PATIENCE_SECONDS * 4) as url:
        assert await ended(url, Behaviour.NO_AUTH_FRAME, patience=PATIENCE_SECONDS) is None


async def test_a_reader_that_stops_is_cut() -> None:
    async def lose_patience(socket: ServerConnection) -> None:
        await socket.send(GREETING)
        await socket.recv()
        socket.transport.abort()

    async with speaking(lose_patience) as url:
        assert await ended(url, Behaviour.STOPS_READING) == CUT


async def test_the_end_of_a_reader_that_stops_may_be_in_what_it_left_unread() -> None:
    async def close_slow(socket: ServerConnection) -> None:
        await socket.send(GREETING)
        await socket.recv()
        await socket.close(1013)

    async with speaking(close_slow, close_timeout=PATIENCE_SECONDS * 3) as url:
        assert await ended(url, Behaviour.STOPS_READING, patience=PATIENCE_SECONDS) == closed(1013)


async def test_a_reader_that_stops_and_is_served_for_ever() -> None:
    async def serve_on(socket: ServerConnection) -> None:
        await socket.send(GREETING)
        async for message in socket:
            await socket.send(message)

    async with speaking(serve_on, close_timeout=0.1) as url:
        assert await ended(url, Behaviour.STOPS_READING, patience=PATIENCE_SECONDS) is None


async def test_a_siege_watches_everybody_to_the_end() -> None:
    step = Siege(per_second=500.0, seconds=0.1, honest_per_second=1.0)
    async with talking(cut) as url:
        assert [each.end for each in await besiege(url, step, patience_seconds=GENEROUS_SECONDS)] == [CUT] * 50
    async with talking(stay) as url:
        assert [each.end for each in await besiege(url, step, patience_seconds=0.1)] == [None] * 50
    assert await besiege(url, step, patience_seconds=0.1) == [], "nobody could even be opened"
