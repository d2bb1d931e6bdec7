"""The server runner of `serve` and `authd`: uvicorn's protocols under a life cycle of our own.

It owns the signals and the drain, because uvicorn closes sockets with an empty reason, answers pending handshakes with
500, and waits without a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.uvicorn_protocol import make_protocol
from doorward.cli.lifespan import Lifespan
from doorward.cli.process import StopRequest
from doorward.core.deadline import Deadline
from doorward.errors import ConfigError
from doorward.runtime.collector import rare_collections

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from doorward.cli.lifespan import ASGIApp
    from doorward.config import ServeSettings

_log = logging.getLogger(__name__)

_BACKLOG = 4096
_STARTUP_SECONDS = 60.0
_LAST_ANSWERS_SECONDS = 2.0
_POLL_SECONDS = 0.02
_INTERACTIVE_SPREAD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """Seconds. `run_until_seconds` and `exit_seconds` count from the signal.

    unready -> `delay_seconds` (still serving, so that a load balancer sees it) -> sockets closed, spread over
    `spread_seconds` -> runs get until `run_until_seconds` -> exit, at the latest after `exit_seconds`.
    """

    delay_seconds: float = 5.0
    spread_seconds: float = 10.0
    run_until_seconds: float = 25.0
    exit_seconds: float = 30.0

    @classmethod
    def of(cls, settings: ServeSettings) -> DrainPolicy:
        return cls(
            settings.drain_delay_seconds,
            settings.drain_spread_seconds,
            settings.run_until_seconds,
            settings.exit_seconds,
        )


def _do_nothing() -> None:
    """The default of `unready`."""


async def _no_sockets(_spread_seconds: float, _deadline: Deadline) -> None:
    """The default of `drain`."""


async def _no_runs(_deadline: Deadline) -> None:
    """The default of `finish`."""


@dataclass(frozen=True, slots=True)
class DrainHooks:
    """What the application does in a drain. `drain` and `finish` run side by side, after the delay.

    Attributes:
        unready: from now on `/readyz` says no. Never blocks.
        drain: close the sockets, spread over so many seconds, and answer new handshakes with `RESTARTING` from now on.
        finish: wait for what runs, until the deadline; then interrupt it.
    """

    unready: Callable[[], None] = _do_nothing
    drain: Callable[[float, Deadline], Awaitable[None]] = _no_sockets
    finish: Callable[[Deadline], Awaitable[None]] = _no_runs


def bind(host: str, port: int, name: str, *, option: str | None = None) -> socket.socket:
    """The listening socket, not yet listening. Port 0: any free one.

    Args:
        name: `serve` or `authd`; whose settings an error names.
        option: how else the port is chosen, where it is not by `--port` or a setting.

    Raises:
        ConfigError: the port is taken, or the address is not ours.
    """
    variables = f"DOORWARD_{name.upper()}__HOST / DOORWARD_{name.upper()}__PORT"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(
            f"{name}: {host!r} is no address of this machine ({error.strerror}); see {variables}"
        ) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(_why_not_bound(error, host, port, name, option)) from error
    return listener


def _why_not_bound(error: OSError, host: str, port: int, name: str, option: str | None = None) -> str:
    chosen = f"--port or DOORWARD_{name.upper()}__PORT (0 takes any free one)" if option is None else option
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is already in use; stop the program that holds it, or choose another with {chosen}"
        )
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs privileges; choose one above 1023 with {chosen}"
    address = f"--host or DOORWARD_{name.upper()}__HOST"
    return f"{name} cannot listen on port {port} of {host}: {error.strerror}; choose another address with {address}"


def announce(name: str, host: str, port: int) -> None:
    """The one ready line on stdout."""
    shown = f"[{host}]" if ":" in host else host
    print(f"doorward {name} ready http://{shown}:{port} pid={os.getpid()}", flush=True)


class Server:
    """One application on one listening socket, on the loop that starts it."""

    def __init__(self, app: ASGIApp, *, opening: OpeningPolicy, counters: OpeningCounters) -> None:
        self._config = Config(
            app,
            interface="asgi3",
            http=make_protocol(opening, counters),
            ws="websockets-sansio",
            ws_max_size=opening.max_message_bytes,
            ws_per_message_deflate=False,
            ws_ping_interval=opening.ping_seconds,
            ws_ping_timeout=opening.pong_seconds,
            timeout_keep_alive=opening.keep_alive_seconds,
            log_config=None,
            log_level="warning",  # below it uvicorn and websockets log query strings and headers
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._lifespan = Lifespan(app)
        self._listening: asyncio.Server | None = None
        self._date: asyncio.TimerHandle | None = None
        self._stopping = False

    async def start(self, listener: socket.socket) -> None:
        """Start the application, then listen.

        Raises:
            DoorwardError: why the application did not start.

        Cancellation: nothing listens; the application's start is cancelled.
        """
        loop = asyncio.get_running_loop()
        await self._lifespan.startup(_STARTUP_SECONDS)
        self._tick(loop)
        self._listening = await loop.create_server(self._protocol, sock=listener, backlog=_BACKLOG)

    async def stop(self, deadline: Deadline) -> bool:
        """Stop accepting, let the last answers out, cut the rest, end the application. Once; a second call does nothing.

        Returns:
            Whether the application ended well and in time.

        Cancellation: the listener is closed; the rest may be left.
        """
        if self._stopping:
            return True
        self._stopping = True
        loop = asyncio.get_running_loop()
        if self._listening is not None:
            self._listening.close()
        if self._date is not None:
            self._date.cancel()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._emptied(deadline.earlier(loop.time() + _LAST_ANSWERS_SECONDS))
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        ended = await self._lifespan.shutdown(deadline.remaining(loop.time()))
        await self._emptied(deadline.earlier(loop.time() + _LAST_ANSWERS_SECONDS))
        return ended

    async def _emptied(self, deadline: Deadline) -> None:
        loop = asyncio.get_running_loop()
        left = self._state
        while (left.connections or left.tasks) and not deadline.expired(loop.time()):  # noqa: ASYNC110 - sets tell nobody
            await asyncio.sleep(_POLL_SECONDS)

    def _protocol(self) -> asyncio.Protocol:
        make = self._config.http_protocol_class
        return make(config=self._config, server_state=self._state, app_state=self._lifespan.state)  # type: ignore[call-arg]

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._date = loop.call_later(1.0, self._tick, loop)


async def run_server(
    app: ASGIApp,
    *,
    name: str,
    host: str,
    port: int,
    opening: OpeningPolicy | None = None,
    counters: OpeningCounters | None = None,
    drain: DrainPolicy | None = None,
    hooks: DrainHooks | None = None,
    ready: Callable[[str, int], None] | None = None,
    stop: asyncio.Event | None = None,
    listener: socket.socket | None = None,
) -> int:
    """Serve `app` until SIGTERM, SIGINT or `stop`; then drain. Run it with `run_process`.

    Args:
        name: `serve` or `authd`, for the ready line and for errors.
        port: 0 takes a free one.
        ready: called with the host and the real port once requests are accepted, before the ready line is printed.
        listener: what `bind` gave, for an application that must know its port first. Closed at the end.

    Returns:
        The exit code: 0 after a clean drain, 1 if something had to be left behind.

    Raises:
        ConfigError: the port is taken, or the application did not start.

    Cancellation: the listener is closed and the application ended, within two seconds each.
    """
    drain = drain or DrainPolicy()
    listener = listener or bind(host, port, name)
    with contextlib.closing(listener), StopRequest(drain.exit_seconds) as request:
        server = Server(app, opening=opening or OpeningPolicy(), counters=counters or OpeningCounters())
        asked = asyncio.create_task(_asked(request, stop))
        try:
            if not await _unless(asked, server.start(listener)):
                return 0
            real_port = listener.getsockname()[1]
            if ready is not None:
                ready(host, real_port)
            announce(name, host, real_port)
            with rare_collections():
                await asked
            return 0 if await _drain(server, drain, hooks or DrainHooks(), interactive=request.is_interactive) else 1
        finally:
            asked.cancel()
            await server.stop(Deadline.after(asyncio.get_running_loop().time(), _LAST_ANSWERS_SECONDS))


async def _asked(request: StopRequest, stop: asyncio.Event | None) -> None:
    if stop is None:
        await request.wait()
        return
    waits = {asyncio.create_task(request.wait()), asyncio.create_task(stop.wait())}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _unless(asked: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless we are asked to stop before it is done. Says whether it is done."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        task.cancel()


async def _drain(server: Server, policy: DrainPolicy, hooks: DrainHooks, *, interactive: bool) -> bool:
    """The way from the signal to the exit; every step of it has its end. Says whether all ended well."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    run_until = min(policy.run_until_seconds, policy.exit_seconds * 0.8)
    spare = policy.exit_seconds - run_until
    hooks.unready()
    await asyncio.sleep(0 if interactive else min(policy.delay_seconds, run_until))
    spread = min(policy.spread_seconds, _INTERACTIVE_SPREAD_SECONDS) if interactive else policy.spread_seconds
    deadline = Deadline(begun + run_until)
    patience = deadline.remaining(loop.time()) + spare * 0.5
    drained, finished = await asyncio.gather(
        _within(patience, hooks.drain(spread, deadline), "closing the sockets"),
        _within(patience, hooks.finish(deadline), "ending the runs"),
    )
    ended = await server.stop(Deadline(begun + run_until + spare * 0.75))
    return drained and finished and ended


async def _within(seconds: float, work: Awaitable[None], what: str) -> bool:
    """Wait so long and no longer, whatever the work does with its cancellation. Says whether it ended well."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            _log.error("drain: %s took too long and is given up", what)
            return False
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            _log.error("drain: %s failed", what, exc_info=error)
        return error is None
    finally:
        task.cancel()
