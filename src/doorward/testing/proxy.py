"""A TCP proxy on loopback whose fault can be switched while connections are open."""

from __future__ import annotations

import asyncio
import random
import socket

from doorward.errors import UsageError
from doorward.testing.connection import ProxiedConnection, ProxyCounts
from doorward.testing.faults import Fault, FaultKind
from doorward.testing.stand_in import StandIn

BACKLOG = 4096
CLOSE_SECONDS = 2.0

_NOT_ACCEPTING = frozenset({FaultKind.REFUSE, FaultKind.BLACK_HOLE})


class FaultProxy(StandIn):
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
        port: 0 takes a free one.
        fault: what holds from the start.
    """

    def __init__(
        self,
        upstream_host: str,
        upstream_port: int,
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        fault: Fault = Fault.NONE,
    ) -> None:
        self.host = host
        self.port = port
        self._wanted_port = port
        self.counts = ProxyCounts()
        self.upstream = (upstream_host, upstream_port)
        self.random = random.Random(seed)
        self._fault = fault
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._reservation: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._connections: dict[asyncio.Task[None], ProxiedConnection] = {}

    async def start(self) -> None:
        """Take the port and listen."""
        if self._reservation is not None:
            raise UsageError("the proxy is already running")
        self._reservation = self._bound(self._wanted_port)
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

    def lead_to(self, upstream_port: int, upstream_host: str = "127.0.0.1") -> None:
        """Where bytes of new connections go from now on: the server came back elsewhere."""
        self.upstream = (upstream_host, upstream_port)

    def cut_idle(self) -> None:
        """Reset the connections that are kept alive and on which nothing is asked now: whoever asks next needs a new one."""
        for connection in self._connections.values():
            if connection.is_idle:
                connection.end(abort=True)

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
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # else a known port is blocked by what was just closed
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
            connection = ProxiedConnection(self, client)
            task = asyncio.get_running_loop().create_task(connection.run())
            self._connections[task] = connection
            task.add_done_callback(self._connections.pop)
