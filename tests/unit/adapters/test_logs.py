"""Lines that are made where they are written, in a thread of their own."""

from __future__ import annotations

import errno
import io
import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from doorward.adapters import logs
from doorward.adapters.logs import LogWriter, configure, log_often


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process would write; afterwards logs are as they were."""
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(logs, "_direct", None)
    yield io.StringIO()
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_line_is_the_one_that_structlog_gives(said: io.StringIO) -> None:
    writer = configure(level="info", style="json", stream=said)
    structlog.get_logger("doorward").warning("decision", id="d", ms=1.5, timeline={"open": 0.1})
    log_often(logging.WARNING, "decision", lambda ms: {"id": "d", "ms": ms, "timeline": {"open": 0.1}}, 1.5)
    writer.aclose()
    other, ours = lines(said)
    assert list(ours) == list(other)
    assert {**ours, "timestamp": ""} == {**other, "timestamp": ""}
    assert ours["timestamp"].endswith("Z")
    assert ours["timestamp"][:16] == other["timestamp"][:16]


def test_a_level_that_is_not_wanted_makes_no_line(said: io.StringIO) -> None:
    writer = configure(level="warning", style="json", stream=said)
    log_often(logging.INFO, "decision", lambda _: pytest.fail("nobody asked"), None)
    log_often(logging.WARNING, "decision", lambda number: {"number": number}, 7)
    writer.aclose()
    assert [line["number"] for line in lines(said)] == [7]
    assert writer.dropped == 0


def test_in_words_it_is_structlog_that_writes(said: io.StringIO) -> None:
    writer = configure(level="info", style="console", stream=said)
    log_often(logging.INFO, "decision", lambda number: {"number": number}, 7)
    writer.aclose()
    assert "number=7" in said.getvalue()


def test_it_is_made_in_the_thread_that_writes(said: io.StringIO) -> None:
    writer, made_in = LogWriter(said), []

    def line() -> str:
        made_in.append(threading.current_thread())
        return "two\n"

    for each in ("one\n", line, "three\n"):
        writer.write(each)
    writer.aclose()
    assert made_in[0] is not threading.current_thread()
    assert said.getvalue() == "one\ntwo\nthree\n"


def test_a_line_that_cannot_be_made_is_counted_and_the_next_ones_come(said: io.StringIO) -> None:
    writer = configure(level="info", style="json", stream=said)
    for text in ("one", "\ud800", "three"):
        log_often(logging.INFO, "decision", lambda text: {"text": text}, text)
    writer.aclose()
    assert [line["text"] for line in lines(said)] == ["one", "three"]
    assert writer.dropped == 1


def test_more_lines_than_there_is_room_for_are_counted(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LINES", 2)
    writer = LogWriter(said)
    for number in range(5):
        writer.write(f"{number}\n")
    writer.aclose()
    assert said.getvalue() == "0\n1\n"
    assert writer.dropped == 3


def test_a_full_disk_costs_its_own_lines_and_no_others() -> None:
    class Disk(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            tried.set()
            if self.full:
                raise OSError(errno.ENOSPC, "no space left on device")
            return super().write(text)

    disk, tried = Disk(), threading.Event()
    writer = LogWriter(disk)
    writer.write("lost\n")
    assert tried.wait(10)
    disk.full = False
    writer.write("kept\n")
    writer.aclose(seconds=10)
    assert disk.getvalue() == "kept\n"
    assert writer.dropped == 1


async def test_who_waits_for_the_last_line_does_not_wait_for_ever(said: io.StringIO) -> None:
    class Unread(io.StringIO):
        def write(self, text: str) -> int:
            read.wait(10)
            return said.write(text)

    read = threading.Event()
    writer = LogWriter(Unread())
    writer.write("one\n")
    await writer.written(seconds=0.05)
    assert said.getvalue() == ""
    read.set()
    await writer.written(seconds=10)
    assert said.getvalue() == "one\n"
    writer.aclose()


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("", ["warning first", "error second"]),
        ("shape_own(level='error', style='json')", ["error second"]),
        ("shape_own(level='info', style='console')", ["[warning  ] first", "[error    ] second"]),
    ],
)
def test_a_process_that_configures_nothing_has_them_on_stderr(program: str, shown: list[str]) -> None:
    """As they are at its end: nobody waited for the thread. Its structlog and its stdout stay its own."""
    log = """
        log_often(logging.INFO if 'info' in sys.argv else logging.WARNING, 'first', dict, {})
        get_logger('doorward').error('second')
        assert not structlog.is_configured()
    """
    out, errors = spoken(program + "\n" + textwrap.dedent(log))
    assert out == ""
    found = errors.splitlines()
    if errors.startswith("{"):
        found = [f"{line['level']} {line['event']}" for line in map(json.loads, found)]
    assert len(found) == len(shown)
    assert all(line.rstrip().endswith(words) for line, words in zip(found, shown, strict=True))


def test_a_forked_child_writes_its_own_lines_and_no_others() -> None:
    """Servers fork their workers from a process that has made the door, and has spoken already."""
    _, errors = spoken("""
        get_logger('doorward').error('parent')
        child = os.fork()
        if child == 0:
            get_logger('doorward').error('child')
            sys.exit()
        os.waitpid(child, 0)
    """)
    assert sorted(json.loads(line)["event"] for line in errors.splitlines()) == ["child", "parent"]


def test_a_stderr_that_is_full_for_a_moment_loses_nothing() -> None:
    """Somebody who shares it made it so that it does not wait; what is written at once is more than a pipe holds."""
    _, errors = spoken("""
        os.set_blocking(2, False)
        for number in range(300):
            get_logger('doorward').error('x' * 1000, number=number)
        asyncio.run(own_written(seconds=30))
    """)
    assert [json.loads(line)["number"] for line in errors.splitlines()] == list(range(300))


def test_without_a_stderr_there_are_no_lines_and_no_errors() -> None:
    assert spoken("sys.stderr = None\nget_logger('doorward').error('nobody hears it')") == ("", "")


def spoken(program: str) -> tuple[str, str]:
    """What a process of its own says on stdout and on stderr."""
    names = "import asyncio, logging, os, sys, structlog\nfrom doorward.adapters.logs import *\n"
    command = [sys.executable, "-W", "ignore", "-c", names + textwrap.dedent(program)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return ended.stdout, ended.stderr


def test_many_lines_are_written_in_order_and_a_few_at_a_time(said: io.StringIO) -> None:
    class Noted(io.StringIO):
        def write(self, text: str) -> int:
            sizes.append(text.count("\n"))
            return said.write(text)

    sizes: list[int] = []
    writer = LogWriter(Noted())
    for number in range(5 * logs.LINES_AT_ONCE // 2):
        writer.write(f"{number}\n")
    writer.aclose()
    assert said.getvalue().split() == [str(number) for number in range(5 * logs.LINES_AT_ONCE // 2)]
    assert max(sizes) <= logs.LINES_AT_ONCE
