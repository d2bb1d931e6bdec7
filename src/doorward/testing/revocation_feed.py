"""The revocation feed of the fake auth service: a list, a cursor, and followers that wait."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from doorward.testing.received import ReceivedRequest

MAX_WAIT_SECONDS = 20.0
"""The longest poll; a follower's wish beyond it is cut."""


class FakeRevocationFeed:
    """Answers polls as the contract says.

    Args:
        wall: the clock behind `as_of`, in wall seconds.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.page_size = 500
        self._wall = wall
        self._there = True
        self._closing = False
        self._items: list[Mapping[str, Any]] = []
        self._epoch = secrets.token_hex(8)
        self._news = asyncio.Event()

    @property
    def there(self) -> bool:
        """Whether there is a feed at all; without one it answers 404."""
        return self._there

    @there.setter
    def there(self, there: bool) -> None:
        self._there = there
        self._wake()

    def opening(self) -> None:
        """Followers may wait."""
        self._closing = False

    def closing(self) -> None:
        """Answer whoever waits, now."""
        self._closing = True
        self._wake()

    def add(self, item: Mapping[str, Any]) -> None:
        """Append, and answer whoever waits, now."""
        self._items.append(item)
        self._wake()

    def expire_cursors(self) -> None:
        """Every cursor handed out so far is too old; the items stay."""
        self._epoch = secrets.token_hex(8)
        self._wake()

    def revokes(self, *, jti: str | None, session_id: str | None, user_id: str | None, issued_at: float) -> bool:
        """Whether an item speaks about a token with these claims. `issued_at` in wall seconds."""
        return any(
            item.get("jti", ...) == jti
            or item.get("session_id", ...) == session_id
            or (item.get("user_id", ...) == user_id and issued_at * 1000 <= item["not_before"])
            for item in self._items
        )

    async def answer(self, request: ReceivedRequest) -> web.Response:
        """The next page; waits for one as long as the follower wishes, 20 s at most.

        Cancellation: leaves nothing behind.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + min(request.wait_seconds(), MAX_WAIT_SECONDS)
        while True:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            after = int(request.query.get("after", "0"))
            left = ends_at - loop.time()
            if after < len(self._items) or "after" not in request.query or left <= 0 or self._closing:
                return self._page(after)
            await self._wait_for_news(left)

    def _refusal(self, request: ReceivedRequest) -> web.Response | None:
        if not self._there:
            return web.json_response({"error": "not_found"}, status=404)
        if "after" not in request.query:
            return None
        after = request.query["after"]
        known = after.isdecimal() and int(after) <= len(self._items) and request.query.get("epoch") == self._epoch
        return None if known else web.json_response({"error": "cursor_expired"}, status=410)

    def _page(self, after: int) -> web.Response:
        items = self._items[after : after + self.page_size]
        cursor = after + len(items)
        more = cursor < len(self._items)
        return web.json_response(
            {"epoch": self._epoch, "cursor": str(cursor), "as_of": self._wall(), "more": more, "items": items}
        )

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _wait_for_news(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
