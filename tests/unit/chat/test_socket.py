"""What one socket costs while nothing happens, and how it ends: over ASGI, without a network."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.chat_support import Person, ScriptedAgent, echo

from doorward.chat.commands import RunStart
from doorward.chat.limits import ChatLimits
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.service import Chat
from doorward.chat.socket import ChatEndpoint
from doorward.chat.threads import Thread
from doorward.core.deadline import Deadline
from doorward.testing.waiting import eventually

SOCKETS = 200
RESTING_BYTES = 10_000
"""Python's own allocations for a socket that follows a thread, its two tasks and the test's two queues among them."""


@dataclass(eq=False)
class Peer:
    """The server's side of one connection. `refuses`: sending fails, as to a peer that is gone."""

    endpoint: ChatEndpoint
    events: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    sent: list[dict[str, Any]] = field(default_factory=list)
    refuses: bool = False

    def __post_init__(self) -> None:
        self.events.put_nowait({"type": "websocket.connect"})

    async def serve(self) -> None:
        scope = {"type": "websocket", "doorward": Person()}
        await self.endpoint(scope, self.events.get, self.send)

    async def send(self, message: Any) -> None:
        if self.refuses:
            raise OSError("the peer is gone")
        self.sent.append(message)

    def say(self, text: str) -> None:
        self.events.put_nowait({"type": "websocket.receive", "text": text})

    async def heard(self, word: str) -> None:
        await eventually(lambda: any(word in message.get("text", "") for message in self.sent), what=word)


@asynccontextmanager
async def opened(file: Path | None = None, limits: ChatLimits | None = None) -> AsyncIterator[Chat]:
    chat = Chat(ScriptedAgent(echo), limits=limits, file=file)
    await chat.open()
    try:
        yield chat
    finally:
        await chat.drain(Deadline(0.0))
        await chat.aclose()


@asynccontextmanager
async def served(*peers: Peer) -> AsyncIterator[list[tuple[Peer, asyncio.Task[None]]]]:
    served = [(peer, asyncio.create_task(peer.serve())) for peer in peers]
    try:
        yield served
    finally:
        for _, task in served:
            task.cancel()
        await asyncio.wait({task for _, task in served}, timeout=5)


def peer(chat: Chat) -> Peer:
    return Peer(ChatEndpoint(chat, close_codes="iana"))


def subscribe(thread_id: str = "t") -> str:
    return json.dumps({"id": "s", "type": "thread.subscribe", "thread_id": thread_id})


async def follow(peers: list[tuple[Peer, asyncio.Task[None]]]) -> None:
    for own, _ in peers:
        own.say(subscribe())
    for own, _ in peers:
        await own.heard("MESSAGES_SNAPSHOT")
        own.sent.clear()


async def follow_a_run(chat: Chat, peers: list[tuple[Peer, asyncio.Task[None]]]) -> None:
    await follow(peers)
    await asked(chat, "t")
    for own, _ in peers:
        await own.heard("RUN_FINISHED")
        own.sent.clear()


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def asked(chat: Chat, thread_id: str) -> None:
    thread = await chat.threads.open(thread_id, Person().user_id)
    assert isinstance(thread, Thread)
    command = RunStart("c", thread_id, f"r{len(thread.run_ids)}", "one two three")
    _, run = await chat.runs.start(thread, command, Person())
    assert run is not None
    await eventually(lambda: run.ended.is_set(), what="the run has ended")


@pytest.mark.parametrize("in_file", [True, False])
async def test_a_socket_at_rest_is_small(tmp_path: Path, in_file: bool) -> None:
    async with opened(tmp_path / "data" / "chat.sqlite3" if in_file else None) as chat:
        first, more = ([peer(chat) for _ in range(count)] for count in (5, SOCKETS))
        async with served(*first) as warm:
            await follow_a_run(chat, warm)
            gc.collect()
            tracemalloc.start()
            try:
                async with served(*more) as peers:
                    await follow_a_run(chat, peers)
                    gc.collect()
                    held, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert held / SOCKETS < RESTING_BYTES


async def test_a_socket_at_rest_holds_nothing_of_what_was_said() -> None:
    async with opened() as chat, served(peer(chat)) as peers:
        said, unsaid = subscribe(), subscribe()
        [(own, _)] = peers
        own.say(said)
        await own.heard("MESSAGES_SNAPSHOT")
        for thread_id in ("t", "nobody follows"):
            await asked(chat, thread_id)
        await own.heard("RUN_FINISHED")
        own.sent.clear()
        assert sys.getrefcount(said) == sys.getrefcount(unsaid)
        assert isinstance(chat.log, MemoryEventLog)
        lanes = chat.log._lanes
        followed, alone = (
            {sys.getrefcount(envelope) for envelope in lanes[name].entries} for name in ("t", "nobody follows")
        )
        assert followed == alone


async def test_one_that_is_cancelled_leaves_no_task() -> None:
    async with opened() as chat:
        before = others()
        async with served(peer(chat)) as peers:
            await follow(peers)
            [(_, task)] = peers
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (others(), len(chat.unsent)) == (before, 0)


async def test_a_peer_that_is_gone_ends_it_although_it_says_nothing() -> None:
    async with opened() as chat:
        before = others()
        async with served(peer(chat)) as peers:
            await follow(peers)
            [(own, task)] = peers
            own.refuses = True
            await asked(chat, "t")
            async with asyncio.timeout(5):
                await task
        assert (own.sent, others(), len(chat.unsent)) == ([], before, 0)


@pytest.mark.parametrize("say", [subscribe(), '{"id":"p","type":"ping"}'])
async def test_one_whose_own_reply_is_too_much_is_closed(say: str) -> None:
    async with opened(limits=ChatLimits(unsent_bytes=100)) as chat:
        before = others()
        async with served(peer(chat)) as peers:
            [(own, task)] = peers
            own.say(say)
            async with asyncio.timeout(5):
                await task
        assert (others(), len(chat.unsent)) == (before, 0)
    assert [message["type"] for message in own.sent] == ["websocket.accept", "websocket.close"]
    assert own.sent[-1]["code"] == 1013
