"""The door's own lines: whose they are, and what never comes of them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from tests.log_support import structlog_as

from doorward.runtime import log
from doorward.runtime.log import get_logger, raised_at, write_to


class Kept:
    """Our own lines, where nobody has configured structlog."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, dict[str, Any]]] = []

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        self.lines.append((level, event, fields))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    before, kept = log._own, Kept()
    monkeypatch.setattr(log, "_said_lost", False)
    write_to(kept)
    with structlog_as():
        yield kept
    if before is not None:
        write_to(before)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_a_process_without_a_configuration_gets_our_own_lines_and_keeps_it_so(own: Kept, level: str) -> None:
    getattr(get_logger("doorward"), level)("a line", id="d")
    assert own.lines == [(logging.getLevelNamesMapping()[level.upper()], "a line", {"id": "d"})]
    assert not structlog.is_configured()


def test_once_structlog_is_configured_it_gets_the_lines(own: Kept) -> None:
    """Also when that happens after the logger was made and used."""
    ours = get_logger("doorward")
    ours.info("before")
    out = io.StringIO()
    with structlog_as(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(out),
    ):
        ours.warning("after", id="d")
    assert [event for _, event, _ in own.lines] == ["before"]
    assert out.getvalue() == '{"id": "d", "event": "after", "level": "warning"}\n'


def test_a_processor_that_raises_is_told_of_once_and_raises_nowhere(own: Kept) -> None:
    def broken(*_: object) -> str:
        raise KeyError("a-secret")

    ours = get_logger("doorward")
    with structlog_as(processors=[broken]):
        for _ in range(3):
            ours.error("a line")
    assert [(level, fields["error"]) for level, _, fields in own.lines] == [(logging.ERROR, "KeyError")]
    assert own.lines[0][2]["where"].endswith(" in broken")
    assert "a-secret" not in str(own.lines)


def test_where_nothing_can_be_written_nothing_is_raised(own: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(level: int, event: str, fields: dict[str, Any]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(own, "write", write)
    get_logger("doorward").error("a line")


def test_a_traceback_has_no_local_variables(own: Kept) -> None:
    out = io.StringIO()
    token = "a-secret"
    with structlog_as(logger_factory=structlog.PrintLoggerFactory(out)):
        try:
            int(token[2:])
        except ValueError:
            get_logger("doorward").exception("a bug")
    assert "Traceback" in out.getvalue()
    assert "ValueError: invalid literal" in out.getvalue()
    assert token not in out.getvalue()


def test_an_error_that_was_never_raised_was_raised_nowhere() -> None:
    assert raised_at(ValueError("never raised")) == ""
