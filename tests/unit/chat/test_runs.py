from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

import pytest
from ag_ui.core import (
    AssistantMessage,
    BaseEvent,
    CustomEvent,
    Event,
    RunFinishedEvent,
    TextMessageContentEvent,
    TextMessageStartEvent,
    ToolCallStartEvent,
    UserMessage,
)
from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter
from structlog.testing import capture_logs
from tests.chat_support import Person, Script, ScriptedAgent, echo, forever, verify

from doorward.chat.agents.port import TOLD, WORTH_ANOTHER_TRY, AgentError, AgentFault, RunRequest
from doorward.chat.commands import Done, ErrorCode, Fault, RunStart
from doorward.chat.eventlog import EventLog, Lease
from doorward.chat.limits import ChatLimits
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.runs import Run
from doorward.chat.service import Chat
from doorward.chat.threads import Thread
from doorward.core.deadline import Deadline
from doorward.errors import StoreError
from doorward.testing.waiting import eventually

LIMITS = ChatLimits(run_seconds=5.0, runs_per_user=2, runs=3, reap_seconds=0.2)


class Bench:
    """One chat, one person, one thread."""

    def __init__(self, script: Script, limits: ChatLimits = LIMITS, log: EventLog | None = None) -> None:
        self.registry = CollectorRegistry()
        self.chat = Chat(ScriptedAgent(script), limits=limits, log=log, registry=self.registry)
        self.who = Person()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, script: Script, limits: ChatLimits = LIMITS, log: EventLog | None = None
    ) -> AsyncIterator[Self]:
        bench = cls(script, limits, log)
        await bench.chat.open()
        try:
            yield bench
        finally:
            await bench.chat.drain(Deadline(0.0))
            await bench.chat.aclose()

    async def thread(self, thread_id: str = "t", user_id: str = "alice") -> Thread:
        thread = await self.chat.threads.open(thread_id, user_id)
        assert isinstance(thread, Thread)
        return thread

    async def start(
        self, thread: Thread, run_id: str = "r", message: str = "one two"
    ) -> tuple[Done | Fault, Run | None]:
        return await self.chat.runs.start(thread, RunStart("c", thread.id, run_id, message), self.who)

    async def ended(self) -> None:
        await eventually(lambda: len(self.chat.runs) == 0)

    async def events(self, thread: Thread) -> list[dict[str, Any]]:
        entries = await self.chat.log.read(thread.id, epoch=self.chat.log.epoch, after_seq=0, limit=10_000)
        return [json.loads(bytes(entry.event)) for entry in entries]

    def ending(self, name: str) -> float:
        return self.registry.get_sample_value("doorward_chat_runs_total", {"ending": name}) or 0.0


def code(outcome: Done | Fault) -> ErrorCode:
    assert isinstance(outcome, Fault)
    return outcome.code


async def test_a_run_from_start_to_end() -> None:
    async with Bench.opened(echo) as bench:
        thread = await bench.thread()
        outcome, run = await bench.start(thread)
        assert outcome == Done({"run_id": "r", "duplicate": False})
        assert run is not None
        assert run.active
        await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert events[0]["input"]["messages"] == [{"id": "r:question", "role": "user", "content": "one two"}]
        assert [event["delta"] for event in events if "delta" in event] == ["one ", "two "]
        assert events[-1] == {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
        assert thread.messages == [
            UserMessage(id="r:question", content="one two"),
            AssistantMessage(id="r:answer", content="one two "),
        ]
        assert thread.folded_seq == len(events)
        assert not run.active
        assert bench.ending("finished") == 1
        assert bench.registry.get_sample_value("doorward_chat_runs_active") == 0


async def test_the_same_run_id_runs_once() -> None:
    async with Bench.opened(echo) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        assert await bench.start(thread) == (Done({"run_id": "r", "duplicate": True}), None)
        await bench.ended()
        assert await bench.start(thread) == (Done({"run_id": "r", "duplicate": True}), None)
        assert [event["type"] for event in await bench.events(thread)].count("RUN_STARTED") == 1


async def test_the_agent_gets_the_history() -> None:
    seen: list[RunRequest] = []

    async def listening(request: RunRequest) -> AsyncIterator[BaseEvent]:
        seen.append(request)
        async for event in echo(request):
            yield event

    async with Bench.opened(listening) as bench:
        thread = await bench.thread()
        for number in (1, 2):
            await bench.start(thread, f"r{number}", f"question {number}")
            await bench.ended()
        assert seen[0].history == ()
        assert [message.id for message in seen[1].history] == ["r1:question", "r1:answer"]
        assert seen[1].who is bench.who


async def test_one_active_run_per_thread_and_a_few_per_user() -> None:
    async with Bench.opened(forever) as bench:
        first, second = await bench.thread("t1"), await bench.thread("t2")
        await bench.start(first, "r1")
        assert code((await bench.start(first, "r2"))[0]) is ErrorCode.RUN_ACTIVE
        await bench.start(second, "r1")
        assert code((await bench.start(await bench.thread("t3"), "r1"))[0]) is ErrorCode.TOO_MANY_RUNS
        await bench.start(await bench.thread("t4", "bob"), "r1")
        assert code((await bench.start(await bench.thread("t5", "carol"), "r1"))[0]) is ErrorCode.OVERLOADED
        await bench.chat.drain(Deadline(0.0))
        assert len(bench.chat.runs) == 0


async def test_cancel_closes_what_is_open_then_finishes() -> None:
    async with Bench.opened(forever) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await eventually(lambda: thread.active is not None and thread.active.events == 2)
        assert bench.chat.runs.cancel(thread, "r") == Done({"run_id": "r", "cancelled": True})
        await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert [event["type"] for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert events[-1]["outcome"] == {"type": "cancelled"}
        assert bench.chat.runs.cancel(thread, "r") == Done({"run_id": "r", "cancelled": False})
        assert code(bench.chat.runs.cancel(thread, "never")) is ErrorCode.NOT_FOUND
        assert (await bench.start(thread, "r2"))[1] is not None
        await bench.chat.drain(Deadline(0.0))


async def test_a_run_is_bounded_in_time() -> None:
    async with Bench.opened(forever, ChatLimits(run_seconds=0.05)) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "timeout")
        assert bench.ending("timeout") == 1


async def test_an_agent_that_ignores_its_cancellation_holds_up_nobody() -> None:
    released = asyncio.Event()

    async def stubborn(request: RunRequest) -> AsyncIterator[BaseEvent]:
        yield TextMessageStartEvent(message_id="a")
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        yield TextMessageContentEvent(message_id="a", delta="too late")

    async with Bench.opened(stubborn, ChatLimits(run_seconds=0.05, reap_seconds=0.05)) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await bench.ended()
        released.set()
        await eventually(lambda: "chat-agent" not in {task.get_name() for task in asyncio.all_tasks()})
        events = await bench.events(thread)
        verify(events)
        assert "too late" not in json.dumps(events)


@pytest.mark.parametrize(
    "bad",
    [
        [TextMessageContentEvent(message_id="a", delta="nobody opened this")],
        [TextMessageStartEvent(message_id="a"), TextMessageStartEvent(message_id="a")],
        [ToolCallStartEvent(tool_call_id="c", tool_call_name="x"), RunFinishedEvent(thread_id="t", run_id="r")],
    ],
)
async def test_an_agent_out_of_order_fails_in_order(bad: list[BaseEvent]) -> None:
    async def disorderly(_: RunRequest) -> AsyncIterator[BaseEvent]:
        for event in bad:
            yield event

    async with Bench.opened(disorderly) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "agent_failed")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "bad",
    [
        TextMessageContentEvent(message_id="a", delta="half a smile \ud83d"),
        CustomEvent(name="tree", value=nested(220)),
        CustomEvent(name="tree", value=nested(2_000)),
        CustomEvent(name="thing", value=object()),
        ToolCallStartEvent(tool_call_id="c\ude00", tool_call_name="x"),
        {"type": "CUSTOM"},
    ],
    ids=["half", "deep", "too deep", "object", "name", "no event"],
)
async def test_what_cannot_be_written_down_is_the_agents_fault(bad: BaseEvent) -> None:
    async def unwritable(_: RunRequest) -> AsyncIterator[BaseEvent]:
        yield TextMessageStartEvent(message_id="a")
        yield TextMessageContentEvent(message_id="a", delta="well ")
        yield bad
        yield TextMessageContentEvent(message_id="a", delta="too late")

    async with Bench.opened(unwritable) as bench:
        thread = await bench.thread()
        with capture_logs() as lines:
            await bench.start(thread)
            await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert [event["type"] for event in events[1:-1]] == [
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
        ]
        assert events[-1]["code"] == "agent_failed"
        assert [message.content for message in thread.messages] == ["one two", "well "]
        assert [line["event"] for line in lines] == ["chat.agent_failed"]
        assert bench.ending("failed") == 1


async def test_what_is_stored_can_be_read_back() -> None:
    for depth in (190, 196, *range(197, 206)):

        async def deep(_: RunRequest, depth: int = depth) -> AsyncIterator[BaseEvent]:
            yield CustomEvent(name="tree", value=nested(depth))

        async with Bench.opened(deep) as bench:
            thread = await bench.thread()
            await bench.start(thread)
            await bench.ended()
            for entry in await bench.chat.log.read(thread.id, epoch=bench.chat.log.epoch, after_seq=0, limit=10):
                TypeAdapter(Event).validate_json(bytes(entry.event))


@pytest.mark.parametrize("fault", AgentFault)
async def test_an_agent_that_knows_why_it_failed_is_quoted_to_the_operator_only(fault: AgentFault) -> None:
    async def refused(_: RunRequest) -> AsyncIterator[BaseEvent]:
        yield TextMessageStartEvent(message_id="a")
        raise AgentError(fault, "401 from models.internal", mend="set the key")

    async with Bench.opened(refused) as bench:
        thread = await bench.thread()
        with capture_logs() as lines:
            await bench.start(thread)
            await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert (events[-1]["code"], events[-1]["message"]) == (fault.value, TOLD[fault])
        assert events[-1]["metadata"] == {"retryable": fault in WORTH_ANOTHER_TRY}
        assert "internal" not in json.dumps(events)
        failed = next(line for line in lines if line["event"] == "chat.agent_failed")
        assert (failed["error"], failed["mend"]) == ("401 from models.internal", "set the key")


async def test_an_agent_that_raises_says_nothing_about_itself() -> None:
    async def broken(_: RunRequest) -> AsyncIterator[BaseEvent]:
        yield TextMessageStartEvent(message_id="a")
        raise RuntimeError("the password is hunter2")

    async with Bench.opened(broken) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert events[-1]["code"] == "agent_failed"
        assert "hunter2" not in json.dumps(events)


async def test_an_answer_is_bounded() -> None:
    async def endless(_: RunRequest) -> AsyncIterator[BaseEvent]:
        yield TextMessageStartEvent(message_id="a")
        while True:
            yield TextMessageContentEvent(message_id="a", delta="more and ")

    async with Bench.opened(endless, ChatLimits(events_per_run=100, mailbox_events=10)) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await bench.ended()
        events = await bench.events(thread)
        verify(events)
        assert events[-1]["code"] == "too_long"
        assert 100 < len(events) < 120


async def test_drain_lets_runs_go_on_until_the_deadline() -> None:
    async with Bench.opened(forever) as bench:
        thread, other = await bench.thread(), await bench.thread("t2")
        await bench.start(thread)
        loop = asyncio.get_running_loop()
        began = loop.time()
        draining = asyncio.create_task(bench.chat.drain(Deadline.after(began, 0.1)))
        await asyncio.sleep(0)
        assert code((await bench.start(other, "r2"))[0]) is ErrorCode.RESTARTING
        async with asyncio.timeout(2):
            await draining
        assert 0.1 <= loop.time() - began < 0.5
        events = await bench.events(thread)
        verify(events)
        assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "interrupted")
        assert events[-1]["metadata"] == {"retryable": True}


async def test_drain_without_runs_returns_at_once() -> None:
    async with Bench.opened(echo) as bench:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await bench.chat.drain(Deadline.after(began, 30))
        assert loop.time() - began < 0.1


class FullLog(MemoryEventLog):
    """A log on a disk that is full for a while."""

    full = True

    async def append(self, lease: Lease, events: Sequence[bytes]) -> int:
        if self.full:
            raise StoreError("disk full")
        return await super().append(lease, events)


async def test_a_log_that_fails_interrupts_the_run_once_it_works_again() -> None:
    log = FullLog(wall=lambda: 0.0)
    async with Bench.opened(echo, replace(LIMITS, housekeeping_seconds=0.02), log=log) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await bench.ended()
        assert code((await bench.start(thread, "r2"))[0]) is ErrorCode.RUN_ACTIVE
        log.full = False
        await eventually(lambda: thread.folded_seq > 0)
        events = await bench.events(thread)
        verify(events)
        assert [event.get("code") for event in events] == [None, "interrupted"]
        assert (await bench.start(thread, "r2"))[1] is not None
        await bench.ended()
        verify((await bench.events(thread))[2:])
        assert await bench.start(thread) == (Done({"run_id": "r", "duplicate": True}), None)


class LateEnd(MemoryEventLog):
    """A log that takes the last word of a run when it is told to."""

    def __init__(self) -> None:
        super().__init__(wall=lambda: 0.0)
        self.may_end = asyncio.Event()
        self.is_ending = False

    async def append(self, lease: Lease, events: Sequence[bytes]) -> int:
        if any(b"RUN_FINISHED" in event for event in events):
            self.is_ending = True
            await self.may_end.wait()
        return await super().append(lease, events)


async def test_a_run_that_ends_while_it_is_looked_for_is_not_ended_twice() -> None:
    log = LateEnd()
    async with Bench.opened(echo, log=log) as bench:
        thread = await bench.thread()
        await bench.start(thread)
        await eventually(lambda: log.is_ending)
        recovery = asyncio.create_task(bench.chat._recovery.run())
        await eventually(
            lambda: thread.turn._waiters, what="the run was found unfinished, and its thread is waited for"
        )
        log.may_end.set()
        assert await recovery == 0
        await bench.ended()
        verify(await bench.events(thread))
