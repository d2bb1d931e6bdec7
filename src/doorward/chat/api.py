"""`/api`: a user's threads over HTTP, and Markdown as HTML. The door around it has let the person in, or nobody is served.

Each operation is written down once, as `Operation`: the routes and the OpenAPI document are both made of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from doorward.adapters.worker import Worker
from doorward.chat import markdown
from doorward.chat.commands import ErrorCode, Fault, is_name
from doorward.chat.problem import problem
from doorward.chat.views import (
    MAX_NUMBER_DIGITS,
    Markdown,
    MessagePage,
    MessageView,
    Page,
    Rendered,
    RunPage,
    RunView,
    Search,
    Settled,
    ThreadCreate,
    ThreadFound,
    ThreadPage,
    ThreadRename,
    ThreadView,
)
from doorward.errors import StoreError
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from doorward.chat.agents.port import LiveView
    from doorward.chat.service import Chat

log = get_logger(__name__)

MAX_BODY_BYTES: Final = 16_384
MAX_RENDER_BODY_BYTES: Final = 524_288
"""Texts of 64 KiB in all, each character escaped as JSON may escape it."""

MAX_RENDERED_BYTES: Final = 65_536
BODY_SECONDS: Final = 10.0
SEARCH_SECONDS: Final = 5.0
RENDER_SECONDS: Final = 2.0
WAITING_RENDERS: Final = 64
RETRY_SECONDS: Final = 1.0

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Refused(Exception):
    """A request that is not done. Becomes problem details."""

    def __init__(
        self, status: int, code: ErrorCode | str, title: str, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(title)
        self.response = problem(status, str(code), title, retry_after_seconds=retry_after_seconds)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answers` says what comes with each status of success.

    Attributes:
        body: what is read from the request, at most `max_body_bytes` of JSON.
        query: what is read from the query string.
    """

    name: str
    method: str
    path: str
    summary: str
    answers: dict[int, type[msgspec.Struct] | None]
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    max_body_bytes: int = MAX_BODY_BYTES


A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Call(Generic[A]):
    """One request: who asks, about which thread if the path names one, and what."""

    user_id: str
    thread_id: str
    asked: A


Work = Callable[[Call[Any]], Awaitable[Response]]

_THREAD = "/api/threads/{thread_id}"

OPERATIONS: Final = (
    Operation("listThreads", "GET", "/api/threads", "Your threads, last used first", {200: ThreadPage}, query=Search),
    Operation(
        "createThread",
        "POST",
        "/api/threads",
        "Make a thread; 200 where it is there already",
        {201: ThreadView, 200: ThreadView},
        body=ThreadCreate,
    ),
    Operation("readThread", "GET", _THREAD, "One thread", {200: ThreadView}),
    Operation("renameThread", "PATCH", _THREAD, "Give a thread a title", {200: ThreadView}, body=ThreadRename),
    Operation("deleteThread", "DELETE", _THREAD, "Delete a thread with its messages; its run is stopped", {204: None}),
    Operation(
        "listMessages",
        "GET",
        f"{_THREAD}/messages",
        "What a thread said: the newest page first, within a page the oldest message first",
        {200: MessagePage},
        query=Page,
    ),
    Operation(
        "listRuns", "GET", f"{_THREAD}/runs", "The newest runs of a thread, newest first", {200: RunPage}, query=Page
    ),
    Operation(
        "render",
        "POST",
        "/api/render",
        "Markdown as HTML that is safe to show: at most 100 texts, 64 KiB in all",
        {200: Rendered},
        body=Markdown,
        max_body_bytes=MAX_RENDER_BODY_BYTES,
    ),
)


class ThreadApi:
    """Answers for `OPERATIONS`. Close it after use."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._renderer = Worker("doorward-render", max_waiting=WAITING_RENDERS, drops=True)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def routes(self) -> list[BaseRoute]:
        work: dict[str, Work] = {
            "listThreads": self._list,
            "createThread": self._create,
            "readThread": self._read,
            "renameThread": self._rename,
            "deleteThread": self._delete,
            "listMessages": self._messages,
            "listRuns": self._runs,
            "render": self._render,
        }
        paths: dict[str, dict[str, tuple[Operation, Work]]] = {}
        for operation in OPERATIONS:
            paths.setdefault(operation.path, {})[operation.method] = (operation, work[operation.name])
        return [Route(path, _endpoint(methods), methods=list(methods)) for path, methods in paths.items()]

    def close_nowait(self) -> None:
        self._renderer.stop_nowait()

    async def _list(self, call: Call[Search]) -> Response:
        asked = call.asked
        before, words = _thread_cursor(asked.cursor), asked.q.strip()
        page = partial(self._chat.store.page, call.user_id, limit=asked.limit + 1, before=before, words=words)
        if words:
            async with self._turn("search", call.user_id, SEARCH_SECONDS):
                rows = await page()
        else:
            rows = await page()
        more = len(rows) > asked.limit
        rows = rows[: asked.limit]
        cursor = f"{rows[-1].updated_ms}.{rows[-1].thread_id}" if more else None
        return answer(ThreadPage([ThreadFound.of(row) for row in rows], cursor))

    async def _create(self, call: Call[ThreadCreate]) -> Response:
        asked = call.asked
        title = None if asked.title is None else _title(asked.title)
        created = await self._chat.threads.create(asked.thread_id or str(uuid4()), call.user_id, title)
        if isinstance(created, Fault):
            raise _refused(created)
        row, is_new = created
        return answer(ThreadView.of(row), 201 if is_new else 200)

    async def _read(self, call: Call[None]) -> Response:
        await self._chat.threads.settled(call.thread_id, call.user_id)
        row = await self._chat.store.row(call.thread_id, call.user_id)
        return answer(ThreadView.of(_found(row)))

    async def _rename(self, call: Call[ThreadRename]) -> Response:
        row = await self._chat.threads.rename(call.thread_id, call.user_id, _title(call.asked.title))
        return answer(ThreadView.of(_found(row)))

    async def _delete(self, call: Call[None]) -> Response:
        if not await self._chat.threads.delete(call.thread_id, call.user_id):
            raise _not_found()
        return Response(None, 204, headers=_HEADERS)

    async def _messages(self, call: Call[Page]) -> Response:
        limit, before = call.asked.limit, _number_cursor(call.asked.cursor)
        await self._chat.threads.settled(call.thread_id, call.user_id)
        found = _found(await self._chat.store.history(call.thread_id, call.user_id, limit=limit + 1, before=before))
        page = found[-limit:]
        cursor = str(page[0].position) if len(found) > limit else None
        return answer(MessagePage([MessageView.of(message) for message in page], cursor))

    async def _runs(self, call: Call[Page]) -> Response:
        limit, before = call.asked.limit, _number_cursor(call.asked.cursor)
        await self._chat.threads.settled(call.thread_id, call.user_id)
        found = _found(await self._chat.store.runs(call.thread_id, call.user_id, limit=limit + 1, before=before))
        page = found[:limit]
        cursor = str(page[-1].number) if len(found) > limit else None
        return answer(RunPage([RunView.of(run) for run in page], cursor))

    async def _render(self, call: Call[Markdown]) -> Response:
        texts = call.asked.texts
        if sum(len(text.encode()) for text in texts) > MAX_RENDERED_BYTES:
            raise Refused(413, "TOO_LARGE", f"The texts are longer than {MAX_RENDERED_BYTES} bytes in all.")
        async with self._turn("render", call.user_id, RENDER_SECONDS):
            rendered = await self._renderer.run(
                partial(_growing if call.asked.growing else _finished, texts), bound_seconds=RENDER_SECONDS
            )
        return answer(rendered)

    @asynccontextmanager
    async def _turn(self, kind: str, user_id: str, seconds: float) -> AsyncIterator[None]:
        """One of a kind at a time of each user, so that what one of them asks for delays another's by one at most.

        Raises:
            Refused: the turn did not come, or what was done in it did not end, within `seconds`.
        """
        turn = self._turns.setdefault((kind, user_id), asyncio.Lock())
        try:
            async with asyncio.timeout(seconds), turn:
                yield
        except TimeoutError as error:
            title = "The server is busy with what was asked for before."
            raise Refused(503, ErrorCode.OVERLOADED, title, retry_after_seconds=RETRY_SECONDS) from error


def _finished(texts: list[str]) -> Rendered:
    budget = markdown.Budget()
    return Rendered([markdown.render(text, budget) for text in texts])


def _growing(texts: list[str]) -> Rendered:
    budget = markdown.Budget()
    made = [markdown.render_growing(text, budget) for text in texts]
    return Rendered([one.html for one in made], [Settled(one.settled_lines, one.settled_elements) for one in made])


def answer(content: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json", headers=_HEADERS)


def _endpoint(
    methods: dict[str, tuple[Operation, Work]],
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        """Exceptions become problem details here, and nowhere else."""
        view: LiveView | None = request.scope.get("doorward")
        if view is None:
            return problem(401, "AUTH_REQUIRED", "Sign in first.", headers={"WWW-Authenticate": "Bearer"})
        operation, work = methods["GET" if request.method == "HEAD" else request.method]
        try:
            thread_id = _thread_id(request) if "thread_id" in request.path_params else ""
            return await work(Call(view.principal.user_id, thread_id, await _asked(request, operation)))
        except Refused as refusal:
            return refusal.response
        except StoreError as error:
            log.error("chat.request_not_stored", decision_id=view.decision_id, error=str(error))
            title = "The chat's storage does not answer now."
            return problem(503, ErrorCode.UNAVAILABLE, title, retry_after_seconds=RETRY_SECONDS)

    return endpoint


async def _asked(request: Request, operation: Operation) -> msgspec.Struct | None:
    try:
        if operation.query is not None:
            return msgspec.convert(dict(request.query_params), operation.query, strict=False)
        if operation.body is not None:
            return msgspec.json.decode(await _body(request, operation.max_body_bytes), type=operation.body)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused(400, ErrorCode.BAD_REQUEST, f"The request cannot be read: {error}") from error
    return None


async def _body(request: Request, max_bytes: int) -> bytes:
    """All of it, in bounded time and size."""
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise Refused(415, ErrorCode.BAD_REQUEST, "The body must be application/json.")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > max_bytes:
                    raise Refused(413, "TOO_LARGE", f"The body is longer than {max_bytes} bytes.")
    except (TimeoutError, ClientDisconnect) as error:
        raise Refused(408, "TIMEOUT", f"The body did not come within {BODY_SECONDS:.0f} s.") from error
    return bytes(content)


def _thread_id(request: Request) -> str:
    thread_id: str = request.path_params["thread_id"]
    if not is_name(thread_id):
        raise _not_found()
    return thread_id


F = TypeVar("F")


def _found(what: F | None) -> F:
    if what is None:
        raise _not_found()
    return what


def _not_found() -> Refused:
    return Refused(404, ErrorCode.NOT_FOUND, "There is no such thread of yours.")


def _refused(fault: Fault) -> Refused:
    if fault.code is ErrorCode.NOT_FOUND:
        return _not_found()
    return Refused(409, fault.code, fault.message)


def _title(text: str) -> str:
    """On one line."""
    title = " ".join(text.split())
    if not title:
        raise Refused(400, ErrorCode.BAD_REQUEST, "A title has at least one letter.")
    return title


def _thread_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    updated_ms, _, thread_id = cursor.partition(".")
    if not is_name(thread_id):
        raise _bad_cursor()
    return _number(updated_ms), thread_id


def _number_cursor(cursor: str | None) -> int | None:
    return None if cursor is None else _number(cursor)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise _bad_cursor()
    return int(text)


def _bad_cursor() -> Refused:
    return Refused(400, ErrorCode.BAD_REQUEST, "`cursor` is none that this server gave.")
