"""Structured logs that never block the event loop: lines go to a thread of their own, and are dropped and counted when it cannot
keep up. Tracebacks never show local variables: one of them may be a token.

Our own programs `configure` structlog. In somebody else's process it is theirs: once they have configured it, it gets our lines;
until then our lines are made without it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import time
from typing import IO, Any, Literal, Protocol, TypeVar

import msgspec
import structlog

from doorward.runtime.log import get_logger, write_to

T = TypeVar("T")
Style = Literal["auto", "json", "console"]

MAX_LINES = 10_000
GATHER_SECONDS = 0.1
"""How late a line may be written. Each time the thread wakes, it and the event loop wait for each other: that costs more than the
lines themselves."""

POLL_SECONDS = 0.01
"""How often somebody looks who waits for the thread. It cannot wake an event loop."""

LINES_AT_ONCE = 100
"""So many are made and written without a pause: that is how long the event loop may have to wait for the interpreter."""


Fields = Callable[[T], dict[str, Any]]
"""The fields of a line, of what it is about."""


class _Stream(Protocol):
    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class LogWriter:
    """A stream fed by a daemon thread. `write` never waits, and wakes the thread once for all lines of a moment.

    A line may be a call that makes it: then it is made in the thread. What is lost on the way is counted in `dropped`. Where the
    stream takes nothing, as on a full disk, lines are lost for that long.
    """

    def __init__(self, stream: _Stream) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: deque[str | Callable[[], str]] = deque()
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._writing = False
        self._thread = threading.Thread(target=self._run, name="doorward-log", daemon=True)
        self._thread.start()

    def write(self, line: str | Callable[[], str]) -> None:
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._filled.is_set():
            self._filled.set()

    def flush(self) -> None:
        """Nothing to do: the thread flushes when it has caught up."""

    def aclose(self, *, seconds: float = 1.0) -> None:
        """Write what is there, for at most `seconds`."""
        self._closing = True
        self._hurry.set()
        self._filled.set()
        self._thread.join(timeout=seconds)

    async def written(self, *, seconds: float) -> None:
        """Wait for what is there to be written, for at most `seconds`.

        Cancellation: it is written all the same.
        """
        ends_at = asyncio.get_running_loop().time() + seconds
        self._hurry.set()
        while (self._lines or self._writing) and asyncio.get_running_loop().time() < ends_at:  # noqa: ASYNC110 - see POLL_SECONDS
            await asyncio.sleep(POLL_SECONDS)

    def _run(self) -> None:
        while not self._closing:
            self._filled.wait()
            self._hurry.wait(GATHER_SECONDS)
            self._hurry.clear()
            self._filled.clear()
            self._write_out()
        self._write_out()

    def _write_out(self) -> None:
        self._writing = True
        left = len(self._lines)
        while left > 0:
            lines = [self._made(self._lines.popleft()) for _ in range(min(left, LINES_AT_ONCE))]
            left -= len(lines)
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except Exception:  # noqa: BLE001 - the disk is full, nobody reads any more, or it is a stream of somebody else
                self.dropped += len(lines)
        self._writing = False

    def _made(self, line: str | Callable[[], str]) -> str:
        try:
            return line if isinstance(line, str) else line()
        except Exception:  # noqa: BLE001 - a line that cannot be written must not take with it all that come after it
            self.dropped += 1
            return ""


class _Direct:
    """Writes lines as structlog would, without its detours: for what is logged at every handshake, and in others' processes."""

    def __init__(self, writer: LogWriter, least: int, shown: Callable[[dict[str, Any]], str] | None = None) -> None:
        self.write = writer.write
        self.least = least
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._shown = shown

    def line(self, level: int, event: str, at: float, fields: Fields[T], about: T) -> str:
        line = fields(about)
        line["event"] = event
        line["level"] = _LEVEL_NAMES[level]
        line["timestamp"] = datetime.fromtimestamp(at, UTC)
        return (self._encode(line).decode() if self._shown is None else self._shown(line)) + "\n"


class _Stderr:
    """What `sys.stderr` is when a line is written.

    The process's own is written to without its buffer, whose lock would be kept by a thread that stands in a pipe nobody reads: a
    child that is forked then, or the end of the process, would wait for it.
    """

    def write(self, text: str) -> None:
        stream = sys.stderr
        if stream is not None and stream is not sys.__stderr__:
            stream.write(text)
            stream.flush()
            return
        if stream is None:  # no console, and nowhere else either
            return
        left, fd = memoryview(text.encode(stream.encoding, "backslashreplace")), stream.fileno()
        while left:
            try:
                left = left[os.write(fd, left) :]
            except BlockingIOError:  # somebody made it so, for all that share it
                select.select((), (fd,), ())

    def flush(self) -> None:
        """Nothing is kept back."""


class _OwnLines:
    """The lines of a process whose structlog nobody has configured: the same as `configure` makes, on stderr.

    One for the process, because it has one stderr. The thread begins with the first line, anew in a child that was forked.
    """

    def __init__(self) -> None:
        self._least = logging.INFO
        self._style: Style = "auto"
        self.forked()

    def forked(self) -> None:
        """Threads stay behind, and what they had not written yet is theirs to write."""
        self._making = threading.Lock()
        self._writer: LogWriter | None = None
        self._direct: _Direct | None = None

    def shape(self, level: str, style: Style) -> None:
        self._least = _number_of(level)
        self._style = style
        self._direct = None

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        direct = self._direct or self._made()
        if level >= direct.least:
            direct.write(direct.line(level, event, time(), dict, fields))

    def write_often(self, level: int, event: str, fields: Fields[T], about: T) -> None:
        direct = self._direct or self._made()
        if level >= direct.least:
            direct.write(partial(direct.line, level, event, time(), fields, about))

    async def written(self, *, seconds: float) -> None:
        if self._writer is not None:
            await self._writer.written(seconds=seconds)

    def aclose(self) -> None:
        if self._writer is not None:
            self._writer.aclose()

    def _made(self) -> _Direct:
        with self._making:
            self._writer = self._writer or LogWriter(_Stderr())
            terminal = sys.stderr is not None and sys.stderr.isatty()
            words = _words(terminal) if _in_words(self._style, terminal) else None
            self._direct = made = _Direct(self._writer, self._least, words)
            return made


def _words(colors: bool) -> Callable[[dict[str, Any]], str]:
    render = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)

    def shown(line: dict[str, Any]) -> str:
        line["timestamp"] = line["timestamp"].isoformat().replace("+00:00", "Z")
        return render(None, line["level"], line)

    return shown


def _in_words(style: Style, terminal: bool) -> bool:
    return style == "console" or (style == "auto" and terminal)


def _number_of(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


_LEVEL_NAMES = {number: logging.getLevelName(number).lower() for number in logging.getLevelNamesMapping().values()}
_direct: _Direct | None = None
_log = get_logger("doorward")
_own = _OwnLines()
write_to(_own)
os.register_at_fork(after_in_child=_own.forked)
atexit.register(_own.aclose)


def shape_own(*, level: str, style: Style) -> None:
    """The least level and the style of our lines in a process that has not configured structlog. The last word holds."""
    _own.shape(level, style)


async def own_written(*, seconds: float) -> None:
    """Wait for those lines to be written, for at most `seconds`.

    Cancellation: they are written all the same.
    """
    await _own.written(seconds=seconds)


def log_often(level: int, event: str, fields: Fields[T], about: T) -> None:
    """The line that `get_logger("doorward").log(level, event, **fields(about))` gives, at a fraction of its cost.

    Where structlog is not ours to shape, or is to write in words, it gets the line.

    Args:
        fields: called when the line is written, in the thread that writes; what it returns is the log's from then on.
        about: must not change any more.
    """
    if _direct is not None:
        if level >= _direct.least:
            _direct.write(partial(_direct.line, level, event, time(), fields, about))
    elif structlog.is_configured():
        _log.log(level, event, **fields(about))
    else:
        _own.write_often(level, event, fields, about)


def configure(*, level: str, style: Style, stream: IO[str] | None = None) -> LogWriter:
    """Send structlog, and the standard library's warnings, through one writer."""
    target = stream or sys.stderr
    global _direct
    writer = LogWriter(target)
    atexit.register(writer.aclose)
    least = _number_of(level)
    console = _in_words(style, target.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer(
        colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    if not console:
        renderer = structlog.processors.JSONRenderer(serializer=_json)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    _direct = None if console else _Direct(writer, least)
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)
    return writer


class _ToStructlog(logging.Handler):
    """Foreign loggers (uvicorn, aiohttp, asyncio) in the same shape."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=error)


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
