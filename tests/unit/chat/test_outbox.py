from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from ag_ui.core import TextMessageContentEvent

from doorward.chat.envelope import Envelope, event_json
from doorward.chat.limits import ChatLimits
from doorward.chat.outbox import OVERHEAD_BYTES, Outbox, Slow, SlowReader
from doorward.chat.unsent import UnsentBudget

LIMITS = ChatLimits(merge_above_messages=4, queue_messages=8, merged_bytes=400, stall_seconds=0.05)


@dataclass
class Bench:
    """Queues that share a budget, and what they told."""

    limit_bytes: int = 1_000_000
    limits: ChatLimits = LIMITS
    delivered: list[int] = field(default_factory=list)
    evicted: list[tuple[str, Slow]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budget = UnsentBudget(self.limit_bytes)

    def outbox(self, name: str = "") -> Outbox:
        return Outbox(
            self.limits,
            self.budget,
            delivered=self.delivered.append,
            evicted=lambda why: self.evicted.append((name, why)),
        )


@pytest.fixture
def outbox() -> Outbox:
    return Bench().outbox()


def delta(seq: int, text: str = "x", thread_id: str = "t") -> Envelope:
    event = event_json(TextMessageContentEvent(message_id="m", delta=text))
    return Envelope(thread_id, "e", seq, seq, "r", seq, msgspec.Raw(event))


def other(seq: int, size: int = 0) -> Envelope:
    event = b'{"type":"CUSTOM","pad":"%s"}' % (b"x" * size)
    return Envelope("t", "e", seq, seq, "r", seq, msgspec.Raw(event))


def push(outbox: Outbox, *envelopes: Envelope) -> None:
    for envelope in envelopes:
        outbox.push(envelope, live=True)


async def drained(outbox: Outbox) -> list[dict[str, Any]]:
    return [json.loads(await outbox.take()) for _ in range(len(outbox))]


async def test_first_in_first_out(outbox: Outbox) -> None:
    await outbox.put(b'{"reply_to":"c1"}')
    push(outbox, delta(1))
    await outbox.put(b'{"reply_to":"c2"}')
    first, second, third = await drained(outbox)
    assert (first["reply_to"], second["seq"], third["reply_to"]) == ("c1", 1, "c2")


async def test_deltas_stay_apart_while_the_reader_keeps_up(outbox: Outbox) -> None:
    push(outbox, *(delta(seq) for seq in range(1, 5)))
    assert [item["seq"] for item in await drained(outbox)] == [1, 2, 3, 4]


async def test_a_slow_reader_gets_the_same_text_in_fewer_envelopes(outbox: Outbox) -> None:
    letters = "abcdefghij"
    push(outbox, *(delta(seq, letter) for seq, letter in enumerate(letters, 1)))
    items = await drained(outbox)
    assert len(items) == 4
    assert "".join(item["event"]["delta"] for item in items) == letters
    last = 0
    for item in items:
        assert item["seq_from"] == last + 1
        last = item["seq"]
    assert last == len(letters)


async def test_threads_merge_each_for_itself(outbox: Outbox) -> None:
    for seq in range(1, 4):
        push(outbox, delta(seq, "a", "one"), delta(seq, "b", "two"))
    items = await drained(outbox)
    assert len(items) == 4
    for thread_id in ("one", "two"):
        ranges = [(item["seq_from"], item["seq"]) for item in items if item["thread_id"] == thread_id]
        assert ranges == [(1, 1), (2, 3)]


async def test_nothing_is_merged_across_a_reply(outbox: Outbox) -> None:
    push(outbox, *(delta(seq) for seq in range(1, 6)))
    await outbox.put(b'{"reply_to":"c"}')
    push(outbox, delta(6))
    items = await drained(outbox)
    assert items[-1]["seq_from"] == 6
    assert items[-2]["reply_to"] == "c"


async def test_a_full_outbox_has_room_again_once_something_was_sent(outbox: Outbox) -> None:
    push(outbox, *(other(seq) for seq in range(1, 9)))
    waiting = asyncio.create_task(outbox.put(b'{"reply_to":"c"}'))
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.take()
    async with asyncio.timeout(1):
        await waiting
    assert [item.get("seq") for item in await drained(outbox)] == [*range(2, 9), None]


async def test_nobody_reads(outbox: Outbox) -> None:
    push(outbox, *(other(seq) for seq in range(1, 9)))
    for waiting in (outbox.room(), outbox.put(b"{}")):
        with pytest.raises(SlowReader) as caught:
            await waiting
        assert caught.value.why is Slow.STALLED
    assert len(outbox) == 8


async def test_bounded_in_bytes_too() -> None:
    outbox = Bench(limits=ChatLimits(queue_bytes=1_000, stall_seconds=0.05)).outbox()
    await outbox.put(b"x" * 1_000)
    with pytest.raises(SlowReader):
        await outbox.put(b"y")


async def test_what_is_being_sent_still_weighs(outbox: Outbox) -> None:
    """A peer that takes nothing holds it up in the server."""
    await outbox.put(b"x" * 1_000)
    assert outbox.bytes == 1_000 + OVERHEAD_BYTES
    await outbox.take()
    assert outbox.bytes == 1_000 + OVERHEAD_BYTES
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert outbox.bytes == 0
    taking.cancel()


async def test_an_envelope_weighs_what_it_holds_encoded_too(outbox: Outbox) -> None:
    push(outbox, heavy := other(1, 5_000))
    assert (
        len(heavy.event) + len(heavy.encoded) <= outbox.bytes <= len(heavy.event) + len(heavy.encoded) + OVERHEAD_BYTES
    )
    push(outbox, *(delta(seq, "y" * 30) for seq in range(2, 20)))
    assert outbox.bytes >= sum(2 * len(cell.item.event) for cell in outbox._cells if isinstance(cell.item, Envelope))
    outbox.discard("t")
    assert outbox.bytes == 0


async def test_drops_what_a_thread_still_had(outbox: Outbox) -> None:
    push(outbox, delta(1, thread_id="one"))
    await outbox.put(b'{"reply_to":"c"}')
    push(outbox, delta(1, thread_id="two"))
    outbox.discard("one")
    reply, left = await drained(outbox)
    assert (reply["reply_to"], left["thread_id"]) == ("c", "two")


async def test_a_cancelled_taker_takes_nothing(outbox: Outbox) -> None:
    taker = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    taker.cancel()
    await asyncio.wait({taker}, timeout=1)
    await outbox.put(b"{}")
    assert await outbox.take() == b"{}"


async def test_notices_go_first_and_the_newest_of_each_subject_holds(outbox: Outbox) -> None:
    await outbox.put(b"{}")
    outbox.post("t1", b"old")
    outbox.post("t2", b"two")
    outbox.post("t1", b"new")
    assert [await outbox.take() for _ in range(3)] == [b"two", b"new", b"{}"]


async def test_notices_are_bounded_and_weigh(outbox: Outbox) -> None:
    for number in range(20):
        outbox.post(f"t{number}", b"x" * 100)
    assert outbox.bytes == 8 * (100 + OVERHEAD_BYTES)
    assert [await outbox.take() for _ in range(8)] == [b"x" * 100] * 8


async def test_tells_of_events_that_happen_now_once_they_are_sent() -> None:
    bench = Bench()
    outbox = bench.outbox()
    outbox.push(other(1), live=False)
    push(outbox, other(2), other(3))
    await outbox.put(b"{}")
    for _ in range(3):
        await outbox.take()
    assert bench.delivered == [2], "the third is being sent"
    await outbox.take()
    assert bench.delivered == [2, 3]


async def test_of_what_was_merged_the_longest_wait_is_told() -> None:
    bench = Bench()
    outbox = bench.outbox()
    push(outbox, *(delta(seq) for seq in range(1, 9)))
    for _ in range(4):
        await outbox.take()
    waiting = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    waiting.cancel()
    assert bench.delivered == [1, 2, 3, 4]


async def test_the_fattest_queue_is_evicted_and_the_others_are_left_alone() -> None:
    bench = Bench(limit_bytes=10_000)
    thin, fat, middle = (bench.outbox(name) for name in ("thin", "fat", "middle"))
    await fat.put(b"x" * 5_000)
    await middle.put(b"x" * 2_000)
    await thin.put(b"x" * 100)
    assert bench.budget.bytes == 7_100 + 3 * OVERHEAD_BYTES
    await thin.put(b"x" * 1_000)
    assert bench.evicted == [("fat", Slow.BUDGET)]
    assert bench.budget.bytes == 3_100 + 3 * OVERHEAD_BYTES == thin.bytes + middle.bytes
    with pytest.raises(SlowReader) as caught:
        await fat.put(b"more")
    assert caught.value.why is Slow.BUDGET
    push(fat, other(1))
    fat.post("t", b"notice")
    assert (len(fat), fat.bytes) == (0, 0), "nothing is added any more"
    assert await middle.take() == b"x" * 2_000


async def test_who_waits_for_room_is_told_of_the_eviction() -> None:
    bench = Bench(limit_bytes=20_000, limits=ChatLimits(queue_messages=4, stall_seconds=60))
    full, another = bench.outbox("full"), bench.outbox("another")
    push(full, *(other(seq, 1_500) for seq in range(1, 5)))
    waiting = asyncio.create_task(full.room())
    await asyncio.sleep(0)
    await another.put(b"x" * 10_000)
    async with asyncio.timeout(1):
        with pytest.raises(SlowReader):
            await waiting
    assert bench.evicted == [("full", Slow.BUDGET)]


async def test_a_push_that_is_too_much_by_itself_evicts_its_own_queue() -> None:
    bench = Bench(limit_bytes=10_000)
    outbox = bench.outbox("own")
    push(outbox, other(1, 6_000), other(2))
    assert bench.evicted == [("own", Slow.BUDGET)]
    assert (len(outbox), bench.budget.bytes, len(bench.budget)) == (0, 0, 0)


async def test_nothing_is_left_in_the_budget_of_a_closed_queue() -> None:
    bench = Bench()
    outbox = bench.outbox()
    await outbox.put(b"{}")
    push(outbox, other(1))
    outbox.post("t", b"notice")
    await outbox.take()
    outbox.close()
    outbox.close()
    assert (bench.budget.bytes, len(bench.budget), bench.evicted) == (0, 0, [])
