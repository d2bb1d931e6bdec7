"""The chat over the death of its process: nothing delivered is lost, no number is used twice, and every run ends."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.chat_process import ChatProcess
from tests.chat_server import ChatClient
from tests.chat_support import verify
from websockets.exceptions import ConnectionClosed

QUESTION = " ".join(f"word{number}" for number in range(120))


@pytest.fixture
async def alive() -> AsyncIterator[list[ChatProcess]]:
    """Whatever is started is killed in the end."""
    processes: list[ChatProcess] = []
    yield processes
    for process in processes:
        await process.kill()


async def until_killed(client: ChatClient, process: ChatProcess, after: int) -> list[dict[str, Any]]:
    """What was delivered, up to the kill after so many envelopes and to the end of the connection."""
    seen: list[dict[str, Any]] = []
    with suppress(ConnectionClosed):
        while True:
            seen.append(await client.envelope())
            if len(seen) == after:
                process.process.send_signal(signal.SIGKILL)
    await process.kill()
    return seen


async def test_a_kill_loses_nothing_that_was_delivered(tmp_path: Path, alive: list[ChatProcess]) -> None:
    file = tmp_path / "data" / "chat.sqlite3"
    alive.append(await ChatProcess.start(file))
    everything: list[dict[str, Any]] = []
    position: dict[str, Any] = {}
    for number, cut in enumerate((1, 9, 40), 1):
        async with alive[-1].client() as client:
            reply = await client.ask("thread.subscribe", thread_id="t", **position)
            if not position:
                await client.envelope()
            started = await client.ask("run.start", thread_id="t", run_id=f"r{number}", message=QUESTION)
            assert started["duplicate"] is False
            seen = await until_killed(client, alive[-1], cut)
        position = {"epoch": reply["epoch"], "after_seq": seen[-1]["seq"]}
        alive.append(await ChatProcess.start(file))
        async with alive[-1].client() as client:
            reply = await client.ask("thread.subscribe", thread_id="t", **position)
            assert (reply["resumed"], reply["epoch"]) == (True, position["epoch"])
            assert reply["active_run_id"] is None, "it was ended before anybody was let in"
            seen += await client.run()
            verify([envelope["event"] for envelope in seen])
            assert seen[-1]["event"]["code"] == "interrupted"
            again = await client.ask("run.start", thread_id="t", run_id=f"r{number}", message=QUESTION)
            assert again["duplicate"] is True
        everything += seen
        position["after_seq"] = seen[-1]["seq"]
    numbers = [(envelope["seq_from"], envelope["seq"]) for envelope in everything]
    assert numbers == [(number, number) for number in range(1, len(everything) + 1)]
    async with alive[-1].client() as client:
        await client.ask("thread.subscribe", thread_id="t", epoch=position["epoch"], after_seq=0)
        stored = [envelope for _ in range(3) for envelope in await client.run()]
        assert stored == everything, "what was delivered is what is stored"


async def test_an_orderly_restart_keeps_threads_and_positions(tmp_path: Path, alive: list[ChatProcess]) -> None:
    file = tmp_path / "chat.sqlite3"
    alive.append(await ChatProcess.start(file, pace_seconds=0))
    async with alive[-1].client() as client:
        first = await client.ask("thread.subscribe", thread_id="t")
        await client.envelope()
        await client.ask("run.start", thread_id="t", run_id="r1", message="one two")
        seen = await client.run()
    await alive[-1].kill(signal.SIGTERM)
    alive.append(await ChatProcess.start(file))
    async with alive[-1].client() as client, alive[-1].client("bob") as bob:
        reply = await client.ask("thread.subscribe", thread_id="t", epoch=first["epoch"], after_seq=seen[2]["seq"])
        assert reply["resumed"] is True
        assert await client.run() == seen[3:]
        reply = await client.ask("thread.subscribe", thread_id="t")
        messages = (await client.envelope())["event"]["messages"]
        assert [message["content"] for message in messages if message["role"] == "user"] == ["one two"]
        assert messages[-1]["content"] == "one two "
        assert (await bob.ask("thread.subscribe", thread_id="t"))["error"]["code"] == "NOT_FOUND"
