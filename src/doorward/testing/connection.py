"""One connection through a `FaultProxy`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from doorward.testing.faults import Fault, FaultKind
from doorward.testing.http_bytes import first_header_end, half_answer_length, is_complete_request

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

CHUNK_BYTES = 64 * 1024
HELD_BYTES = 256 * 1024
"""So much of a client's bytes is read ahead; then its own sends block."""

CONNECT_SECONDS = 5.0
LINGER_SECONDS = 1.0
"""After a last answer the client has this long to close its side."""

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_ABORTING = frozenset({FaultKind.RESET, FaultKind.REFUSE})


@dataclass(slots=True)
class ProxyCounts:
    """What went through since the start.

    A request is a client that speaks after it was last answered: exact for HTTP/1.1 without pipelining,
    a count of flights under TLS.
    """

    connections: int = 0
    """Accepted."""
    requests: int = 0
    """Heard from clients."""
    forwarded: int = 0
    """Of these, passed on to the upstream."""
    bytes_from_clients: int = 0
    bytes_to_clients: int = 0


class Proxy(Protocol):
    """What a connection needs to know of its proxy."""

    @property
    def fault(self) -> Fault: ...

    counts: ProxyCounts
    random: random.Random
    upstream: tuple[str, int]


class ProxiedConnection:
    """One client: a reader, a forwarder and, once the upstream is connected, an answerer.

    They share one pulse: whenever bytes came or the fault was switched, all look again at what they may do.
    """

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._pulse = asyncio.Event()
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._inbox = bytearray()
        self._client_done = False
        self._asked = False
        """The client spoke and has not been answered yet."""
        self._unanswered = False
        """A request was passed on and no byte of its answer has been delivered."""
        self._answered = False
        """Something was answered on this connection before."""
        self._abort = False
        self._switches = 0
        self._drawn = 0.0

    @property
    def fault(self) -> Fault:
        """What strikes this connection now: the proxy's fault, if this one is in its share."""
        fault = self._proxy.fault
        return fault if self._drawn < fault.share else Fault.NONE

    def switched(self) -> None:
        self._switches += 1
        self._draw()
        self._wake()

    @property
    def is_idle(self) -> bool:
        """Was answered, and is not asked anything now."""
        return self._answered and not self._asked

    def end(self, *, abort: bool = False) -> None:
        self._abort = self._abort or abort
        self._ended.set()

    async def run(self) -> None:
        """Live until either side, a fault or the proxy ends it. Leaves no task and no socket."""
        try:
            self._draw()
            self._spawn(self._read_client)
            self._spawn(self._forward)
            await self._ended.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._close()

    def _close(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        if self._abort:
            with contextlib.suppress(OSError):
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self._client.close()

    def _draw(self) -> None:
        self._drawn = self._proxy.random.random()
        if self.fault.kind in _ABORTING:
            self.end(abort=True)

    def _spawn(self, pump: Callable[[], Awaitable[bool]]) -> None:
        self._tasks.append(self._loop.create_task(self._ending(pump)))

    async def _ending(self, pump: Callable[[], Awaitable[bool]]) -> None:
        """Run a pump; end the connection if it says so, or if a socket broke under it."""
        try:
            over = await pump()
        except OSError:
            self.end(abort=True)
        else:
            if over:
                self.end()

    # --- what the client says -----------------------------------------------------------------------------------------

    async def _read_client(self) -> bool:
        while True:
            await self._until(lambda: not self._frozen() and len(self._inbox) < HELD_BYTES)
            chunk = await self._loop.sock_recv(self._client, CHUNK_BYTES)
            if not chunk:
                self._client_done = True
                self._wake()
                return False
            self._proxy.counts.bytes_from_clients += len(chunk)
            if not self._asked:
                self._asked = True
                self._proxy.counts.requests += 1
                self._draw()
            self._inbox += chunk
            self._wake()

    async def _forward(self) -> bool:
        while True:
            await self._until(
                lambda: self._client_done or self._may_connect() or self._may_forward() or self._may_answer()
            )
            if self._client_done and (self._upstream is None or self.fault.kind is not FaultKind.NONE):
                return True  # half-closed connections live on without a fault only; under one the client is gone
            if self._may_answer():
                if await self._answer(self.fault):
                    return True
            elif self._may_connect():
                await self._connect()
            elif self._inbox:
                if self.fault.kind is FaultKind.STALE_KEEP_ALIVE and self._answered:
                    self.end(abort=True)
                    return False
                await self._pass_on()
            elif self._upstream is not None:
                self._upstream.shutdown(socket.SHUT_WR)
                return False

    async def _pass_on(self) -> None:
        if self._upstream is None:
            return
        if not self._unanswered:
            self._unanswered = True
            self._proxy.counts.forwarded += 1
        chunk = bytes(self._inbox)
        self._inbox.clear()
        self._wake()
        await self._loop.sock_sendall(self._upstream, chunk)

    async def _connect(self) -> None:
        """Connect to the upstream, whose refusal becomes our reset."""
        upstream = socket.socket(socket.AF_INET6 if ":" in self._proxy.upstream[0] else socket.AF_INET)
        self._upstream = upstream
        upstream.setblocking(False)
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(CONNECT_SECONDS):  # TimeoutError is an OSError
            await self._loop.sock_connect(upstream, self._proxy.upstream)
        self._spawn(partial(self._read_upstream, upstream))

    # --- what is answered ---------------------------------------------------------------------------------------------

    async def _read_upstream(self, upstream: socket.socket) -> bool:
        held = b""
        while True:
            await self._until(lambda: not self._frozen())
            chunk = await self._loop.sock_recv(upstream, CHUNK_BYTES)
            if not chunk:
                await self._until(lambda: not self._holds_answers())
                await self._send(held)
                return True
            held = await self._deliver(held + chunk)
            if self._ended.is_set():
                return False

    async def _deliver(self, chunk: bytes) -> bytes:
        """Send as much as the fault lets through, for as long as it takes. Returns what must wait for more bytes."""
        while chunk:
            fault = self.fault
            if self._holds_answers():
                await self._until(lambda: not self._holds_answers())
            elif fault.kind is FaultKind.LATENCY and self._unanswered:
                await self._pause(fault)
                self._unanswered = False
            elif fault.kind is FaultKind.DRIP:
                await self._send(chunk[:1])
                chunk = chunk[1:]
                await self._pause(fault)
            elif fault.kind is FaultKind.HEADER_STALL:
                chunk = await self._stall(chunk)
            elif fault.kind is FaultKind.TRUNCATE:
                return await self._truncate(chunk)
            else:
                await self._send(chunk)
                return b""
        return b""

    async def _stall(self, chunk: bytes) -> bytes:
        if self._unanswered:
            cut = first_header_end(chunk)
            await self._send(chunk[:cut])
            chunk = chunk[cut:]
        await self._until(lambda: self.fault.kind is not FaultKind.HEADER_STALL)
        return chunk

    async def _truncate(self, chunk: bytes) -> bytes:
        length = half_answer_length(chunk) if self._unanswered else 0
        if length is None or len(chunk) < length:
            return chunk
        await self._send(chunk[:length])
        await self._finish()
        self.end()
        return b""

    async def _answer(self, fault: Fault) -> bool:
        """Answer the request in the inbox ourselves. Returns false if the fault was switched before the first byte."""
        if fault.answer is None or not await self._pause(fault):
            return False
        self._inbox.clear()
        for chunk in fault.answer.chunks():
            await self._send(chunk)
        await self._finish()
        return True

    async def _send(self, chunk: bytes) -> None:
        if chunk:
            self._asked = self._unanswered = False
            self._answered = True
            await self._loop.sock_sendall(self._client, chunk)
            self._proxy.counts.bytes_to_clients += len(chunk)

    async def _finish(self) -> None:
        """Close our side cleanly, and give the client a moment to read and close its own."""
        self._client.shutdown(socket.SHUT_WR)
        await self._until(lambda: self._client_done, seconds=LINGER_SECONDS)

    # --- what may be done now -----------------------------------------------------------------------------------------

    def _frozen(self) -> bool:
        return self.fault.kind is FaultKind.BLACK_HOLE

    def _holds_requests(self) -> bool:
        kind = self.fault.kind
        if kind is FaultKind.TLS_STALL:
            return not self._answered
        return kind in {FaultKind.BLACK_HOLE, FaultKind.SILENCE, FaultKind.ANSWER}

    def _holds_answers(self) -> bool:
        return self._holds_requests() and self.fault.kind is not FaultKind.ANSWER

    def _may_connect(self) -> bool:
        return self._upstream is None and not self._holds_requests()

    def _may_forward(self) -> bool:
        return bool(self._inbox) and not self._holds_requests()

    def _may_answer(self) -> bool:
        return self.fault.kind is FaultKind.ANSWER and is_complete_request(self._inbox)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()

    async def _until(self, condition: Callable[[], bool], *, seconds: float | None = None) -> bool:
        """Wait for a pulse after which the condition holds; false if `seconds` passed first."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._pulse.wait()
        except TimeoutError:
            return False
        return True

    async def _pause(self, fault: Fault) -> bool:
        """Wait as long as the fault asks; false if the fault was switched meanwhile."""
        switches = self._switches
        seconds = fault.seconds + self._proxy.random.random() * fault.jitter_seconds
        return not await self._until(lambda: self._switches != switches, seconds=seconds)
