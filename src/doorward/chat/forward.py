"""The sign-in endpoints of the auth service, passed on at the page's own origin, each within one hard deadline.

Where a password is hashed the deadline is a longer one, because hashing is slow by intent and has a queue; but only of a
service that still answers something: not while the breaker is open, and not if its health page is silent too.

The page never talks to the auth service directly, so its policy can say `connect-src 'self'`. What is passed on is an
allow-list; the answer is the service's own, or 503 when it could not be asked: never something that reads as "signed out".
"""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from doorward.adapters.transport import load_tls_context
from doorward.asgi.handshake import HandshakeReader
from doorward.chat.problem import problem
from doorward.core.deadline import Deadline
from doorward.core.incomplete import Incomplete
from doorward.core.limits import network_of
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aiohttp.abc import AbstractResolver
    from starlette.requests import Request

    from doorward.chat.telemetry import ChatTelemetry
    from doorward.config import AuthSettings

log = get_logger(__name__)

ENDPOINTS = {
    "/auth/login": "POST",
    "/auth/refresh": "POST",
    "/auth/logout": "POST",
    "/auth/register": "POST",
    "/auth/me": "GET",
}
HASHING = ("/auth/login", "/auth/register")
HASHING_SECONDS = 6.0
"""More than the 5 s that a password waits in authd's queue, so that its own 429 is heard; less than the 8 s of a client."""

PROBE_SECONDS = 0.5
"""What the health page may take to show that the service is busy, and not dead. The question has a place of its own."""

MAX_BODY_BYTES = 65_536
MAX_INCOMPLETE = 128
"""Requests whose body is still coming in. They have no place yet, so that a stranger who sends half of one takes none."""

MAX_IN_FLIGHT = 64
"""Questions under way, those included that we stopped waiting for."""

MAX_HASHING = 48
"""Of them those that wait for a password: a queue there keeps no session from its refresh."""

RETRY_SECONDS = (1.0, 5.0)
REQUEST_HEADERS = ("authorization", "content-type", "accept", "user-agent")
ANSWER_HEADERS = ("content-type", "retry-after", "www-authenticate")


class _BadAnswer(Exception):
    """The service answered something that may not be passed on."""


class AuthForwarder:
    """Passes requests on.

    Args:
        seconds: the deadline of each request, from its arrival to its answer; a password's may take longer.
        is_out: is the auth service known to be in an outage now?
    """

    def __init__(
        self,
        auth: AuthSettings,
        *,
        seconds: float,
        telemetry: ChatTelemetry,
        is_out: Callable[[], bool],
        trusted_proxies: Sequence[str] = (),
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._auth = auth
        self._seconds = seconds
        self._telemetry = telemetry
        self._is_out = is_out
        self._reader = HandshakeReader((), trusted_proxies)
        self._given_resolver = resolver
        self._own_resolver: AbstractResolver | None = None
        self._tls = load_tls_context(auth.ca_file) if auth.ca_file else None
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[Response]] = set()
        self._probe: asyncio.Task[bool] | None = None
        self._incomplete: Incomplete[asyncio.Task[Response]] = Incomplete(MAX_INCOMPLETE)
        self._in_flight = 0
        self._hashing = 0

    def routes(self) -> list[Route]:
        return [Route(path, self.forward, methods=[method]) for path, method in ENDPOINTS.items()]

    async def forward(self, request: Request) -> Response:
        """Answer before the deadline, whatever the service or the client does.

        Cancellation: the request to the service is cancelled.
        """
        loop = asyncio.get_running_loop()
        if self._auth.url is None:
            return self._unavailable("config")
        hashing = request.scope["path"] in HASHING
        queued = hashing and not self._is_out()
        seconds = max(self._seconds, HASHING_SECONDS) if queued else self._seconds
        deadline = Deadline.after(loop.time(), seconds)
        address = self._reader.read(request.scope).address
        task = loop.create_task(self._pass_on(request, address, deadline, hashing=hashing), name="chat-auth-forward")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        victim = self._incomplete.enter(task, network_of(address))
        if victim is not None:
            victim.cancel()
        try:
            await asyncio.wait({task}, timeout=self._seconds)
            if queued and not task.done() and await self._is_alive(task, deadline):
                await asyncio.wait({task}, timeout=deadline.remaining(loop.time()))
        finally:
            in_time = task.done()
            task.cancel()
        if not in_time:
            return self._unavailable("deadline")
        return self._overloaded() if task.cancelled() else task.result()

    async def aclose(self) -> None:
        """Close the connections. Cancellation: they are closed by the next call, or with the process."""
        for task in self._tasks:
            task.cancel()
        if self._probe is not None:
            self._probe.cancel()
        if self._session is not None:
            await self._session.close()
        if self._own_resolver is not None:
            await self._own_resolver.close()
            self._own_resolver = None

    async def _is_alive(self, waiting: asyncio.Task[Response], deadline: Deadline) -> bool:
        """Does the service answer anything at all? Asked once for all who wait just then; `waiting` may be done before."""
        loop = asyncio.get_running_loop()
        if self._probe is None or self._probe.done():
            self._probe = loop.create_task(self._answers_probe(), name="chat-auth-probe")
        probe, left = self._probe, deadline.remaining(loop.time())
        await asyncio.wait({waiting, probe}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return probe.done() and not probe.cancelled() and probe.result()

    async def _answers_probe(self) -> bool:
        url = self._auth.base_url + self._auth.health_path
        try:
            async with self._client().get(
                url, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)
            ):
                return True
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _pass_on(self, request: Request, address: str, deadline: Deadline, *, hashing: bool) -> Response:
        try:
            async with asyncio.timeout(self._seconds):
                body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)
        except TimeoutError:
            return self._unavailable("deadline")
        if (task := asyncio.current_task()) is not None:
            self._incomplete.leave(task)
        if body is None:
            self._telemetry.forwarded("refused")
            return problem(413, "MESSAGE_TOO_BIG", f"The body is larger than {MAX_BODY_BYTES} bytes.")
        if self._in_flight >= MAX_IN_FLIGHT or (hashing and self._hashing >= MAX_HASHING):
            return self._overloaded()
        try:
            with self._in_its_place(hashing=hashing):
                answer = await self._ask(request, body, address, deadline)
        except (aiohttp.ClientError, _BadAnswer, TimeoutError, OSError) as error:
            log.warning("chat.auth_forward_failed", path=request.url.path, error=type(error).__name__)
            return self._unavailable("deadline" if isinstance(error, TimeoutError) else "upstream")
        self._telemetry.forwarded("answered")
        return answer

    @contextmanager
    def _in_its_place(self, *, hashing: bool) -> Iterator[None]:
        self._in_flight += 1
        self._hashing += hashing
        try:
            yield
        finally:
            self._in_flight -= 1
            self._hashing -= hashing

    async def _ask(self, request: Request, body: bytes, address: str, deadline: Deadline) -> Response:
        left = deadline.remaining(asyncio.get_running_loop().time())
        headers = {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers}
        headers["accept-encoding"] = "identity"
        headers["x-envoy-expected-rq-timeout-ms"] = str(int(left * 1000))
        headers["x-forwarded-for"] = address
        async with self._client().request(
            request.method,
            self._auth.base_url + request.scope["path"],
            data=body or None,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=left),
        ) as answer:
            return await self._answer(answer)

    async def _answer(self, answer: aiohttp.ClientResponse) -> Response:
        if answer.status >= 500:
            return self._unavailable("upstream", _retry_after(answer))
        if 300 <= answer.status < 400 or answer.headers.get("content-encoding", "identity") != "identity":
            raise _BadAnswer
        content = b""
        async for chunk in answer.content.iter_any():
            content += chunk
            if len(content) > MAX_BODY_BYTES:
                raise _BadAnswer
        headers = {name: answer.headers[name] for name in ANSWER_HEADERS if name in answer.headers}
        headers |= {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(content, answer.status, headers=headers)

    def _overloaded(self) -> Response:
        self._telemetry.forwarded("overloaded")
        return _not_now("OVERLOADED", "The server is busy. You are still signed in; try again in a moment.")

    def _unavailable(self, cause: str, retry_after_seconds: float | None = None) -> Response:
        self._telemetry.forwarded(cause)
        title = "The auth service is not answering. You are still signed in; try again in a moment."
        return _not_now("SERVICE_UNAVAILABLE", title, cause, retry_after_seconds)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            resolver = self._given_resolver
            if resolver is None:
                resolver = self._own_resolver = aiohttp.AsyncResolver(nameservers=list(self._auth.dns_servers) or None)
            # A connection each: one that was kept may be closing just then, and what was sent on it cannot be sent twice.
            connector = aiohttp.TCPConnector(
                limit=MAX_IN_FLIGHT + 1, resolver=resolver, ssl=self._tls or True, force_close=True
            )
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
            )
        return self._session

    def _done(self, task: asyncio.Task[Response]) -> None:
        self._tasks.discard(task)
        self._incomplete.leave(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("chat.auth_forward_bug", exc_info=error)


def _not_now(code: str, title: str, cause: str | None = None, retry_after_seconds: float | None = None) -> Response:
    wait = retry_after_seconds or random.uniform(*RETRY_SECONDS)  # noqa: S311 - spreads a crowd
    return problem(503, code, title, cause=cause, retry_after_seconds=wait)


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    value = answer.headers.get("retry-after", "")
    return min(float(value), 300.0) if value.isascii() and value.isdigit() else None


async def _body(request: Request) -> bytes | None:
    """The whole body, `None` if it is too large. The caller's deadline bounds the wait."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            return None
    return content
