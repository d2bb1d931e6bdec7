from __future__ import annotations

import pytest

from doorward.chat.commands import ErrorCode, Fault
from doorward.chat.eventlog import MemoryEventLog, OutOfWindow
from doorward.chat.limits import ChatLimits
from doorward.chat.threads import Thread, Threads


@pytest.fixture
def log() -> MemoryEventLog:
    return MemoryEventLog(retained=10, wall=lambda: 0.0)


@pytest.fixture
def threads(log: MemoryEventLog) -> Threads:
    return Threads(log, ChatLimits(threads_per_user=2, threads=4))


async def opened(threads: Threads, thread_id: str, user_id: str) -> Thread:
    thread = await threads.open(thread_id, user_id)
    assert isinstance(thread, Thread)
    return thread


def code(outcome: Thread | Fault) -> ErrorCode:
    assert isinstance(outcome, Fault)
    return outcome.code


async def test_the_first_to_use_a_name_owns_it(threads: Threads) -> None:
    thread = await opened(threads, "t", "alice")
    assert await threads.open("t", "alice") is thread
    assert threads.find("t", "alice") is thread


async def test_to_others_it_does_not_exist(threads: Threads) -> None:
    await opened(threads, "t", "alice")
    strange = threads.find("nothing", "bob")
    assert threads.find("t", "bob") == strange == await threads.open("t", "bob")
    assert code(strange) is ErrorCode.NOT_FOUND


async def test_the_oldest_idle_one_makes_room(threads: Threads, log: MemoryEventLog) -> None:
    await opened(threads, "old", "alice")
    await log.append("old", "r", [b"{}"])
    await opened(threads, "new", "alice")
    await opened(threads, "newest", "alice")
    assert code(threads.find("old", "alice")) is ErrorCode.NOT_FOUND
    assert isinstance(threads.find("new", "alice"), Thread)
    with pytest.raises(OutOfWindow):
        await log.read("old", epoch=log.epoch, after_seq=0, limit=1)


async def test_use_keeps_a_thread_young(threads: Threads) -> None:
    await opened(threads, "old", "alice")
    await opened(threads, "new", "alice")
    threads.find("old", "alice")
    await opened(threads, "newest", "alice")
    assert isinstance(threads.find("old", "alice"), Thread)
    assert code(threads.find("new", "alice")) is ErrorCode.NOT_FOUND


async def test_what_is_followed_is_not_forgotten(threads: Threads) -> None:
    for name in ("one", "two"):
        (await opened(threads, name, "alice")).followers = 1
    assert code(await threads.open("three", "alice")) is ErrorCode.TOO_MANY_THREADS
    assert len(threads) == 2


async def test_bounded_over_all_users(threads: Threads) -> None:
    for user in ("alice", "bob", "carol", "dave", "erin"):
        await opened(threads, f"of-{user}", user)
    assert len(threads) == 4
    assert code(threads.find("of-alice", "alice")) is ErrorCode.NOT_FOUND


def test_remembers_a_bounded_number_of_runs() -> None:
    thread = Thread("t", "alice")
    for number in range(10):
        thread.remember(f"r{number}", at_most=3)
    assert list(thread.run_ids) == ["r7", "r8", "r9"]
