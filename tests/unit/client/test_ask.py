"""One question in virtual time: its run and nothing else, over breaks, to its end or to a bound."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from tests.client_support import FakeLine, Json, Meeting, meeting
from tests.runtime_kit import virtual

from doorward.client import Page, Refused, ThreadRun, Unanswered
from doorward.client.wire import SNAPSHOT


class Runs:
    """Stands for `client.threads`: what the server says of the runs of a thread, at the second time of asking."""

    def __init__(self, *runs: ThreadRun) -> None:
        self._runs = runs
        self.asked = 0

    async def runs(self, _: str) -> Page[ThreadRun]:
        self.asked += 1
        if self.asked == 1:
            raise Unanswered("UNREACHABLE", "not now")
        return Page(list(self._runs), None)


def said(line: FakeLine, seq: int, kind: str, run_id: str = "r1") -> None:
    line.event(seq, event={"type": kind}, run_id=run_id)


async def started(line: FakeLine, *, active: str | None = None) -> Json:
    line.let_in()
    await line.subscribed(resumed=False, active=active)
    line.snapshot(0)
    command = await line.hear("run.start")
    line.say(reply_to=command["id"], ok=True, run_id=command["run_id"])
    return command


async def kinds(met: Meeting, **options: float) -> list[str]:
    return [envelope.kind async for envelope in met.client.ask("t", "hello", run_id="r1", **options)]


@virtual
async def test_its_own_run_and_nothing_else() -> None:
    async def serving(line: FakeLine) -> None:
        command = await started(line)
        assert (command["message"], command["thread_id"], command["run_id"]) == ("hello", "t", "r1")
        said(line, 1, "RUN_STARTED", "r0")
        said(line, 2, "RUN_FINISHED", "r0")
        for seq, kind in enumerate(("RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"), 3):
            said(line, seq, kind)
        said(line, 6, "RUN_STARTED", "r2")
        assert (await line.hear())["type"] == "thread.unsubscribe"
        await line.answer_all()

    async with meeting(serving) as met:
        assert await kinds(met) == ["RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"]
        await asyncio.sleep(1.0)


@virtual
async def test_over_a_break_it_goes_on() -> None:
    async def first(line: FakeLine) -> None:
        await started(line)
        said(line, 1, "RUN_STARTED")
        line.cut()

    async def second(line: FakeLine) -> None:
        line.let_in()
        assert (await line.subscribed(resumed=True, active="r1"))["after_seq"] == 1
        said(line, 2, "RUN_ERROR")
        await line.answer_all()

    async with meeting(first, second) as met:
        assert await kinds(met) == ["RUN_STARTED", "RUN_ERROR"]


@pytest.mark.parametrize("ended", [True, False])
@virtual
async def test_where_a_snapshot_skips_the_end_it_ends_with_the_snapshot(ended: bool) -> None:
    async def first(line: FakeLine) -> None:
        await started(line)
        said(line, 1, "RUN_STARTED")
        line.cut()

    async def second(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=False, active=None if ended else "r1")
        line.snapshot(90)
        if not ended:
            said(line, 91, "RUN_STARTED")
            said(line, 92, "RUN_FINISHED")
        await line.answer_all()

    async with meeting(first, second) as met:
        met.client.threads = Runs(ThreadRun("r1", "then", "now", "finished"))  # type: ignore[assignment]
        expected = [SNAPSHOT] if ended else ["RUN_STARTED", "RUN_FINISHED"]
        assert await kinds(met) == ["RUN_STARTED", *expected]


@pytest.mark.parametrize("ended", [True, False])
@virtual
async def test_a_run_that_was_started_before_may_be_over_already(ended: bool) -> None:
    async def serving(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=False, active=None if ended else "r1")
        line.snapshot(7)
        line.say(reply_to=(await line.hear("run.start"))["id"], ok=True, duplicate=True)
        if not ended:
            said(line, 8, "RUN_STARTED")
            said(line, 9, "RUN_FINISHED")
        await line.answer_all()

    async with meeting(serving) as met:
        met.client.threads = runs = Runs(ThreadRun("r1", "then", "now", "finished"))  # type: ignore[assignment]
        assert await kinds(met) == ([SNAPSHOT] if ended else ["RUN_STARTED", "RUN_FINISHED"])
        assert runs.asked == (2 if ended else 0)


@virtual
async def test_a_snapshot_of_a_server_that_does_not_know_the_run_yet_is_not_its_end() -> None:
    async def first(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=False)
        line.snapshot(0)
        await line.hear("run.start")
        line.cut()

    async def second(line: FakeLine) -> None:
        await started(line)
        said(line, 1, "RUN_STARTED")
        said(line, 2, "RUN_FINISHED")
        await line.answer_all()

    async with meeting(first, second) as met:
        met.client.threads = Runs(ThreadRun("r0", "then", "now", "finished"), ThreadRun("r1", "now"))  # type: ignore[assignment]
        assert await kinds(met) == ["RUN_STARTED", "RUN_FINISHED"]


@virtual
async def test_it_has_a_bound() -> None:
    async def endless(line: FakeLine) -> None:
        await started(line)
        said(line, 1, "RUN_STARTED")
        await line.answer_all()

    async with meeting(endless) as met:
        met.client.threads = Runs()  # type: ignore[assignment]
        with pytest.raises(Unanswered) as told:
            await kinds(met, within_seconds=120.0)
        assert told.value.code == "TIMEOUT"


@virtual
async def test_a_refusal_is_raised_and_nothing_is_followed() -> None:
    async def refusing(line: FakeLine) -> None:
        line.let_in()
        await line.subscribed(resumed=True)
        line.say(reply_to=(await line.hear("run.start"))["id"], error={"code": "RUN_ACTIVE", "message": "no"})
        assert (await line.hear())["type"] == "thread.unsubscribe"
        await line.answer_all()

    async with meeting(refusing) as met:
        with pytest.raises(Refused):
            await kinds(met)
        await asyncio.sleep(1.0)


@virtual
async def test_who_leaves_early_follows_no_longer() -> None:
    async def serving(line: FakeLine) -> None:
        await started(line)
        said(line, 1, "RUN_STARTED")
        assert (await line.hear())["type"] == "thread.unsubscribe"
        await started_again(line)

    async def started_again(line: FakeLine) -> None:
        await line.subscribed(resumed=True)
        line.say(reply_to=(await line.hear("run.start"))["id"], ok=True, duplicate=True)
        said(line, 2, "RUN_FINISHED")
        await line.answer_all()

    async with meeting(serving) as met:
        met.client.threads = Runs()  # type: ignore[assignment]
        async with aclosing(met.client.ask("t", "hello", run_id="r1")) as envelopes:
            async for _ in envelopes:
                break
        assert await kinds(met) == ["RUN_FINISHED"]
