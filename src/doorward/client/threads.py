"""The conversations over HTTP: list, make, rename, delete, history."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from doorward.client.errors import Refused, SignedOut, Unanswered
from doorward.core.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from doorward.client.http import Answer, Network
    from doorward.client.tokens import Token

T = TypeVar("T")
CALL_SECONDS = 8.0


class Excerpt(msgspec.Struct, frozen=True):
    """Plain text of a message: what was found, and what stands around it, with an ellipsis where more was said."""

    before: str
    match: str
    after: str


class Thread(msgspec.Struct, frozen=True):
    """One conversation. `title` is `None` until the first question. Times are RFC 3339, UTC.

    `excerpt` is there where words were searched for, and said in it: the newest place.
    """

    thread_id: str
    title: str | None
    created_at: str
    updated_at: str
    active_run_id: str | None = None
    excerpt: Excerpt | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of a thread; `message` is AG-UI's."""

    position: int
    created_at: str
    message: dict[str, Any]
    run_id: str | None = None


class RunError(msgspec.Struct, frozen=True):
    """Why a run gave no answer. `retryable`: the same question, as another run, may well get one."""

    code: str
    message: str
    retryable: bool = False


class ThreadRun(msgspec.Struct, frozen=True):
    """One run of a thread. `ending` is `None` while it goes on; `error` is what its `RUN_ERROR` said."""

    run_id: str
    started_at: str
    ended_at: str | None = None
    ending: str | None = None
    error: RunError | None = None


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of them. `next_cursor` leads to more, `None`: there are none."""

    items: list[T]
    next_cursor: str | None


class _ThreadPage(msgspec.Struct, frozen=True):
    threads: list[Thread]
    next_cursor: str | None


class _MessagePage(msgspec.Struct, frozen=True):
    messages: list[Message]
    next_cursor: str | None


class _RunPage(msgspec.Struct, frozen=True):
    runs: list[ThreadRun]
    next_cursor: str | None


class Threads:
    """`client.threads`. A refused token is replaced once; then the answer counts.

    Every call raises `Refused` (the server said no: `NOT_FOUND`, `BAD_REQUEST` ...), `SignedOut` (sign in again) or `Unanswered`
    (could not ask: try again).

    Args:
        fetch_token: a token, and not the stale one.
    """

    def __init__(
        self,
        network: Network,
        fetch_token: Callable[[str | None], Awaitable[Token]],
        *,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._network = network
        self._fetch_token = fetch_token
        self._call_seconds = call_seconds

    async def list(self, *, search: str = "", limit: int = 50, cursor: str | None = None) -> Page[Thread]:
        """Last used first; `search`: only those with these words in the title or in a message."""
        query = _query(limit=limit, cursor=cursor, q=search or None)
        page = _read(await self._call("GET", f"/api/threads{query}"), _ThreadPage)
        return Page(page.threads, page.next_cursor)

    async def all(self, *, search: str = "") -> AsyncIterator[Thread]:
        """Every one of them, page by page."""
        cursor = None
        while True:
            page = await self.list(search=search, limit=100, cursor=cursor)
            for thread in page.items:
                yield thread
            cursor = page.next_cursor
            if cursor is None:
                return

    async def create(self, *, thread_id: str | None = None, title: str | None = None) -> Thread:
        """A new one, or the one of this name that is there already."""
        body = {key: value for key, value in (("thread_id", thread_id), ("title", title)) if value is not None}
        return _read(await self._call("POST", "/api/threads", body), Thread)

    async def get(self, thread_id: str) -> Thread:
        return _read(await self._call("GET", _path(thread_id)), Thread)

    async def rename(self, thread_id: str, title: str) -> Thread:
        return _read(await self._call("PATCH", _path(thread_id), {"title": title}), Thread)

    async def delete(self, thread_id: str) -> None:
        """Its run is stopped; its messages and events are gone."""
        await self._call("DELETE", _path(thread_id))

    async def messages(self, thread_id: str, *, limit: int = 50, cursor: str | None = None) -> Page[Message]:
        """The newest page first; within a page the oldest message first."""
        query = _query(limit=limit, cursor=cursor)
        page = _read(await self._call("GET", f"{_path(thread_id)}/messages{query}"), _MessagePage)
        return Page(page.messages, page.next_cursor)

    async def runs(self, thread_id: str, *, limit: int = 50, cursor: str | None = None) -> Page[ThreadRun]:
        """Newest first."""
        query = _query(limit=limit, cursor=cursor)
        page = _read(await self._call("GET", f"{_path(thread_id)}/runs{query}"), _RunPage)
        return Page(page.runs, page.next_cursor)

    async def _call(self, method: str, path: str, body: object = None) -> Answer:
        token = await self._fetch_token(None)
        answer = await self._once(method, path, body, token)
        if answer.status == 401:
            other = await self._fetch_token(token.value)
            if other.value == token.value:
                raise SignedOut("the server does not accept this token, and there is no other", code=answer.code)
            answer = await self._once(method, path, body, other)
        if 200 <= answer.status < 300:
            return answer
        if answer.status >= 500 or answer.status in {401, 429}:  # 401 to a fresh token: the server is not so far yet
            raise Unanswered(answer.code, answer.words, retry_after_seconds=answer.retry_after_seconds)
        raise Refused(answer.code, answer.words, status=answer.status)

    async def _once(self, method: str, path: str, body: object, token: Token) -> Answer:
        deadline = Deadline.after(asyncio.get_running_loop().time(), self._call_seconds)
        return await self._network.call(method, path, body=body, bearer=token.value, deadline=deadline)


def _path(thread_id: str) -> str:
    return f"/api/threads/{quote(thread_id, safe='')}"


def _query(**fields: object) -> str:
    given = {key: value for key, value in fields.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _read(answer: Answer, kind: type[T]) -> T:
    try:
        return msgspec.convert(answer.content, kind)
    except msgspec.ValidationError as error:
        raise Unanswered("BAD_ANSWER", "the server's answer is not what this client understands") from error
