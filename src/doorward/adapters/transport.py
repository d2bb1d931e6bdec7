"""The one way out: HTTP requests that end before their deadline, over aiohttp.

Every failure is one of `errors.py`, told apart by phase. No text of an error holds a header or a body: they carry secrets.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from doorward.adapters.bounded_response import BoundedResponseHandler
from doorward.adapters.worker import Worker
from doorward.core.deadline import Deadline
from doorward.errors import (
    BackendError,
    BadAnswer,
    ConfigError,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    PoolTimeout,
    ReadTimeout,
    ResolveError,
    TlsError,
    WriteTimeout,
)
from doorward.runtime.resolver import QUERY_SECONDS, Resolver

MAX_BODY_BYTES: Final = 64 * 1024
HAPPY_EYEBALLS_SECONDS: Final = 0.25
KEEPALIVE_SECONDS: Final = 15.0
CLOSE_SECONDS: Final = 1.0
TLS_CONTEXT_SECONDS: Final = 10.0
USER_AGENT: Final = "doorward"


@dataclass(frozen=True, slots=True)
class Caps:
    """Phase caps in seconds, each also clipped by what is left of the deadline when the phase begins.

    `connect_seconds` bounds DNS, TCP and TLS over all addresses, `address_seconds` one of them; `read_seconds` bounds the wait for
    the head, and then for each next part of the body.
    """

    connect_seconds: float
    read_seconds: float
    write_seconds: float
    pool_seconds: float
    address_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer of any status; `body` is at most what the caller allowed."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class _Phase(Enum):
    POOL = PoolTimeout
    RESOLVE = ResolveError
    CONNECT = ConnectTimeout
    WRITE = WriteTimeout
    READ = ReadTimeout


class HttpTransport:
    """A pool of connections for one purpose: calls to the auth service have one, the long poll another.

    Never more than `limit` connections; the caller's own limits (bulkhead + abandoned calls) keep it from being reached, so a
    `PoolTimeout` is a bug. Redirects, cookies, proxies of the environment and content encodings are all refused.

    Args:
        keeps: connections, for the next request. One that was kept may be closing just when it is used, and what is lost with it
            may not be sent again unless its method is idempotent (RFC 9110, section 9.2.2), or its caller knows that it may.
    """

    def __init__(
        self, resolver: Resolver, *, limit: int, tls: ssl.SSLContext | None = None, keeps: bool = True
    ) -> None:
        connector = aiohttp.TCPConnector(
            resolver=_AiohttpResolver(resolver),
            use_dns_cache=False,
            limit=limit,
            ssl=tls or True,
            happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
            force_close=not keeps,
            keepalive_timeout=KEEPALIVE_SECONDS if keeps else None,
        )
        factory: Any = partial(BoundedResponseHandler, loop=asyncio.get_running_loop())
        connector._factory = factory  # noqa: SLF001 - aiohttp has no public way to bring one's own protocol
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            trace_configs=[_phase_trace()],
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        deadline: Deadline,
        caps: Caps,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> HttpAnswer:
        """Send one request and read its whole answer.

        Args:
            deadline: absolute, on the loop's clock; no phase outlives it.
            max_body_bytes: a longer body is `BadAnswer`, and its connection is not used again.

        Raises:
            BackendError: by phase and kind.

        Cancellation: the connection is cut and its place in the pool is free at once.
        """
        exchange = _Exchange(deadline, caps, has_body=body is not None)
        where = _where(url)
        if self._session.closed or deadline.expired(exchange.now()):
            raise ConnectTimeout(f"{where}: no time was left to ask")
        try:
            async with exchange.timer:
                return await self._exchange(exchange, method, url, headers, body, max_body_bytes)
        except TimeoutError as error:
            phase = exchange.phase if exchange.timer.expired() else _Phase.CONNECT
            raise phase.value(f"{where}: too slow ({phase.name.lower()})") from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise _mapped(error, where, exchange) from _printable(error)

    async def _exchange(
        self,
        exchange: _Exchange,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        max_body_bytes: int,
    ) -> HttpAnswer:
        response = await self._session.request(
            method,
            URL(url),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=_aiohttp_timeout(exchange),
            trace_request_ctx=exchange,
        )
        try:
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.strip().lower() != "identity":
                raise BadAnswer(f"{_where(url)}: the answer has a content encoding, which we did not ask for")
            content = await _read(response, exchange, max_body_bytes, _where(url))
            return HttpAnswer(response.status, response.headers, content)
        finally:
            response.close()  # cuts the connection, unless the whole body was read and it is back in the pool

    async def aclose(self) -> None:
        """Cut every connection. Takes at most `CLOSE_SECONDS`."""
        closing = asyncio.create_task(self._session.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        finally:
            closing.cancel()


async def tls_context(ca_file: Path | None, *, key: str = "auth.ca_file") -> ssl.SSLContext:
    """What we trust: the certificates of `ca_file`, or the system's. Read on a thread of its own.

    Args:
        key: of `ca_file` in the settings, for an error.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
    """
    worker = Worker("doorward-tls")
    try:
        return await worker.run(partial(load_tls_context, ca_file, key=key), bound_seconds=TLS_CONTEXT_SECONDS)
    except TimeoutError as error:
        raise ConfigError(f"{key}: {ca_file or 'the certificates of the system'}: {error}") from error
    finally:
        worker.stop_nowait()


def load_tls_context(ca_file: Path | None, *, key: str = "auth.ca_file") -> ssl.SSLContext:
    """As `tls_context`, at once: it reads files."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise ConfigError(f"{key}: {ca_file or 'the certificates of the system'}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Exchange:
    """Where one request stands. aiohttp tells us through its tracing hooks; each new phase sets the one timer anew."""

    def __init__(self, deadline: Deadline, caps: Caps, *, has_body: bool) -> None:
        self.now = asyncio.get_running_loop().time
        self.deadline = deadline
        self.caps = caps
        self.has_body = has_body
        self.phase = _Phase.POOL
        self.timer = asyncio.timeout_at(self._end(caps.pool_seconds))
        self._over = False

    def enter(self, phase: _Phase, cap_seconds: float) -> None:
        """Begin a phase. Comes too late from the writer's task sometimes, when the timer has struck or the answer is complete."""
        if self._over or self.timer.expired():
            return
        self.phase = phase
        self.timer.reschedule(self._end(cap_seconds))

    def finish(self) -> None:
        self._over = True

    def _end(self, cap_seconds: float) -> float:
        now = self.now()
        return now + self.deadline.clipped(now, cap_seconds)


def _phase_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def connecting(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        exchange: _Exchange = context.trace_request_ctx
        exchange.enter(_Phase.CONNECT, exchange.caps.connect_seconds)

    async def resolving(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        context.trace_request_ctx.phase = _Phase.RESOLVE

    async def resolved(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        context.trace_request_ctx.phase = _Phase.CONNECT

    async def connected(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        exchange: _Exchange = context.trace_request_ctx
        exchange.enter(_Phase.WRITE, exchange.caps.write_seconds)

    async def head_sent(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        exchange: _Exchange = context.trace_request_ctx
        if not exchange.has_body:
            exchange.enter(_Phase.READ, exchange.caps.read_seconds)

    async def body_sent(_session: Any, context: SimpleNamespace, _params: Any) -> None:
        exchange: _Exchange = context.trace_request_ctx
        exchange.enter(_Phase.READ, exchange.caps.read_seconds)

    trace.on_connection_create_start.append(connecting)
    trace.on_dns_resolvehost_start.append(resolving)
    trace.on_dns_resolvehost_end.append(resolved)
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    trace.on_request_headers_sent.append(head_sent)
    trace.on_request_chunk_sent.append(body_sent)
    return trace


def _aiohttp_timeout(exchange: _Exchange) -> aiohttp.ClientTimeout:
    """Only the bound on one address is aiohttp's: it goes on to the next one after it. No rounding up to whole seconds."""
    address_seconds = exchange.caps.address_seconds
    clipped = None if address_seconds is None else exchange.deadline.clipped(exchange.now(), address_seconds)
    return aiohttp.ClientTimeout(total=None, sock_connect=clipped, ceil_threshold=math.inf)


async def _read(response: aiohttp.ClientResponse, exchange: _Exchange, limit: int, where: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    too_long = (response.content_length or 0) > limit
    while not too_long:
        exchange.enter(_Phase.READ, exchange.caps.read_seconds)
        part = await response.content.read(limit + 1 - size)
        if not part:
            exchange.finish()
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        too_long = size > limit
    raise BadAnswer(f"{where}: the answer is longer than {limit} bytes")


def _where(url: str) -> str:
    """Scheme, host and port: the path may hold a name, the query a token."""
    parts = URL(url)
    return f"{parts.scheme}://{parts.host}:{parts.port}"


def _mapped(error: Exception, where: str, exchange: _Exchange) -> BackendError:
    """The class says what happened. Cases from the most special to the most general, as aiohttp's classes inherit."""
    kind = type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch | ssl.SSLError):
        return TlsError(f"{where}: no TLS connection ({_reason(error)})")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ResolveError(f"{where}: no address ({kind})")
    if isinstance(error, aiohttp.ClientConnectorError) or exchange.phase is _Phase.CONNECT:
        return ConnectError(f"{where}: no connection ({_reason(error)})")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return BadAnswer(f"{where}: the answer is not HTTP as we accept it ({kind})")
    return ConnectionLost(f"{where}: the connection broke ({kind})")


def _reason(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    reason = (
        getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or getattr(cause, "strerror", None)
    )
    return str(reason or type(cause).__name__)


def _printable(error: Exception) -> Exception | None:
    """The cause to chain. Errors about a request or its answer quote them, so only those about the connection are kept."""
    return error if isinstance(error, OSError | RuntimeError) else None


class _AiohttpResolver(AbstractResolver):
    """Plugs our resolver into aiohttp, so that `Host` and SNI keep the name."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        deadline = Deadline.after(asyncio.get_running_loop().time(), QUERY_SECONDS)
        addresses = await self._resolver.resolve(host, deadline=deadline)
        return [
            ResolveResult(hostname=host, host=address.host, port=port, family=address.family, proto=0, flags=0)
            for address in addresses
            if family in (socket.AF_UNSPEC, address.family)
        ]

    async def close(self) -> None:
        """Nothing: the resolver belongs to whoever made it."""
