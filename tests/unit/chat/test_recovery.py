"""What a process that died left behind is ended, whatever its agent had said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ag_ui.core import TextMessageContentEvent, TextMessageStartEvent
from structlog.testing import capture_logs
from tests.chat_support import ScriptedAgent, echo, verify

from doorward.chat.envelope import event_json
from doorward.chat.eventlog import EventLog, Lease
from doorward.chat.memory_log import MemoryEventLog
from doorward.chat.runs import opening, question_of
from doorward.chat.service import Chat
from doorward.chat.store import StoredRun
from doorward.errors import StoreError

TOO_DEEP = b'{"type":"CUSTOM","name":"tree","value":' + b"[" * 220 + b"]" * 220 + b"}"
STRANGE = b'{"type":"SOMETHING_OF_2030"}'
NOT_OPEN = event_json(TextMessageContentEvent(message_id="never", delta="x"))
START = event_json(TextMessageStartEvent(message_id="a"))
HELLO = event_json(TextMessageContentEvent(message_id="a", delta="hello"))


@asynccontextmanager
async def opened(path: Path | None, log: EventLog | None = None) -> AsyncIterator[Chat]:
    chat = Chat(ScriptedAgent(echo), file=path, log=log)
    try:
        await chat.open()
        yield chat
    finally:
        await chat.aclose()


async def leave_behind(chat: Chat, thread_id: str, *events: bytes) -> None:
    """A run that nobody conducts any more."""
    await chat.threads.open(thread_id, "alice")
    await chat.store.begin_run(StoredRun(thread_id, "r", "hi"))
    lease = await chat.log.acquire(thread_id, "r")
    await chat.log.append(lease, [event_json(opening(thread_id, "r", question_of("r", "hi"))), *events])


async def events_of(chat: Chat, thread_id: str) -> list[dict[str, Any]]:
    entries = await chat.log.read(thread_id, epoch=chat.log.epoch, after_seq=0, limit=100)
    return [json.loads(bytes(entry.event)) for entry in entries]


@pytest.mark.parametrize("unreadable", [TOO_DEEP, STRANGE, NOT_OPEN])
async def test_an_event_that_cannot_be_read_back_keeps_no_server_from_starting(
    tmp_path: Path, unreadable: bytes
) -> None:
    path = tmp_path / "data" / "chat.sqlite3"
    async with opened(path) as chat:
        await leave_behind(chat, "t", START, unreadable, HELLO)
    with capture_logs() as lines:
        async with opened(path) as chat:
            events = await events_of(chat, "t")
            assert [event["type"] for event in events[-2:]] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
            assert events[-1]["code"] == "interrupted"
            history = await chat.store.thread("t", "alice")
            assert history is not None
            assert [message.content for message in history.messages] == ["hi", "hello"]
            assert await chat._recovery.run() == 0
    (told,) = [line for line in lines if line["event"] == "chat.event_not_read_back"]
    assert (told["run_id"], told["seq"]) == ("r", 3)


class Sick(MemoryEventLog):
    """A log that fails for one thread."""

    failure: Exception = RuntimeError("what nobody thought of")
    is_sick = False

    async def acquire(self, thread_id: str, run_id: str) -> Lease:
        lease = await super().acquire(thread_id, run_id)
        if thread_id == "sick" and self.is_sick:
            raise self.failure
        return lease


async def test_a_run_that_cannot_be_ended_stops_no_other() -> None:
    log = Sick(wall=lambda: 0.0)
    async with opened(None, log) as chat:
        for thread_id in ("a", "sick", "z"):
            await leave_behind(chat, thread_id)
        log.is_sick = True
        with capture_logs() as lines:
            assert await chat._recovery.run() == 2
            assert await chat._recovery.run() == 0
        assert [line["thread_id"] for line in lines if line["event"] == "chat.run_not_recovered"] == ["sick"]
        for thread_id in ("a", "z"):
            verify(await events_of(chat, thread_id))
        log.is_sick = False
        assert await chat._recovery.run() == 1
        verify(await events_of(chat, "sick"))


async def test_a_store_that_does_not_answer_is_not_asked_for_every_run() -> None:
    log = Sick(wall=lambda: 0.0)
    log.failure = StoreError("no answer")
    async with opened(None, log) as chat:
        await leave_behind(chat, "sick")
        log.is_sick = True
        with pytest.raises(StoreError):
            await chat._recovery.run()
