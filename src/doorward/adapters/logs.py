"""Structured logs that never block the event loop: lines go to a thread of their own, and are dropped and counted when it cannot
keep up. Tracebacks never show local variables: one of them may be a token.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from time import time
from typing import IO, Any, Literal, TypeVar

import msgspec
import structlog

T = TypeVar("T")

MAX_LINES = 10_000
GATHER_SECONDS = 0.1
"""How late a line may be written. Each time the thread wakes, it and the event loop wait for each other: that costs more than the
lines themselves."""

LINES_AT_ONCE = 100
"""So many are made and written without a pause: that is how long the event loop may have to wait for the interpreter."""


Fields = Callable[[T], dict[str, Any]]
"""The fields of a line, of what it is about."""


class LogWriter:
    """A stream fed by a daemon thread. `write` never waits, and wakes the thread once for all lines of a moment.

    A line may be a call that makes it: then it is made in the thread. What is lost on the way is counted in `dropped`.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: deque[str | Callable[[], str]] = deque()
        self._filled = threading.Event()
        self._closing = threading.Event()
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
        self._closing.set()
        self._filled.set()
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._filled.wait()
                self._closing.wait(GATHER_SECONDS)
                self._filled.clear()
                self._write_out()
            self._write_out()
        except (OSError, ValueError):
            return  # nobody reads any more

    def _write_out(self) -> None:
        left = len(self._lines)
        while left > 0:
            lines = [self._made(self._lines.popleft()) for _ in range(min(left, LINES_AT_ONCE))]
            self._stream.write("".join(lines))
            self._stream.flush()
            left -= len(lines)

    def _made(self, line: str | Callable[[], str]) -> str:
        try:
            return line if isinstance(line, str) else line()
        except Exception:  # noqa: BLE001 - a line that cannot be written must not take with it all that come after it
            self.dropped += 1
            return ""


class _Direct:
    """Writes JSON lines as structlog would, without its detours: for what is logged at every handshake."""

    def __init__(self, writer: LogWriter, least: int) -> None:
        self.write = writer.write
        self.least = least
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def line(self, level: int, event: str, at: float, fields: Fields[T], about: T) -> str:
        line = fields(about)
        line["event"] = event
        line["level"] = _LEVEL_NAMES[level]
        line["timestamp"] = datetime.fromtimestamp(at, UTC)
        return self._encode(line).decode() + "\n"


_LEVEL_NAMES = {number: logging.getLevelName(number).lower() for number in logging.getLevelNamesMapping().values()}
_direct: _Direct | None = None


def log_often(level: int, event: str, fields: Fields[T], about: T) -> None:
    """The line that `structlog.get_logger("doorward").log(level, event, **fields(about))` gives, at a fraction of its cost.

    Where the logs are not ours to shape (no `configure`, or its console style), structlog gets it.

    Args:
        fields: called when the line is written, in the thread that writes; what it returns is the log's from then on.
        about: must not change any more.
    """
    if _direct is None:
        structlog.get_logger("doorward").log(level, event, **fields(about))
    elif level >= _direct.least:
        _direct.write(partial(_direct.line, level, event, time(), fields, about))


def configure(*, level: str, style: Literal["auto", "json", "console"], stream: IO[str] | None = None) -> LogWriter:
    """Send structlog, and the standard library's warnings, through one writer."""
    target = stream or sys.stderr
    global _direct
    writer = LogWriter(target)
    atexit.register(writer.aclose)
    least = logging.getLevelNamesMapping()[level.upper()]
    console = style == "console" or (style == "auto" and target.isatty())
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
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
