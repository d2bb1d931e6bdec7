"""A reader that stops reading costs itself: it is closed with 1013, has everything after it has come back, and slows nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.chat_checker import Tab, findings
from tests.chat_scripted import AGENT
from tests.chat_server import ChatClient, ChatServer
from tests.chat_stalled import besiege
from tests.chat_support import FakeInsight
from tests.slow_network import narrow_socket
from websockets.exceptions import ConnectionClosed

from doorward.chat.app import create_app
from doorward.chat.limits import ChatLimits
from doorward.config import Settings
from doorward.testing import eventually

RUNS = 4
QUESTION = "blocks=50 size=4000 | much"
"""200 KB a run, twice that in a queue: more than the narrow sockets and their queues take in all."""


class Bench:
    """A chat whose numbers are read, with the log in a file."""

    def __init__(self, server: ChatServer, registry: CollectorRegistry) -> None:
        self.server = server
        self._registry = registry

    @classmethod
    @asynccontextmanager
    async def opened(cls, tmp_path: Path, limits: ChatLimits) -> AsyncIterator[Bench]:
        registry = CollectorRegistry()
        app = create_app(
            Settings(auth={"url": "http://127.0.0.1:1"}),
            insight=FakeInsight(),
            ready=lambda: True,
            agent=AGENT,
            limits=limits,
            registry=registry,
            data_file=tmp_path / "data" / "chat.sqlite3",
        )
        async with ChatServer.serving(app) as server:
            yield cls(server, registry)

    def value(self, name: str, **labels: str) -> float:
        return self._registry.get_sample_value(f"doorward_chat_{name}", labels) or 0.0

    @asynccontextmanager
    async def narrow(self) -> AsyncIterator[ChatClient]:
        """A client that takes nothing from the network unless it is asked to."""
        narrow = await narrow_socket(self.server.port)
        async with self.server.client(sock=narrow, max_queue=1, ping_interval=None) as client:
            yield client

    async def fill(self, reader: ChatClient, tab: Tab) -> None:
        """Several runs, read by somebody who keeps up."""
        for number in range(RUNS):
            reply = await reader.ask("run.start", thread_id="t", run_id=f"r{number}", message=QUESTION)
            assert reply["ok"] is True
            tab.frames += await reader.run()

    async def resumed(self, tab: Tab, position: int) -> None:
        """A new connection goes on where the tab is, up to there."""
        epoch, after_seq = tab.position or ("", 0)
        async with self.server.client() as client:
            reply = await client.ask("thread.subscribe", thread_id="t", epoch=epoch, after_seq=after_seq)
            assert reply["resumed"] is True
            while (tab.position or ("", 0))[1] < position:
                tab.frames.append(await client.envelope())


async def read_until_closed(client: ChatClient, tab: Tab) -> ConnectionClosed:
    try:
        while True:
            tab.frames.append(await client.envelope())
    except ConnectionClosed as closed:
        return closed


@pytest.mark.parametrize(
    ("why", "limits"),
    [
        ("stalled", ChatLimits(stall_seconds=1.0, close_seconds=30.0)),
        ("budget", ChatLimits(stall_seconds=60.0, close_seconds=30.0, queue_bytes=4_000_000, unsent_bytes=1_000_000)),
    ],
)
async def test_a_stalled_socket_is_closed_with_1013_and_resumes_completely(
    tmp_path: Path, why: str, limits: ChatLimits
) -> None:
    truth, slow = Tab("quick", "t"), Tab("slow", "t")
    async with Bench.opened(tmp_path, limits) as bench, bench.server.client() as quick, bench.narrow() as stalled:
        for client, tab in ((quick, truth), (stalled, slow)):
            await client.ask("thread.subscribe", thread_id="t")
            tab.frames.append(await client.envelope())
        await bench.fill(quick, truth)
        await eventually(lambda: bench.value("slow_readers_total", why=why) == 1, within_seconds=20)
        closed = await read_until_closed(stalled, slow)
        assert closed.rcvd is not None
        assert (closed.rcvd.code, closed.rcvd.reason.partition(";")[0]) == (1013, "OVERLOADED")
        assert "retry_after_ms=" in closed.rcvd.reason
        assert bench.value("sockets_closed_total", code="OVERLOADED") == 1
        last = truth.frames[-1]["seq"]
        assert slow.position is not None
        assert slow.position[1] < last, "it missed something"
        await bench.resumed(slow, last)
        await eventually(lambda: bench.value("sockets") == 1)
        assert bench.value("slow_readers_total", why=why) == 1, "who kept up was left alone"
    numbered = [frame for frame in truth.frames if not frame.get("synthetic")]
    assert findings([truth, slow], {"t": numbered}) == []


async def test_nothing_is_left_unsent_of_a_socket_that_is_gone(tmp_path: Path) -> None:
    truth = Tab("quick", "t")
    async with (
        Bench.opened(tmp_path, ChatLimits(stall_seconds=60.0)) as bench,
        bench.server.client() as quick,
        bench.narrow() as stalled,
    ):
        for client in (quick, stalled):
            await client.ask("thread.subscribe", thread_id="t")
        await quick.envelope()
        await bench.fill(quick, truth)
        assert bench.value("unsent_bytes") > 100_000
        stalled.connection.transport.abort()
        await eventually(lambda: bench.value("unsent_bytes") == 0)


READERS = 150
BUDGET_BYTES = 8 * 1_048_576
PER_SOCKET_BYTES = 128 * 1_024
"""The server's own buffer, a message on its way, and the rest of a page."""
SLACK_BYTES = 8 * 1_048_576


async def test_stalled_readers_cost_a_real_server_no_more_than_the_budget(tmp_path: Path) -> None:
    """Without one their queues hold a megabyte each, as far as their threads have that much."""
    siege = await besiege(tmp_path / "serve", readers=READERS, budget_bytes=BUDGET_BYTES)
    print(siege)
    assert siege.closed_for_budget > READERS / 2
    assert siege.unsent_bytes <= BUDGET_BYTES
    bound = BUDGET_BYTES + READERS * PER_SOCKET_BYTES + SLACK_BYTES
    assert bound < READERS * 650_000 / 2, "the bound says something"
    assert siege.grown_bytes <= bound, f"{siege.grown_bytes} bytes are more than {bound}"


async def test_what_a_reader_is_told_first_says_where_it_goes_on(tmp_path: Path) -> None:
    async with Bench.opened(tmp_path, ChatLimits()) as bench, bench.server.client() as client:
        epoch = (await client.ask("thread.subscribe", thread_id="t"))["epoch"]
        await client.ask("thread.subscribe", thread_id="t", epoch=epoch, after_seq=0)
        await client.ask("thread.subscribe", thread_id="t", epoch="another", after_seq=0)
        await client.ask("thread.subscribe", thread_id="t", epoch=epoch, after_seq=7)
        starts = ("new", "resumed", "epoch", "window", "behind")
        assert [bench.value("subscriptions_total", start=start) for start in starts] == [1, 1, 1, 1, 0]


async def test_commits_and_deliveries_are_timed(tmp_path: Path) -> None:
    async with Bench.opened(tmp_path, ChatLimits()) as bench, bench.server.client() as client:
        epoch = (await client.ask("thread.subscribe", thread_id="t"))["epoch"]
        await client.envelope()
        await client.ask("run.start", thread_id="t", run_id="r", message="one two three")
        events = len(await client.run())
        await client.ask("ping")
        assert 0 < bench.value("commit_seconds_count") <= events
        assert bench.value("delivery_seconds_count") == events
        assert 0 < bench.value("delivery_seconds_sum") < 5 * events
        async with bench.server.client() as later:
            await later.ask("thread.subscribe", thread_id="t", epoch=epoch, after_seq=0)
            await later.run()
            await later.ask("ping")
        assert bench.value("delivery_seconds_count") == events, "a replay says nothing about delays"
