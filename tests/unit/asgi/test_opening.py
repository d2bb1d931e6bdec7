from __future__ import annotations

import asyncio

from doorward.asgi.opening import Cut, OpeningCounters, OpeningPolicy, OpeningWatch, Stage
from doorward.config import Settings


class Connection:
    def __init__(self, watch: OpeningWatch, address: str = "a") -> None:
        self.watch = watch
        self.address = address
        self.aborted = asyncio.Event()

    def overdue(self, stage: Stage) -> None:
        self.watch.cut(self, Cut(stage))

    def abort(self) -> None:
        self.aborted.set()


def test_the_policy_follows_the_settings() -> None:
    settings = Settings(deadline_seconds=3.0, limits={"silent_seconds": 7, "incomplete_handshakes": 9})
    policy = OpeningPolicy.of(settings)
    assert (policy.header_seconds, policy.silent_seconds, policy.incomplete_handshakes) == (3.0, 7.0, 9)


async def test_an_earlier_wait_moves_the_timer_forward() -> None:
    watch = OpeningWatch(OpeningPolicy(silent_seconds=60.0, header_seconds=0.05), OpeningCounters())
    silent, talking = Connection(watch), Connection(watch)
    watch.incomplete(silent, Stage.SILENT)
    watch.incomplete(talking, Stage.SILENT)
    watch.incomplete(talking, Stage.HEADER)

    await asyncio.wait_for(talking.aborted.wait(), 5.0)
    assert not silent.aborted.is_set()
    assert watch.counters.cut == {Cut.HEADER: 1}
    watch.forget(silent)
    assert watch.counters.incomplete == 0


async def test_the_counters_follow() -> None:
    counters = OpeningCounters()
    watch = OpeningWatch(OpeningPolicy(incomplete_handshakes=1), counters)
    first, second = Connection(watch), Connection(watch, "b")
    counters.connections = 2
    watch.incomplete(first, Stage.SILENT)
    watch.incomplete(second, Stage.SILENT)
    assert first.aborted.is_set()
    assert (counters.evicted, counters.incomplete, counters.complete) == (1, 1, 1)
    watch.complete(second)
    assert (counters.incomplete, counters.complete) == (0, 2)


def test_another_life_of_the_same_server_has_a_timer_too() -> None:
    """As `uvicorn.run` twice with one `Config`: the loop of the first, and its timer, are gone."""
    watch = OpeningWatch(OpeningPolicy(header_seconds=0.02), OpeningCounters())

    async def life() -> None:
        connection = Connection(watch)
        watch.incomplete(connection, Stage.HEADER)
        await asyncio.wait_for(connection.aborted.wait(), 5.0)
        watch.start(Connection(watch), Stage.UNREAD)  # its timer dies with this loop

    asyncio.run(life())
    asyncio.run(life())
    assert watch.counters.cut == {Cut.HEADER: 2}
