from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from ag_ui.core import AssistantMessage, UserMessage

from doorward.chat.commands import ErrorCode, Fault
from doorward.chat.database import ChatDatabase
from doorward.chat.eventlog import LeaseLost, OutOfWindow
from doorward.chat.limits import ChatLimits
from doorward.chat.mailbox import Ending
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.notices import Notices
from doorward.chat.store import ChatStore, EndedRun, StoredRun
from doorward.chat.threads import Thread, Threads
from doorward.chat.transcript import Message

LIMITS = ChatLimits(threads=4, idle_threads=3, reap_seconds=0.2)


@dataclass(eq=False)
class Heard:
    """A socket of one user that only listens."""

    notices: list[dict[str, Any]] = field(default_factory=list)

    def post(self, subject: str, text: bytes) -> None:
        self.notices.append(json.loads(text))


class Bench:
    """Threads on a database in memory."""

    def __init__(self, database: ChatDatabase) -> None:
        self.store = ChatStore(database, wall=lambda: 12.5, recent_messages=9, recent_runs=9, threads_per_user=6)
        self.log = MemoryEventLog(wall=lambda: 12.5)
        self.notices = Notices()
        self.threads = Threads(self.store, self.log, LIMITS, self.notices)

    async def opened(self, thread_id: str, user_id: str = "alice") -> Thread:
        thread = await self.threads.open(thread_id, user_id)
        assert isinstance(thread, Thread)
        return thread


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    database = ChatDatabase()
    await database.open()
    yield Bench(database)
    await database.aclose()


def code(outcome: object) -> ErrorCode:
    assert isinstance(outcome, Fault)
    return outcome.code


async def test_the_first_to_use_a_name_owns_it(bench: Bench) -> None:
    thread = await bench.opened("t")
    assert await bench.threads.open("t", "alice") is thread
    assert await bench.threads.find("t", "alice") is thread


async def test_two_who_open_it_at_once_have_the_same(bench: Bench) -> None:
    first, second = await asyncio.gather(bench.opened("t"), bench.opened("t"))
    assert first is second


async def test_to_others_it_does_not_exist(bench: Bench) -> None:
    await bench.opened("t")
    strange = await bench.threads.find("nothing", "bob")
    assert await bench.threads.find("t", "bob") == strange == await bench.threads.open("t", "bob")
    assert code(strange) is ErrorCode.NOT_FOUND
    assert await bench.threads.rename("t", "bob", "mine") is None
    assert await bench.threads.delete("t", "bob") is False


async def test_what_memory_lets_go_is_taken_up_from_the_store(bench: Bench) -> None:
    old = await bench.opened("old")
    await bench.store.begin_run(StoredRun("old", "r", "why?"))
    lease = await bench.log.acquire("old", "r")
    last = await bench.log.append(lease, [b"{}"] * 3)
    said: list[Message] = [UserMessage(id="q", content="why?"), AssistantMessage(id="a", content="because")]
    await bench.store.end_run(EndedRun("old", "r", Ending.FINISHED, last, said))
    for name in ("new", "newer", "newest"):
        await bench.opened(name)
    assert len(bench.threads) == 3
    again = await bench.opened("old")
    assert again is not old
    assert again.messages == said
    assert again.folded_seq == 3
    assert list(again.run_ids) == ["r"]


async def test_what_is_in_use_is_not_let_go(bench: Bench) -> None:
    for name in ("one", "two", "three", "four"):
        (await bench.opened(name)).followers = 1
    assert code(await bench.threads.open("five", "alice")) is ErrorCode.OVERLOADED
    assert len(bench.threads) == 4


async def test_a_user_has_so_many_and_no_more(bench: Bench) -> None:
    for number in range(6):
        await bench.opened(f"t{number}")
    assert code(await bench.threads.open("one-more", "alice")) is ErrorCode.TOO_MANY_THREADS
    assert isinstance(await bench.threads.open("another", "bob"), Thread)
    assert await bench.threads.delete("t3", "alice") is True
    assert isinstance(await bench.threads.open("one-more", "alice"), Thread)


async def test_a_deleted_thread_takes_its_events_along(bench: Bench) -> None:
    thread = await bench.opened("t")
    lease = await bench.log.acquire("t", "r")
    await bench.log.append(lease, [b"{}"] * 3)
    assert await bench.threads.delete("t", "alice") is True
    assert thread.deleted
    with pytest.raises(LeaseLost):
        await bench.log.append(lease, [b"{}"])
    assert code(await bench.threads.find("t", "alice")) is ErrorCode.NOT_FOUND
    again = await bench.opened("t", "bob")
    assert again.folded_seq >= 4, "the numbers of the first are not used again"
    for position in (0, 3):
        with pytest.raises(OutOfWindow):
            await bench.log.read("t", epoch=bench.log.epoch, after_seq=position, limit=1)
    assert list(await bench.log.read("t", epoch=bench.log.epoch, after_seq=again.folded_seq, limit=1)) == []


async def test_every_socket_of_the_user_is_told_and_no_other(bench: Bench) -> None:
    alice, tab, bob = Heard(), Heard(), Heard()
    bench.notices.join("alice", alice)
    bench.notices.join("alice", tab)
    bench.notices.join("bob", bob)
    await bench.opened("t")
    await bench.opened("t")
    await bench.threads.rename("t", "alice", "What doors say")
    bench.notices.leave("alice", tab)
    await bench.threads.delete("t", "alice")
    made, renamed, deleted = alice.notices
    assert made == {
        "notice": "thread.changed",
        "thread": {
            "thread_id": "t",
            "title": None,
            "created_at": "1970-01-01T00:00:12.500Z",
            "updated_at": "1970-01-01T00:00:12.500Z",
            "active_run_id": None,
        },
    }
    assert renamed["thread"]["title"] == "What doors say"
    assert deleted == {"notice": "thread.deleted", "thread_id": "t"}
    assert tab.notices == [made, renamed]
    assert bob.notices == []


def test_remembers_a_bounded_number_of_runs() -> None:
    thread = Thread("t", "alice")
    for number in range(10):
        thread.remember(f"r{number}", at_most=3)
    assert list(thread.run_ids) == ["r7", "r8", "r9"]
