"""What a page does with its socket, for tests: reads all the time, waits for a frame with a bound, and tells how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from doorward.testing import eventually


class Page:
    """`frames` are the JSON frames that nobody has asked for yet, in order of arrival."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.frames: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Until the socket is closed."""
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.client:
                self.frames.append(json.loads(frame))

    def found(self, **fields: Any) -> dict[str, Any] | None:
        return next((frame for frame in self.frames if fields.items() <= frame.items()), None)

    async def frame(self, *, within_seconds: float = 5.0, **fields: Any) -> dict[str, Any]:
        """Wait for the first frame with these fields, and take it."""
        await eventually(lambda: self.found(**fields), within_seconds=within_seconds, what=f"a frame with {fields}")
        frame = self.found(**fields)
        assert frame is not None
        self.frames.remove(frame)
        return frame

    async def ask(self, text: str = "who am I?") -> dict[str, Any]:
        """What the app says now."""
        await self.client.send(text)
        return await self.frame(text=text)

    async def refresh(self, token: object, command_id: str = "c1") -> dict[str, Any]:
        """The reply to an in-band refresh."""
        await self.client.send(json.dumps({"id": command_id, "type": "auth.refresh", "token": token}))
        return await self.frame(reply_to=command_id)

    async def closed(self, *, within_seconds: float = 5.0) -> tuple[int | None, str]:
        """Wait for the end. Returns the close code and the close reason."""
        async with asyncio.timeout(within_seconds):
            await self.client.wait_closed()
        return self.client.close_code, self.client.close_reason or ""

    @property
    def is_open(self) -> bool:
        return self.client.close_code is None


async def heard(client: ClientConnection, words: str, *, within_seconds: float = 15.0) -> None:
    """Read up to an app's own words; notices of the door may come before them."""
    async with asyncio.timeout(within_seconds):
        while await client.recv() != words:
            pass


async def frames(client: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Until the socket is closed, however that is."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield json.loads(await client.recv())


@asynccontextmanager
async def opened(connecting: websockets.connect) -> AsyncIterator[Page]:
    """Connect, and read until the block ends."""
    async with connecting as client:
        page = Page(client)
        reading = asyncio.create_task(page.read())
        try:
            yield page
        finally:
            reading.cancel()
            await asyncio.wait({reading}, timeout=1.0)
