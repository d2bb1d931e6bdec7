"""The log of a thread is bounded, also where the thread never rests."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.chat_support import Person, ScriptedAgent, echo

from doorward.chat.commands import RunStart
from doorward.chat.eventlog import EventLog, Retention
from doorward.chat.limits import ChatLimits
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.service import Chat
from doorward.chat.threads import Thread
from doorward.core.deadline import Deadline
from doorward.errors import StoreError
from doorward.testing.waiting import eventually

RETAINED = 60
UNTIDIED = 40
WORDS = " ".join(["word"] * 10)
RUN_EVENTS = 14
TIDIED_RUN_EVENTS = 5
LIMITS = ChatLimits(untidied_events=UNTIDIED, housekeeping_seconds=3_600)


@asynccontextmanager
async def opened(path: Path | None, log: EventLog | None = None) -> AsyncIterator[tuple[Chat, Thread]]:
    """The wall clock stands still: no thread ever rests, or was not seen for long."""
    retention = Retention(RETAINED, 1_000.0)
    chat = Chat(ScriptedAgent(echo), limits=LIMITS, file=path, retention=retention, log=log, wall=lambda: 1_000.0)
    await chat.open()
    try:
        thread = await chat.threads.open("t", "alice")
        assert isinstance(thread, Thread)
        yield chat, thread
    finally:
        await chat.drain(Deadline(0.0))
        await chat.aclose()


async def ask(chat: Chat, thread: Thread, number: int) -> None:
    _, run = await chat.runs.start(thread, RunStart("c", thread.id, f"r{number}", WORDS), Person())
    assert run is not None
    await eventually(lambda: run.ended.is_set(), what="the run has ended")


def stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM log_events WHERE thread_id = 't'").fetchone()[0])


async def test_a_thread_that_never_rests_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "data" / "chat.sqlite3"
    sizes: list[int] = []
    async with opened(path) as (chat, thread):
        for number in range(60):
            await ask(chat, thread, number)
            sizes.append(stored(path))
        assert thread.folded_seq == 60 * RUN_EVENTS
    assert max(sizes) <= RETAINED + UNTIDIED + RUN_EVENTS
    assert sizes[-1] > RETAINED - UNTIDIED, "and what may be kept is"
    assert max(sizes[:4]) > 2 * RUN_EVENTS, "it is not tidied all the time"


async def test_a_thread_that_was_put_away_goes_on_counting_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "data" / "chat.sqlite3"
    for number in range(8):
        async with opened(path) as (chat, thread):
            await ask(chat, thread, number)
    assert stored(path) < 8 * RUN_EVENTS - UNTIDIED, "it was tidied, though no process saw more than one run"


async def test_housekeeping_does_what_was_left(tmp_path: Path) -> None:
    path = tmp_path / "data" / "chat.sqlite3"
    async with opened(path) as (chat, thread):
        thread.tidied_seq = 10_000
        for number in range(4):
            await ask(chat, thread, number)
        assert stored(path) == 4 * RUN_EVENTS
        assert await chat.tidying.resting() == 1
        assert stored(path) == 4 * TIDIED_RUN_EVENTS
        assert await chat.tidying.resting() == 0


class Untidy(MemoryEventLog):
    """A log whose disk is full."""

    async def tidy(self, thread_id: str, *, up_to: int) -> None:
        raise StoreError("disk full")


async def test_a_log_that_cannot_be_tidied_stops_no_run() -> None:
    async with opened(None, Untidy(wall=lambda: 1_000.0)) as (chat, thread):
        with capture_logs() as lines:
            for number in range(4):
                await ask(chat, thread, number)
        assert thread.active is None
        assert "disk full" in {line.get("error") for line in lines}
        with pytest.raises(StoreError):
            await chat.tidying.resting()


class Sick(MemoryEventLog):
    """A log that nobody has thought of, for one thread."""

    def __init__(self) -> None:
        super().__init__(wall=lambda: 1_000.0)
        self.tidied: list[str] = []

    async def tidy(self, thread_id: str, *, up_to: int) -> None:
        if thread_id == "t":
            raise RuntimeError("what nobody thought of")
        self.tidied.append(thread_id)


async def test_a_log_that_fails_for_one_thread_is_told_of_once_and_holds_up_no_other() -> None:
    async with opened(None, sick := Sick()) as (chat, thread):
        other = await chat.threads.open("u", "bob")
        assert isinstance(other, Thread)
        thread.tidied_seq = other.tidied_seq = 10_000
        for number in range(4):
            await ask(chat, thread, number)
            await ask(chat, other, number)
        with capture_logs() as lines:
            assert await chat.tidying.resting() == 2
            assert await chat.tidying.resting() == 0
        assert [line["thread_id"] for line in lines if line["event"] == "chat.not_tidied"] == ["t"]
        assert sick.tidied == ["u"]
