"""The door's own log lines: whoever gets them, a line never raises into what it tells of, and never shows a local variable.

A process that has configured structlog gets them by that configuration; any other by `Lines`, and its structlog stays as it is.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from types import TracebackType
from typing import Any, Protocol

import structlog


class Lines(Protocol):
    """Where lines go in a process that has not configured structlog. Never blocks."""

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None: ...


class Logger:
    """As structlog's, with what the door needs of it. No exception leaves it: a full disk is no reason to answer nobody."""

    def __init__(self, name: str) -> None:
        self._theirs = structlog.get_logger(name)

    def debug(self, event: str, /, **fields: Any) -> None:
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self.log(logging.ERROR, event, **fields)

    def critical(self, event: str, /, **fields: Any) -> None:
        self.log(logging.CRITICAL, event, **fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self.log(logging.ERROR, event, exc_info=sys.exception(), **fields)

    def log(self, level: int, event: str, /, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """A line; with the traceback of `exc_info`."""
        try:
            if exc_info is not None:
                fields["exception"] = _plain(exc_info)
            if _own is None or structlog.is_configured():
                getattr(self._theirs, _METHODS[level])(event, **fields)
            else:
                _own.write(level, event, fields)
        except Exception as error:  # noqa: BLE001 - processors are the user's, and may raise anything
            _lost(error)


_METHODS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}
_own: Lines | None = None
_said_lost = False


def get_logger(name: str) -> Logger:
    return Logger(name)


def write_to(lines: Lines) -> None:
    """From now on, where structlog is not configured."""
    global _own
    _own = lines


def _lost(error: Exception) -> None:
    """Said once a process: it would be said of every line."""
    global _said_lost
    if _own is not None and not _said_lost:
        _said_lost = True
        fields = {"error": type(error).__name__, "where": raised_at(error)}
        with suppress(Exception):
            _own.write(logging.ERROR, "structlog, as it is configured here, could not log a line", fields)


def raised_at(error: BaseException) -> str:
    """Where, in frames alone: of the first one that is not the door's, and of the last. Values and messages may hold a token."""
    frames = list(_frames(error.__traceback__))
    foreign = [text for module, text in frames if module.partition(".")[0] != "doorward"]
    shown = foreign or [text for _, text in frames[-1:]]
    return " > ".join(dict.fromkeys(shown[:1] + shown[-1:]))


def _frames(tb: TracebackType | None) -> Iterator[tuple[str, str]]:
    while tb is not None:
        frame, code = tb.tb_frame, tb.tb_frame.f_code
        yield (
            frame.f_globals.get("__name__") or "",
            f"{PurePath(code.co_filename).name}:{tb.tb_lineno} in {code.co_name}",
        )
        tb = tb.tb_next


def _plain(error: BaseException) -> str:
    """structlog's own way shows local variables where `rich` is installed, and one of them may be a token."""
    return "".join(traceback.format_exception(error)).rstrip("\n")
