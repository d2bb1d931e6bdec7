from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from ag_ui.core import BaseEvent, TextMessageStartEvent
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from tests.chat_server import ChatClient, ChatServer
from tests.chat_support import FakeInsight, Script, ScriptedAgent, connection, decision, echo, forever, verify
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed, InvalidStatus

from doorward.chat.agents.port import RunRequest
from doorward.chat.agents.warden import Warden
from doorward.chat.app import create_app
from doorward.chat.limits import MAX_MESSAGE_BYTES, ChatLimits
from doorward.chat.service import Chat
from doorward.chat.threads import Thread
from doorward.config import Settings
from doorward.core.deadline import Deadline
from doorward.testing.waiting import eventually


def application(script: Script | None = None, limits: ChatLimits | None = None, **options: Any) -> Starlette:
    insight = FakeInsight(
        records=[decision("d-alice", "alice")], views=[connection("d-alice", "alice"), connection("d-bob", "bob")]
    )
    agent = ScriptedAgent(script) if script else Warden(insight, pace_seconds=0.001)
    settings = Settings(auth={"url": "http://127.0.0.1:1"})
    return create_app(settings, insight=insight, ready=lambda: True, agent=agent, limits=limits, **options)


def serving(
    script: Script | None = None, limits: ChatLimits | None = None, **options: Any
) -> AbstractAsyncContextManager[ChatServer]:
    return ChatServer.serving(application(script, limits, **options))


def chat_of(server: ChatServer) -> Chat:
    chat = server.app.state.chat
    assert isinstance(chat, Chat)
    return chat


async def thread_of(server: ChatServer, thread_id: str) -> Thread:
    thread = await chat_of(server).threads.find(thread_id, "alice")
    assert isinstance(thread, Thread)
    return thread


def contiguous(envelopes: list[dict[str, Any]], after_seq: int) -> int:
    """Every envelope follows the one before; returns the last number."""
    for envelope in envelopes:
        assert envelope["seq_from"] == after_seq + 1, (envelope, after_seq)
        after_seq = envelope["seq"]
    return after_seq


def text_of(envelopes: list[dict[str, Any]]) -> str:
    return "".join(item["event"]["delta"] for item in envelopes if item["event"]["type"] == "TEXT_MESSAGE_CONTENT")


async def subscribed(client: ChatClient, thread_id: str = "t", **position: Any) -> dict[str, Any]:
    reply = await client.ask("thread.subscribe", thread_id=thread_id, **position)
    assert reply["ok"] is True
    return reply


async def asked(client: ChatClient, message: str = "one two", run_id: str = "r1", thread_id: str = "t") -> None:
    reply = await client.ask("run.start", thread_id=thread_id, run_id=run_id, message=message)
    assert reply["ok"] is True, reply


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How is the auth service?", "is fine as far as I can see"),
        ("What did you decide in the last minutes?", "In the last 5 minutes I decided about 42 opening handshakes"),
        ("Why was my last decision made?", "Step by step:\n- local: 0.31 ms\n- remote: 501 ms"),
        ("Who is connected?", "You have 1 open connection."),
    ],
)
async def test_the_warden_answers_in_order(question: str, words: str) -> None:
    async with serving() as server, server.client(subprotocols=[Subprotocol("doorward.v1")]) as client:
        assert client.connection.subprotocol == "doorward.v1"
        reply = await subscribed(client)
        assert reply["resumed"] is False
        snapshot = await client.envelope()
        assert snapshot["synthetic"] is True
        assert snapshot["event"] == {"type": "MESSAGES_SNAPSHOT", "messages": []}
        await asked(client, question)
        envelopes = await client.run()
        verify([envelope["event"] for envelope in envelopes])
        assert contiguous(envelopes, reply["after_seq"]) == envelopes[-1]["seq"]
        assert {(envelope["v"], envelope["thread_id"], envelope["run_id"]) for envelope in envelopes} == {
            (1, "t", "r1")
        }
        assert words in text_of(envelopes)
        kinds = {envelope["event"]["type"] for envelope in envelopes}
        assert {"TOOL_CALL_START", "TOOL_CALL_RESULT", "TEXT_MESSAGE_START"} <= kinds


async def test_what_is_about_others_needs_the_permission() -> None:
    async with serving() as server, server.client() as alice, server.client("root", "admin") as root:
        for client, thread, words in (
            (alice, "a", "You have 1 open"),
            (root, "b", "2 connections are open, by 2 people"),
        ):
            await subscribed(client, thread)
            await client.envelope()
            await asked(client, "Who is connected?", thread_id=thread)
            envelopes = await client.run()
            assert words in text_of(envelopes)
            if client is alice:
                assert "bob" not in json.dumps(envelopes)


async def test_many_tabs_see_the_same() -> None:
    async with serving(echo) as server, server.client() as one, server.client() as two:
        for client in (one, two):
            await subscribed(client)
            await client.envelope()
        await asked(one)
        assert await one.run() == await two.run()


async def test_resume_without_gap_or_duplicate() -> None:
    async with serving(echo) as server:
        async with server.client() as client:
            reply = await subscribed(client)
            await client.envelope()
            await asked(client)
            first = [await client.envelope() for _ in range(3)]
        position = {"epoch": reply["epoch"], "after_seq": first[-1]["seq"]}
        async with server.client() as client:
            reply = await subscribed(client, **position)
            assert reply["resumed"] is True
            rest = await client.run()
            verify([envelope["event"] for envelope in first + rest])
            last = contiguous(first + rest, 0)
        async with server.client() as client:
            reply = await subscribed(client, epoch=reply["epoch"], after_seq=last)
            assert (reply["resumed"], reply["after_seq"]) == (True, last)
            await asked(client, "three", "r2")
            assert contiguous(await client.run(), last) > last


@pytest.mark.parametrize(
    "position", [{"epoch": "another", "after_seq": 2}, {"after_seq": 2}, {"after_seq": 9_999, "epoch": None}, {}]
)
async def test_what_cannot_be_resumed_begins_with_a_snapshot(position: dict[str, Any]) -> None:
    async with serving(echo) as server, server.client() as client:
        await asked(client)
        await eventually(lambda: not len(chat_of(server).runs))
        if position.get("epoch", "") is None:
            position = {**position, "epoch": chat_of(server).log.epoch}
        reply = await subscribed(client, **position)
        assert reply["resumed"] is False
        snapshot = await client.envelope()
        assert [message["content"] for message in snapshot["event"]["messages"]] == ["one two", "one two "]
        await asked(client, "three", "r2")
        contiguous(await client.run(), reply["after_seq"])


async def test_a_snapshot_is_followed_by_the_whole_active_run() -> None:
    async with serving(forever) as server, server.client() as one, server.client() as two:
        await asked(one)
        thread = await thread_of(server, "t")
        await eventually(lambda: thread.active is not None and thread.active.events == 2)
        reply = await subscribed(two)
        assert reply["active_run_id"] == "r1"
        assert (await two.envelope())["event"]["messages"] == []
        started = await two.envelope()
        assert started["event"]["type"] == "RUN_STARTED"
        cancelled = await two.ask("run.cancel", thread_id="t", run_id="r1")
        assert cancelled["cancelled"] is True, "from another tab"
        envelopes = [started, *await two.run()]
        verify([envelope["event"] for envelope in envelopes])
        assert envelopes[-1]["event"]["outcome"] == {"type": "cancelled"}


async def test_a_run_survives_its_socket() -> None:
    released = asyncio.Event()

    async def slow(request: RunRequest) -> AsyncIterator[BaseEvent]:
        await released.wait()
        async for event in echo(request):
            yield event

    async with serving(slow) as server:
        async with server.client() as client:
            await asked(client)
        await eventually(lambda: len(chat_of(server).runs) == 1)
        async with server.client() as client:
            await subscribed(client)
            await client.envelope()
            released.set()
            verify([envelope["event"] for envelope in await client.run()])


async def test_another_users_thread_is_not_there() -> None:
    async with serving(echo) as server, server.client() as alice, server.client("bob") as bob:
        await asked(alice)
        for kind, fields in (
            ("run.start", {"run_id": "r1", "message": "hi"}),
            ("run.start", {"run_id": "r9", "message": "hi"}),
            ("run.cancel", {"run_id": "r1"}),
            ("thread.subscribe", {}),
            ("thread.subscribe", {"epoch": chat_of(server).log.epoch, "after_seq": 0}),
            ("thread.unsubscribe", {}),
        ):
            reply = await bob.ask(kind, thread_id="t", **fields)
            assert reply["error"]["code"] == "NOT_FOUND", (kind, reply)
        assert bob.inbox == []


async def test_errors_are_replies() -> None:
    async with serving(forever) as server, server.client() as client:
        await client.connection.send("not json")
        assert (await client.receive())["error"]["code"] == "BAD_REQUEST"
        await client.connection.send(b"\xff\x00")
        reply = await client.receive()
        assert (reply["reply_to"], reply["error"]["code"]) == (None, "BAD_REQUEST")
        assert (await client.ask("dance"))["error"]["code"] == "UNKNOWN_COMMAND"
        assert (await client.ask("run.start", thread_id="t"))["error"]["code"] == "BAD_REQUEST"
        too_long = await client.ask("run.start", thread_id="t", run_id="r", message="x" * 20_000)
        assert too_long["error"]["code"] == "MESSAGE_TOO_LONG"
        assert (await client.ask("ping")) == {"reply_to": "c4", "ok": True}
        await asked(client)
        active = await client.ask("run.start", thread_id="t", run_id="r2", message="x")
        assert active["error"]["code"] == "RUN_ACTIVE"
        again = await client.ask("run.start", thread_id="t", run_id="r1", message="x")
        assert again["duplicate"] is True


@pytest.mark.parametrize(
    ("command", "fields"), [("thread.subscribe", {}), ("run.start", {"run_id": "r", "message": "?"})]
)
async def test_a_thread_is_made_unless_that_is_not_wanted(command: str, fields: dict[str, str]) -> None:
    async with serving(echo) as server, server.client() as client, server.client("bob") as bob:
        for _ in range(2):
            answer = await client.ask(command, thread_id="t", create=False, **fields)
            assert answer["error"]["code"] == "NOT_FOUND"
        assert (await bob.ask(command, thread_id="t", **fields))["ok"] is True
        assert (await client.ask(command, thread_id="t", create=False, **fields))["error"]["code"] == "NOT_FOUND"
        assert (await bob.ask(command, thread_id="t", create=False, **fields))["ok"] is True


async def test_unsubscribing_makes_no_thread_and_says_which_there_are() -> None:
    async with serving(echo) as server, server.client() as client, server.client("bob") as bob:
        for _ in range(2):
            answer = await client.ask("thread.unsubscribe", thread_id="t")
            assert answer["error"]["code"] == "NOT_FOUND"
        await bob.ask("thread.subscribe", thread_id="t")
        assert (await client.ask("thread.unsubscribe", thread_id="t"))["error"]["code"] == "NOT_FOUND"
        for _ in range(2):
            assert (await bob.ask("thread.unsubscribe", thread_id="t"))["ok"] is True


async def test_after_unsubscribe_nothing_more_comes() -> None:
    async with serving(echo) as server, server.client() as client:
        await subscribed(client)
        await client.envelope()
        assert (await client.ask("thread.unsubscribe", thread_id="t"))["ok"] is True
        await asked(client)
        await eventually(lambda: not len(chat_of(server).runs))
        await client.ask("ping")
        assert client.inbox == []


async def test_subscribing_again_replaces_the_first() -> None:
    async with serving(echo) as server, server.client() as client:
        await subscribed(client)
        await subscribed(client)
        reply = await subscribed(client)
        client.inbox.clear()
        await client.envelope()
        await asked(client)
        contiguous(await client.run(), reply["after_seq"])
        await client.ask("ping")
        assert client.inbox == []


async def test_subscriptions_are_bounded() -> None:
    async with serving(echo, ChatLimits(subscriptions_per_socket=2)) as server, server.client() as client:
        await subscribed(client, "t1")
        await subscribed(client, "t2")
        third = await client.ask("thread.subscribe", thread_id="t3")
        assert third["error"]["code"] == "TOO_MANY_SUBSCRIPTIONS"
        assert (await client.ask("thread.subscribe", thread_id="t2"))["ok"] is True


async def test_a_message_that_is_too_big_closes_with_1009() -> None:
    async with serving(echo) as server, server.client() as client:
        await client.connection.send(json.dumps({"id": "c", "type": "ping", "pad": "x" * MAX_MESSAGE_BYTES}))
        with pytest.raises(ConnectionClosed) as caught:
            await client.receive()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        assert caught.value.rcvd.reason == "MESSAGE_TOO_BIG;id=d-alice"


async def test_without_a_door_nobody_is_served() -> None:
    async with serving(echo) as server:
        with pytest.raises(InvalidStatus):
            async with server.client("nobody"):
                pass


async def test_a_slow_reader_is_closed_and_slows_nobody() -> None:
    wall = "x" * 2_000

    async def torrent(request: RunRequest) -> AsyncIterator[BaseEvent]:
        for number in range(1_900):
            yield TextMessageStartEvent(message_id=f"{request.run_id}:{number}:{wall}")
            await asyncio.sleep(0)

    limits = ChatLimits(bytes_per_run=50_000_000, stall_seconds=0.3)
    registry = CollectorRegistry()
    async with (
        serving(torrent, limits, registry=registry) as server,
        server.client(max_queue=1, ping_interval=None) as slow,
        server.client() as quick,
    ):
        for client in (slow, quick):
            await subscribed(client)
        await asked(quick)
        assert (await quick.envelope())["synthetic"] is True
        assert (await quick.run())[-1]["event"]["type"] == "RUN_FINISHED"
        labels = {"code": "OVERLOADED"}
        await eventually(lambda: registry.get_sample_value("doorward_chat_sockets_closed_total", labels) == 1)
        await eventually(lambda: registry.get_sample_value("doorward_chat_sockets") == 1)
        slow.connection.transport.abort()


@pytest.mark.parametrize(
    ("code", "reason", "left"),
    [
        (3000, "TOKEN_REVOKED;id=d-alice", 1),
        (3000, "", 1),
        (4401, "", 1),
        (3000, "TOKEN_EXPIRED;id=d-alice", 2),
        (1001, "", 2),
    ],
)
async def test_a_revoked_socket_takes_its_runs_along(code: int, reason: str, left: int) -> None:
    registry = CollectorRegistry()
    async with serving(forever, registry=registry) as server, server.client() as client, server.client() as other:
        await asked(client)
        await asked(other, thread_id="t2")
        await eventually(lambda: len(chat_of(server).runs) == 2)
        sockets = "doorward_chat_sockets"
        await client.connection.close(code, reason)
        await eventually(lambda: registry.get_sample_value(sockets) == 1)
        await eventually(lambda: len(chat_of(server).runs) == left)
        assert (await thread_of(server, "t2")).active is not None, "a run of another socket goes on"


async def test_nothing_is_left_of_a_socket() -> None:
    async with serving(echo) as server:
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with server.client() as client:
                await subscribed(client)
                client.connection.transport.abort()
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
        assert (await thread_of(server, "t")).followers == 0


async def test_drain_refuses_new_runs_and_interrupts_the_rest() -> None:
    async with serving(forever) as server, server.client() as client:
        await subscribed(client)
        await client.envelope()
        await asked(client)
        await chat_of(server).drain(Deadline.after(asyncio.get_running_loop().time(), 0.05))
        envelopes = await client.run()
        verify([envelope["event"] for envelope in envelopes])
        assert envelopes[-1]["event"]["code"] == "interrupted"
        refused = await client.ask("run.start", thread_id="t", run_id="r2", message="x")
        assert refused["error"]["code"] == "RESTARTING"
