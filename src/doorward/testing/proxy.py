"""A TCP proxy on loopback whose fault can be switched while connections are open."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from doorward.errors import UsageError
from doorward.testing.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

CHUNK_BYTES = 64 * 1024
HELD_BYTES = 256 * 1024
"""So much of a client's bytes is read ahead; then its own sends block."""

BACKLOG = 4096
CONNECT_SECONDS = 5.0
LINGER_SECONDS = 1.0
"""After a last answer the client has this long to close its side."""

CLOSE_SECONDS = 2.0

_RST_ON_CLOSE = struct.pack("ii", 1, 0)
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_ABORTING = frozenset({FaultKind.RESET, FaultKind.REFUSE})
_NOT_ACCEPTING = frozenset({FaultKind.REFUSE, FaultKind.BLACK_HOLE})


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


class FaultProxy:
    """Stands between a client and a server on loopback, and breaks what passes as `fault` says.

    ```python
    async with FaultProxy(auth.host, auth.port) as proxy:
        settings = Settings(auth={"url": proxy.url})
        proxy.fault = Fault.SILENCE      # strikes open connections too
        proxy.fault = Fault.NONE         # healed
    ```

    Args:
        upstream_host: where bytes go.
        upstream_port: and its port.
        seed: decides jitter and shares; the same seed and the same order of events give the same draws.
        host: the loopback address to listen on.
        fault: what holds from the start.
    """

    def __init__(
        self,
        upstream_host: str,
        upstream_port: int,
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        fault: Fault = Fault.NONE,
    ) -> None:
        self.host = host
        self.port = 0
        self.counts = ProxyCounts()
        self.upstream = (upstream_host, upstream_port)
        self.random = random.Random(seed)
        self._fault = fault
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._reservation: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Take a free port and listen."""
        if self._reservation is not None:
            raise UsageError("the proxy is already running")
        self._reservation = self._bound(0)
        self.port = self._reservation.getsockname()[1]
        self._listen()

    async def aclose(self) -> None:
        """Give the port back and cut every connection.

        Cancellation: the port is free, connections end by themselves in the next turns of the loop.
        """
        self._stop_listening()
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None
        for connection in self._connections.values():
            connection.end()
        if self._connections:
            await asyncio.wait(self._connections, timeout=CLOSE_SECONDS)

    @property
    def url(self) -> str:
        """The plain HTTP base URL of the proxy."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    @property
    def fault(self) -> Fault:
        """What is broken now. Setting it works at once, on open connections too; `FaultKind` says how for each."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        if self._reservation is not None and {before.kind, fault.kind} & _NOT_ACCEPTING:
            self._accept_waiting()
            self._stop_listening()
            self._listen()
        for connection in self._connections.values():
            connection.switched()

    def _bound(self, port: int) -> socket.socket:
        """A socket on our port. All of ours may share it, so that the port stays ours while nobody listens."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.setblocking(False)
            sock.bind((self.host, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _listen(self) -> None:
        if self._fault.kind is FaultKind.REFUSE:
            return
        self._listener = self._bound(self.port)
        if self._fault.kind is FaultKind.BLACK_HOLE:
            self._fill_backlog(self._listener)
        else:
            self._listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener, self._accept_waiting)

    def _fill_backlog(self, listener: socket.socket) -> None:
        """With a full backlog that nobody accepts from, the kernel drops every further SYN."""
        listener.listen(0)
        for _ in range(3):
            filler = socket.socket(self._family, socket.SOCK_STREAM)
            self._fillers.append(filler)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        while self._fillers:
            self._fillers.pop().close()

    def _accept_waiting(self) -> None:
        if self._listener is None or self._fillers:
            return
        for _ in range(BACKLOG):
            try:
                client, _address = self._listener.accept()
            except OSError:  # none left (BlockingIOError), or one that left before we came
                return
            self.counts.connections += 1
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client)
            task = asyncio.get_running_loop().create_task(connection.run())
            self._connections[task] = connection
            task.add_done_callback(self._connections.pop)


class _Connection:
    """One client: a reader, a forwarder and, once the upstream is connected, an answerer.

    They share one pulse: whenever bytes came or the fault was switched, all look again at what they may do.
    """

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
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
            if self._client_done and (self._upstream is None or self._holds_requests()):
                return True
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
            cut = _first_header_end(chunk)
            await self._send(chunk[:cut])
            chunk = chunk[cut:]
        await self._until(lambda: self.fault.kind is not FaultKind.HEADER_STALL)
        return chunk

    async def _truncate(self, chunk: bytes) -> bytes:
        length = _half_answer_length(chunk) if self._unanswered else 0
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
        return self.fault.kind is FaultKind.ANSWER and _is_complete_request(self._inbox)

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


def _first_header_end(answer: bytes) -> int:
    """Where the first header line ends; half of the answer if it is no HTTP."""
    status_end = answer.find(b"\r\n")
    header_end = answer.find(b"\r\n", status_end + 2)
    return header_end + 2 if 0 <= status_end < header_end else len(answer) // 2


def _half_answer_length(answer: bytes) -> int | None:
    """The length of the head and half the body; `None` while the head is incomplete.

    Without a length, half of what is there; without a body, half the head.
    """
    head, end, rest = answer.partition(b"\r\n\r\n")
    if not end:
        return None if len(answer) < CHUNK_BYTES else len(answer) // 2
    found = _CONTENT_LENGTH.search(head + b"\r\n")
    length = int(found.group(1)) if found else len(rest)
    return len(head) + len(end) + length // 2 if length else len(head) // 2


def _is_complete_request(inbox: bytearray) -> bool:
    head, end, rest = inbox.partition(b"\r\n\r\n")
    if not end:
        return len(inbox) >= HELD_BYTES
    found = _CONTENT_LENGTH.search(head + b"\r\n")
    return len(rest) >= (int(found.group(1)) if found else 0) or len(inbox) >= HELD_BYTES
