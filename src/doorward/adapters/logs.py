"""Structured logs that never block the event loop: lines go to a thread of their own, and are dropped and counted when it cannot
keep up. Tracebacks never show local variables: one of them may be a token.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import IO, Any, Literal

import msgspec
import structlog

MAX_LINES = 10_000


class LogWriter:
    """A stream fed by a daemon thread. `write` never waits."""

    def __init__(self, stream: IO[str]) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
        self._thread = threading.Thread(target=self._run, name="doorward-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def flush(self) -> None:
        """Nothing to do: the thread flushes when it has caught up."""

    def aclose(self, *, seconds: float = 1.0) -> None:
        """Write what is there, for at most `seconds`."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line)
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads any more


def configure(*, level: str, style: Literal["auto", "json", "console"], stream: IO[str] | None = None) -> LogWriter:
    """Send structlog, and the standard library's warnings, through one writer."""
    target = stream or sys.stderr
    writer = LogWriter(target)
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
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)
    return writer


class _ToStructlog(logging.Handler):
    """Foreign loggers (uvicorn, aiohttp, asyncio) in the same shape."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
