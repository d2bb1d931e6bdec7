"""Following threads in virtual time: resume, order, snapshots, gaps, and readers that are slow."""

from __future__ import annotations

import asyncio

import pytest
from tests.client_support import FakeLine, Json, Meeting, meeting, welcome
from tests.runtime_kit import virtual

from doorward.client import Ended, Envelope, Position, Refused, StateName, Subscription, Timing, Unanswered
from doorward.errors import UsageError


async def take(events: Subscription, count: int) -> list[int | None]:
    """The numbers of the next envelopes; `None` for a synthetic one."""
    async with asyncio.timeout(500.0):
        return [(await anext(events)).seq for _ in range(count)]


@virtual
async def test_after_a_break_each_thread_goes_on_from_its_place() -> None:
    async def first(line: FakeLine) -> None:
        line.let_in()
        for thread in ("a", "b"):
            await line.subscribed(resumed=False)
            line.snapshot(0, thread=thread)
        line.event(1, thread="a")
        line.event(2, seq_from=2, thread="a")
        line.event(3, seq_from=1, thread="b")
        await asyncio.sleep(1.0)
        line.cut()

    resumed: list[Json] = []

    async def second(line: FakeLine) -> None:
        line.let_in()
        resumed.extend([await line.subscribed(resumed=True), await line.subscribed(resumed=True)])
        line.event(3, thread="a")
        line.event(4, thread="b")
        await line.answer_all()

    async with meeting(first, second) as met:
        async with met.client.subscribe("a") as a, met.client.subscribe("b") as b:
            assert await take(a, 4) == [None, 1, 2, 3]
            assert await take(b, 3) == [None, 3, 4]
            assert (a.position, b.position) == (Position("e", 3), Position("e", 4))
        places = {command["thread_id"]: (command["epoch"], command["after_seq"]) for command in resumed}
        assert places == {"a": ("e", 2), "b": ("e", 3)}


@virtual
async def test_a_place_from_before_is_gone_on_from() -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        command = await line.subscribed(resumed=True)
        assert (command["epoch"], command["after_seq"]) == ("e", 9)
        line.event(10)
        await line.answer_all()

    async with meeting(serving) as met, met.client.subscribe("t", after=Position("e", 9)) as events:
        assert await take(events, 1) == [10]


@virtual
async def test_what_was_seen_is_not_given_out_again() -> None:
    async def repeating(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        for seq in (1, 2, 1, 2, 3):
            line.event(seq)
        await line.answer_all()

    async with meeting(repeating) as met, met.client.subscribe("t", after=Position("e", 0)) as events:
        assert await take(events, 3) == [1, 2, 3]


@pytest.mark.parametrize("how", ["later", "overlapping", "epoch"])
@virtual
async def test_a_gap_is_closed_by_asking_again(how: str) -> None:
    async def skipping(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        line.event(1)
        match how:
            case "later":
                line.event(3)
            case "overlapping":
                line.event(3, seq_from=1)
            case "epoch":
                line.event(2, epoch="other")
        command = await line.subscribed(resumed=True)
        assert command["after_seq"] == 1
        for seq in (2, 3, 4):
            line.event(seq)
        line.event(6)  # another one, later: asked for once again
        assert (await line.subscribed(resumed=True))["after_seq"] == 4
        line.event(5)
        line.event(6)
        await line.answer_all()

    async with meeting(skipping) as met, met.client.subscribe("t", after=Position("e", 0)) as events:
        assert await take(events, 6) == [1, 2, 3, 4, 5, 6]


@virtual
async def test_a_gap_that_stays_is_told() -> None:
    async def broken(line: FakeLine) -> None:
        line.let_in()
        for _ in range(2):
            await line.subscribed(resumed=True)
            line.event(1)
            line.event(3)
        await line.answer_all()

    async with meeting(broken) as met, met.client.subscribe("t", after=Position("e", 0)) as events:
        assert await take(events, 1) == [1]
        with pytest.raises(Ended) as told:
            await take(events, 1)
        assert told.value.code == "GAP"


@virtual
async def test_a_snapshot_starts_the_count_anew_and_says_what_still_runs() -> None:
    async def restarted(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=False, active="r7")
        line.snapshot(20, epoch="new")
        line.event(21, epoch="new")
        await line.answer_all()

    async with meeting(restarted) as met, met.client.subscribe("t", after=Position("old", 9)) as events:
        snapshot = await anext(events)
        assert isinstance(snapshot, Envelope)
        assert (snapshot.is_snapshot, snapshot.active_run_id, events.position) == (True, "r7", Position("new", 20))
        assert await take(events, 1) == [21]


@virtual
async def test_a_snapshot_out_of_the_blue_is_asked_for_properly() -> None:
    """The server says that we were slower than its log forgets; what still runs is told only by a subscription."""

    async def forgetting(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        line.event(1)
        line.snapshot(50)
        command = await line.subscribed(resumed=False, active=None)
        assert "after_seq" not in command
        line.snapshot(51)
        line.event(52)
        await line.answer_all()

    async with meeting(forgetting) as met, met.client.subscribe("t", after=Position("e", 0)) as events:
        assert await take(events, 3) == [1, None, 52]


@virtual
async def test_what_the_old_subscription_still_says_is_dropped() -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        line.event(1)
        await line.hear("thread.unsubscribe")
        command = await line.hear("thread.subscribe")
        line.event(2)
        line.say(reply_to=command["id"], ok=True, resumed=False)
        line.snapshot(2)
        line.event(3)
        await line.answer_all()

    async with meeting(serving) as met:
        async with met.client.subscribe("t", after=Position("e", 0)) as events:
            assert await take(events, 1) == [1]
        async with met.client.subscribe("t") as events:
            assert await take(events, 2) == [None, 3]


# What the line does not take any more


async def stuck_with(met: Meeting, line: FakeLine) -> asyncio.Task[Json]:
    """From now on the line takes nothing, and a command waits for it: what comes now is queued behind."""
    line.takes.clear()
    waiting = asyncio.create_task(met.client.send({"type": "odd"}))
    await asyncio.sleep(1.0)
    return waiting


async def ended(waiting: asyncio.Task[Json]) -> None:
    with pytest.raises(Unanswered):
        await waiting


@virtual
async def test_an_unsubscription_that_was_not_sent_does_not_end_the_next_subscription() -> None:
    log = Log(3)
    async with meeting(log.serve) as met:
        async with met.client.subscribe("t", after=Position("e", 0)) as events:
            assert await take(events, 3) == [1, 2, 3]
            waiting = await stuck_with(met, met.door.lines[0])
        met.door.lines[0].cut()
        await ended(waiting)
        async with met.client.subscribe("t", after=Position("e", 0)) as events:
            assert await take(events, 3) == [1, 2, 3]
            await asyncio.sleep(5.0)
            assert log.unsubscribed == 0


@virtual
async def test_an_unsubscription_of_a_slow_reader_that_was_not_sent_does_not_end_its_next_subscription() -> None:
    log = Log(3)
    async with meeting(log.serve) as met, met.client.subscribe("t", after=Position("e", 0), queue=4) as events:
        await asyncio.sleep(1.0)
        waiting = await stuck_with(met, met.door.lines[0])
        for seq in (4, 5, 6):
            met.door.lines[0].event(seq)
        await asyncio.sleep(1.0)
        assert events.is_behind
        met.door.lines[0].cut()
        await ended(waiting)
        log.length = 6
        assert await take(events, 6) == [1, 2, 3, 4, 5, 6]
        await asyncio.sleep(5.0)
        assert (log.asked_after, log.unsubscribed) == ([0, 4], 0)


@virtual
async def test_a_subscription_that_was_not_sent_is_not_sent_on_the_next_connection_beside_its_own() -> None:
    log = Log(3)
    async with meeting(log.serve) as met:
        await met.client.ready()
        waiting = await stuck_with(met, met.door.lines[0])
        subscribing, left = (
            asyncio.create_task(met.client.subscribe(thread, after=Position("e", 0)).__aenter__())
            for thread in ("t", "left")
        )
        await asyncio.sleep(1.0)
        met.door.lines[0].cut()
        await ended(waiting)
        left.cancel()
        events = await subscribing
        assert await take(events, 3) == [1, 2, 3]
        await asyncio.sleep(5.0)
        assert log.asked_after == [0]


@virtual
async def test_a_subscription_that_a_line_did_not_take_in_time_is_asked_for_again_on_it() -> None:
    log = Log(3)
    async with meeting(log.serve) as met:
        await met.client.ready()
        waiting = await stuck_with(met, met.door.lines[0])
        subscribing = asyncio.create_task(met.client.subscribe("t", after=Position("e", 0)).__aenter__())
        await asyncio.sleep(Timing().command_seconds + 1.0)
        await ended(waiting)
        met.door.lines[0].takes.set()
        events = await subscribing
        assert await take(events, 3) == [1, 2, 3]
        assert (log.asked_after, len(met.door.lines)) == ([0], 1)


@virtual
async def test_a_run_that_a_line_did_not_take_in_time_is_asked_for_again_on_it() -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        await line.answer_all()

    async with meeting(serving) as met:
        await met.client.ready()
        waiting = await stuck_with(met, met.door.lines[0])
        starting = asyncio.create_task(met.client.start_run("t", "?"))
        await asyncio.sleep(Timing().command_seconds + 1.0)
        await ended(waiting)
        met.door.lines[0].takes.set()
        assert not (await starting).is_duplicate
        assert len(met.door.lines) == 1


@pytest.mark.parametrize("code", ["NOT_FOUND", "TOO_MANY_SUBSCRIPTIONS"])
@virtual
async def test_a_thread_that_cannot_be_had_is_refused_and_not_asked_for_again(code: str) -> None:
    async def unknown(line: FakeLine) -> None:
        line.let_in()
        command = await line.hear("thread.subscribe")
        line.say(reply_to=command["id"], error={"code": code, "message": "no"})
        line.cut()

    later: list[Json] = []

    async def second(line: FakeLine) -> None:
        line.let_in()
        later.append(await line.hear("thread.subscribe"))

    async with meeting(unknown, second) as met:
        with pytest.raises(Refused) as told:
            async with met.client.subscribe("t"):
                pass
        assert told.value.code == code
        await met.state(StateName.OPEN, count=2)
        await asyncio.sleep(60.0)
        assert later == []


@virtual
async def test_a_server_that_cannot_just_now_is_asked_again() -> None:
    async def stumbling(line: FakeLine) -> None:
        line.let_in()
        for code in ("UNAVAILABLE", "OVERLOADED"):
            command = await line.hear("thread.subscribe")
            line.say(reply_to=command["id"], error={"code": code, "message": "not now"})
        await line.hear("thread.subscribe")  # and once there is no reply at all
        await line.subscribed(resumed=True)
        line.event(1)
        await line.answer_all()

    async with meeting(stumbling) as met, met.client.subscribe("t", after=Position("e", 0)) as events:
        assert await take(events, 1) == [1]
        assert len(met.door.lines) == 1


@virtual
async def test_to_begin_has_a_bound_and_leaves_nothing() -> None:
    heard: list[Json] = []

    async def silent(line: FakeLine) -> None:
        line.let_in()
        while True:
            heard.append(await line.hear("thread.subscribe"))

    async with meeting(silent) as met:
        with pytest.raises(Unanswered) as told:
            async with met.client.subscribe("t", within_seconds=5.0):
                pass
        assert told.value.code == "NOT_CONNECTED"
        await asyncio.sleep(100.0)
        assert len(heard) == 1


@pytest.mark.parametrize(
    ("after", "create", "creates"),
    [(None, None, True), (None, False, False), (Position("e", 9), None, False), (Position("e", 9), True, True)],
)
@virtual
async def test_a_thread_that_was_deleted_during_a_break_is_not_made_anew(
    after: Position | None, create: bool | None, creates: bool
) -> None:
    async def first(line: FakeLine) -> None:
        line.let_in()
        assert (await line.subscribed(resumed=True)).get("create", True) is creates
        await asyncio.sleep(1.0)
        line.cut()

    async def second(line: FakeLine) -> None:
        line.let_in()
        command = await line.hear("thread.subscribe")
        assert command["create"] is False
        line.say(reply_to=command["id"], error={"code": "NOT_FOUND", "message": "no"})
        await line.answer_all()

    async with meeting(first, second) as met, met.client.subscribe("t", after=after, create=create) as events:
        with pytest.raises(Refused) as caught:
            await anext(events)
        assert caught.value.code == "NOT_FOUND"


@virtual
async def test_a_question_that_is_repeated_after_a_break_does_not_make_a_thread_anew_that_was_there() -> None:
    async def first(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=False)
        assert "create" not in await line.hear("run.start")
        line.cut()

    async def second(line: FakeLine) -> None:
        line.let_in()
        for kind in ("thread.subscribe", "run.start"):
            command = await line.hear(kind)
            assert command["create"] is False
            line.say(reply_to=command["id"], error={"code": "NOT_FOUND", "message": "no"})
        await line.answer_all()

    async with meeting(first, second) as met, met.client.subscribe("t"):
        with pytest.raises(Refused) as caught:
            await met.client.start_run("t", "?")
        assert caught.value.code == "NOT_FOUND"


@virtual
async def test_a_thread_is_followed_once() -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        await line.answer_all(resumed=True)

    async with meeting(serving) as met, met.client.subscribe("t"):
        with pytest.raises(UsageError, match="follows 't' already"):
            async with met.client.subscribe("t"):
                pass


@virtual
async def test_a_deleted_thread_ends() -> None:
    async def deleting(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        line.event(1)
        line.say(notice="thread.deleted", thread_id="t")
        line.say(notice="thread.deleted", thread_id="another")
        await line.answer_all()

    async with meeting(deleting) as met, met.client.subscribe("t", after=Position("e", 0)) as events:
        assert await take(events, 1) == [1]
        with pytest.raises(Ended) as told:
            await take(events, 1)
        assert told.value.code == "DELETED"


@virtual
async def test_a_reader_ends_when_the_subscription_is_closed_and_when_the_client_is() -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        await line.answer_all(resumed=True)

    async def read(events: Subscription) -> int:
        return len([envelope async for envelope in events])

    async with meeting(serving) as met:
        async with met.client.subscribe("a") as events:
            reading = asyncio.create_task(read(events))
            await asyncio.sleep(1.0)
        assert await reading == 0
        async with met.client.subscribe("b") as events:
            reading = asyncio.create_task(read(events))
            await asyncio.sleep(1.0)
            await met.client.aclose()
            with pytest.raises(Ended):
                await reading
        with pytest.raises(Ended):
            async with met.client.subscribe("c"):
                pass


# Slow readers


class Log:
    """A server with the events 1 to `length`: it sends what was asked for, until it is told to stop."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked_after: list[int] = []
        self.unsubscribed = 0

    async def serve(self, line: FakeLine) -> None:
        line.let_in()
        while True:
            command = await line.hear()
            line.say(reply_to=command["id"], ok=True, resumed=True)
            if command["type"] == "thread.subscribe":
                self.asked_after.append(command["after_seq"])
                for seq in range(command["after_seq"] + 1, self.length + 1):
                    line.event(seq)
            elif command["type"] == "thread.unsubscribe":
                self.unsubscribed += 1


@virtual
async def test_a_slow_reader_loses_nothing_and_holds_a_bounded_number() -> None:
    log = Log(100)
    async with meeting(log.serve) as met, met.client.subscribe("t", after=Position("e", 0), queue=10) as events:
        await asyncio.sleep(10.0)
        assert len(events._queue) == 10
        assert await take(events, 100) == list(range(1, 101))
        assert events.position == Position("e", 100)
        assert log.asked_after[0] == 0
        assert len(log.asked_after) > 2
        assert log.unsubscribed >= len(log.asked_after) - 1


@virtual
async def test_a_slow_reader_does_not_hold_up_another() -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        for _ in range(2):
            await line.subscribed(resumed=True)
        for seq in range(1, 50):
            line.event(seq, thread="slow")
            line.event(seq, thread="quick")
        await line.answer_all()

    async with meeting(serving) as met:
        slow = met.client.subscribe("slow", after=Position("e", 0), queue=5)
        async with slow, met.client.subscribe("quick", after=Position("e", 0), queue=100) as quick:
            assert await take(quick, 49) == list(range(1, 50))
            assert len(slow._queue) == 5


@virtual
async def test_a_slow_reader_over_a_break_catches_up_from_its_own_place() -> None:
    async def first(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        for seq in range(1, 9):
            line.event(seq)
        await asyncio.sleep(1.0)
        line.cut()

    log = Log(8)
    async with meeting(first, log.serve) as met, met.client.subscribe("t", after=Position("e", 0), queue=4) as events:
        await met.state(StateName.OPEN, count=2)
        await asyncio.sleep(5.0)
        assert log.asked_after == [], "it has not caught up yet"
        assert await take(events, 8) == list(range(1, 9))
        assert log.asked_after == [4]


@virtual
async def test_a_client_with_nothing_to_follow_says_nothing() -> None:
    async with meeting(welcome) as met:
        await met.client.ready()
        await asyncio.sleep(5.0)
        assert len(met.door.lines) == 1
