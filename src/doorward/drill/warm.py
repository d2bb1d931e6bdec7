"""Doors that start at once: `python -m doorward.drill.warm SOCKET` loads `doorward serve`, and forks for each that is asked for.

A drill starts a door for each scenario, and most of a start is loading. What comes out is a process of its own, with its own
memory, files and end, as `python -m doorward serve` is one. Whoever connects to the socket sends one order, and gets the door's
stdout and at its end `ended with CODE`. To hang up is to kill the door; the end of our stdin kills all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

import msgspec

LOADED: Final = ("doorward.cli.app", "doorward.cli.serve", "uvloop")
START_SECONDS: Final = 60.0
ORDER_SECONDS: Final = 5.0
END_SECONDS: Final = 5.0
ORDER_BYTES: Final = 1 << 16
READY: Final = "ready\n"
_ENDED = b"ended with "


class Order(msgspec.Struct, frozen=True):
    """A door to start. `stderr`: a file that it is appended to."""

    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    stderr: str


class WarmProcess:
    """A door that was forked; as much of `asyncio.subprocess.Process` as its user needs."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.stdout = asyncio.StreamReader()
        self.returncode: int | None = None
        self._life = asyncio.create_task(self._live(reader, writer))

    async def wait(self) -> int:
        """Until it has ended: its exit code, or less than 0 and the signal.

        Cancellation: it goes on.
        """
        return await asyncio.shield(self._life)

    async def _live(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        try:
            while (line := await reader.readline()) and not line.startswith(_ENDED):
                self.stdout.feed_data(line)
        except OSError:
            line = b""
        finally:
            writer.close()
            self.stdout.feed_eof()
        self.returncode = int(line.removeprefix(_ENDED)) if line else -signal.SIGKILL  # no line: its parent is gone
        return self.returncode


async def started(path: Path, order: Order) -> WarmProcess:
    """A door from the process that listens at `path`.

    Raises:
        OSError: it does not listen, is gone, or has not answered within `START_SECONDS`.

    Cancellation: the door is killed.
    """
    async with asyncio.timeout(START_SECONDS):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(msgspec.json.encode(order) + b"\n")
            await writer.drain()
            line = await reader.readline()
        except BaseException:
            writer.close()
            raise
    if not line:
        writer.close()
        raise ConnectionResetError(f"{path}: no door was started")
    return WarmProcess(int(line), reader, writer)


@asynccontextmanager
async def warmed_up(path: Path, environment: Mapping[str, str]) -> AsyncIterator[bool]:
    """Have doors started at `path`, while entered. `False`: that cannot be had here, and each is to be started by its command."""
    if sys.platform != "linux":  # elsewhere a fork without an exec is not safe, or not there
        yield False
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "doorward.drill.warm",
        str(path),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # with its doors, so that they can be ended together
    )
    try:
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline() if process.stdout is not None else b""
        yield line == READY.encode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()


def main() -> None:
    """Load, listen, fork. Returns in each door, when it has ended."""
    gc.disable()
    for name in LOADED:
        with contextlib.suppress(ImportError):
            import_module(name)
    gc.freeze()
    gc.enable()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(socket.SOMAXCONN)
        sys.stdout.write(READY)
        sys.stdout.flush()
        order = _Parent(listener).forked()
    if order is not None:
        _become(order)


class _Parent:
    """Forks doors, and hears of their ends."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._doors: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waking = socket.socketpair()
        for end in (self._woken, self._waking):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        for readable in (listener, self._woken, sys.stdin):
            self._selector.register(readable, selectors.EVENT_READ)

    def forked(self) -> Order | None:
        """In each child: what it is to become. `None` in the parent, when nobody needs doors any more."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    self._kill_all()
                    return None
                if key.fileobj is self._woken:
                    self._woken.recv(ORDER_BYTES)
                    self._reap()
                elif key.fileobj is self._listener:
                    order = self._served(self._listener.accept()[0])
                    if order is not None:
                        return order
                elif isinstance(key.fileobj, socket.socket):
                    self._hung_up(key.fileobj)

    def _served(self, connection: socket.socket) -> Order | None:
        order = _order_on(connection)
        if order is None:
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            self._leave(connection)
            return order
        self._doors[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ)
        return None

    def _leave(self, connection: socket.socket) -> None:
        """In the child: nothing of the parent's is kept open, and `connection` is stdout."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        os.dup2(connection.fileno(), sys.stdout.fileno())
        for each in (self._woken, self._waking, connection, *self._doors.values()):
            each.close()
        sys.stdout.write(f"{os.getpid()}\n")
        sys.stdout.flush()

    def _hung_up(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        for pid, other in self._doors.items():
            if other is connection:
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self._doors.pop(ended[0])
                with contextlib.suppress(KeyError):
                    self._selector.unregister(connection)
                with contextlib.suppress(OSError):
                    connection.sendall(_ENDED + b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
                connection.close()

    def _kill_all(self) -> None:
        for pid in self._doors:
            os.kill(pid, signal.SIGKILL)


def _order_on(connection: socket.socket) -> Order | None:
    """One line; it comes at once, or never."""
    connection.settimeout(ORDER_SECONDS)
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) < ORDER_BYTES:
            part = connection.recv(ORDER_BYTES)
            if not part:
                return None
            line += part
        connection.settimeout(None)
        return msgspec.json.decode(line, type=Order)
    except (OSError, msgspec.DecodeError):
        return None


def _become(order: Order) -> None:
    """`python -m doorward ...`, in this process."""
    with open(os.devnull) as nothing, open(order.stderr, "ab") as errors:
        os.dup2(nothing.fileno(), sys.stdin.fileno())
        os.dup2(errors.fileno(), sys.stderr.fileno())
    os.chdir(order.folder)
    os.environ.clear()  # noqa: TID251 - from here on it is the door's
    os.environ.update(order.environment)  # noqa: TID251
    sys.argv[1:] = order.arguments
    runpy.run_module("doorward", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
