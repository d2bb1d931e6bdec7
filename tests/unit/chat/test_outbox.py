from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from ag_ui.core import TextMessageContentEvent

from doorward.chat.envelope import Envelope, event_json
from doorward.chat.limits import ChatLimits
from doorward.chat.outbox import Outbox, SlowReader

LIMITS = ChatLimits(merge_above_messages=4, queue_messages=8, merged_bytes=400, stall_seconds=0.05)


def delta(seq: int, text: str = "x", thread_id: str = "t") -> Envelope:
    event = event_json(TextMessageContentEvent(message_id="m", delta=text))
    return Envelope(thread_id, "e", seq, seq, "r", 1, msgspec.Raw(event))


def other(seq: int) -> Envelope:
    return Envelope("t", "e", seq, seq, "r", 1, msgspec.Raw(b'{"type":"CUSTOM"}'))


async def drained(outbox: Outbox) -> list[dict[str, Any]]:
    return [json.loads(await outbox.take()) for _ in range(len(outbox))]


async def test_first_in_first_out() -> None:
    outbox = Outbox(LIMITS)
    await outbox.put('{"reply_to":"c1"}')
    await outbox.put(delta(1))
    await outbox.put('{"reply_to":"c2"}')
    first, second, third = await drained(outbox)
    assert (first["reply_to"], second["seq"], third["reply_to"]) == ("c1", 1, "c2")


async def test_deltas_stay_apart_while_the_reader_keeps_up() -> None:
    outbox = Outbox(LIMITS)
    for seq in range(1, 5):
        await outbox.put(delta(seq))
    assert [item["seq"] for item in await drained(outbox)] == [1, 2, 3, 4]


async def test_a_slow_reader_gets_the_same_text_in_fewer_envelopes() -> None:
    outbox = Outbox(LIMITS)
    letters = "abcdefghij"
    for seq, letter in enumerate(letters, 1):
        await outbox.put(delta(seq, letter))
    items = await drained(outbox)
    assert len(items) == 4
    assert "".join(item["event"]["delta"] for item in items) == letters
    last = 0
    for item in items:
        assert item["seq_from"] == last + 1
        last = item["seq"]
    assert last == len(letters)


async def test_threads_merge_each_for_itself() -> None:
    outbox = Outbox(LIMITS)
    for seq in range(1, 4):
        await outbox.put(delta(seq, "a", "one"))
        await outbox.put(delta(seq, "b", "two"))
    items = await drained(outbox)
    assert len(items) == 4
    for thread_id in ("one", "two"):
        ranges = [(item["seq_from"], item["seq"]) for item in items if item["thread_id"] == thread_id]
        assert ranges == [(1, 1), (2, 3)]


async def test_nothing_is_merged_across_a_reply() -> None:
    outbox = Outbox(LIMITS)
    for seq in range(1, 6):
        await outbox.put(delta(seq))
    await outbox.put('{"reply_to":"c"}')
    await outbox.put(delta(6))
    items = await drained(outbox)
    assert items[-1]["seq_from"] == 6
    assert items[-2]["reply_to"] == "c"


async def test_a_full_outbox_waits_for_room() -> None:
    outbox = Outbox(LIMITS)
    for seq in range(1, 9):
        await outbox.put(other(seq))
    waiting = asyncio.create_task(outbox.put(other(9)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.take()
    async with asyncio.timeout(1):
        await waiting
    assert [item["seq"] for item in await drained(outbox)] == list(range(2, 10))


async def test_nobody_reads() -> None:
    outbox = Outbox(LIMITS)
    for seq in range(1, 9):
        await outbox.put(other(seq))
    with pytest.raises(SlowReader):
        await outbox.put(other(9))
    assert len(outbox) == 8


async def test_bounded_in_bytes_too() -> None:
    outbox = Outbox(ChatLimits(queue_bytes=1_000, stall_seconds=0.05))
    await outbox.put("x" * 1_000)
    with pytest.raises(SlowReader):
        await outbox.put("y")


async def test_drops_what_a_thread_still_had() -> None:
    outbox = Outbox(LIMITS)
    await outbox.put(delta(1, thread_id="one"))
    await outbox.put('{"reply_to":"c"}')
    await outbox.put(delta(1, thread_id="two"))
    outbox.discard("one")
    reply, left = await drained(outbox)
    assert (reply["reply_to"], left["thread_id"]) == ("c", "two")


async def test_a_cancelled_taker_takes_nothing() -> None:
    outbox = Outbox(LIMITS)
    taker = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    taker.cancel()
    await asyncio.wait({taker}, timeout=1)
    await outbox.put("{}")
    assert await outbox.take() == "{}"
