"""Commands in virtual time: one reply each, over a change of the connection, within a bound."""

from __future__ import annotations

import asyncio

import pytest
from tests.client_support import FakeLine, Json, meeting, welcome
from tests.runtime_kit import outcome_of, virtual

from doorward.client import Refused, Timing, Unanswered
from doorward.client.commands import MAX_WAITING, Commands
from doorward.errors import LimitError


async def silent(line: FakeLine) -> None:
    line.let_in()
    await line.is_gone.wait()


@virtual
async def test_each_command_has_an_id_of_its_own_and_gets_its_reply() -> None:
    async def backwards(line: FakeLine) -> None:
        line.let_in()
        commands = [await line.hear("ping-ish") for _ in range(3)]
        for command in reversed(commands):
            line.say(reply_to=command["id"], ok=True, number=command["number"])
        await line.answer_all()

    async with meeting(backwards) as met:
        replies = await asyncio.gather(
            *(met.client.send({"type": "ping-ish", "number": number}) for number in range(3))
        )
        assert [reply["number"] for reply in replies] == [0, 1, 2]


@virtual
async def test_a_refusal_says_what_the_server_said() -> None:
    async def refusing(line: FakeLine) -> None:
        line.let_in()
        error = {"code": "RUN_ACTIVE", "message": "wait for it", "retry_after_ms": 1500}
        line.say(reply_to=(await line.hear())["id"], error=error)
        line.say(reply_to=(await line.hear())["id"], error="odd")

    async with meeting(refusing) as met:
        with pytest.raises(Refused, match="wait for it") as told:
            await met.client.send({"type": "run.start"})
        assert (told.value.code, told.value.retry_after_seconds) == ("RUN_ACTIVE", 1.5)
        with pytest.raises(Refused) as told:
            await met.client.send({"type": "run.start"})
        assert told.value.code == "ERROR"


@virtual
async def test_a_command_waits_for_a_connection_and_is_sent_once() -> None:
    heard: list[Json] = []

    async def late(line: FakeLine) -> None:
        await asyncio.sleep(4.0)
        line.let_in()
        while True:
            heard.append(command := await line.hear())
            line.say(reply_to=command["id"], ok=True)

    async with meeting(late) as met:
        await met.client.send({"type": "ping"})
        await asyncio.sleep(1.0)
        assert len(heard) == 1


@virtual
async def test_no_connection_in_time_is_told_apart_from_no_reply() -> None:
    async def mute(line: FakeLine) -> None:
        await line.is_gone.wait()

    async with meeting(mute) as met:
        with pytest.raises(Unanswered) as told:
            await met.client.send({"type": "ping"}, within_seconds=3.0)
        assert told.value.code == "NOT_CONNECTED"
    async with meeting(silent) as met:
        with pytest.raises(Unanswered) as told:
            await met.client.send({"type": "ping"}, within_seconds=3.0)
        assert told.value.code == "NO_REPLY"


@virtual
async def test_a_command_under_way_when_the_line_breaks_is_not_sent_again_by_itself() -> None:
    async def breaking(line: FakeLine) -> None:
        line.let_in()
        await line.hear()
        line.cut()

    async with meeting(breaking, welcome) as met:
        with pytest.raises(Unanswered) as told:
            await met.client.send({"type": "odd"})
        assert told.value.code == "CONNECTION_LOST"


@virtual
async def test_who_leaves_takes_an_unsent_command_back() -> None:
    heard: list[Json] = []

    async def late(line: FakeLine) -> None:
        await asyncio.sleep(4.0)
        line.let_in()
        while True:
            heard.append(command := await line.hear())
            line.say(reply_to=command["id"], ok=True)

    async with meeting(late) as met:
        leaving = asyncio.create_task(met.client.send({"type": "unwanted"}))
        await asyncio.sleep(1.0)
        leaving.cancel()
        await met.client.send({"type": "wanted"})
        assert [command["type"] for command in heard] == ["wanted"]


@virtual
async def test_the_number_of_those_that_wait_is_bounded() -> None:
    commands = Commands()
    waiting = [asyncio.create_task(commands.ask({"type": "ping"}, within_seconds=9.0)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(LimitError):
        await commands.ask({"type": "ping"}, within_seconds=9.0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert len(commands) == 0


@virtual
async def test_those_that_ran_out_while_there_was_no_connection_leave_nothing() -> None:
    commands = Commands()
    for _ in range(3):
        asked = (commands.ask({"type": "ping"}, within_seconds=1.0) for _ in range(MAX_WAITING))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(outcome, Unanswered) for outcome in outcomes)
    assert (len(commands), len(commands._unsent)) == (0, 0)


@virtual
async def test_those_that_are_taken_back_leave_the_others_in_their_turn() -> None:
    commands = Commands()
    names = [commands.give({"type": kind}, within_seconds=9.0, on_reply=lambda _: None) for kind in "abc"]
    commands.replied({"reply_to": names[1], "ok": True})  # whoever answers before it is sent
    assert ['"a"' in await commands.next_unsent(), '"c"' in await commands.next_unsent()] == [True, True]
    commands.end(lambda: Unanswered("CLOSED", "over"))
    assert (len(commands), len(commands._unsent)) == (0, 0)


# Runs


@virtual
async def test_a_run_is_started_once_however_often_the_line_breaks() -> None:
    heard: list[Json] = []

    async def breaking(line: FakeLine) -> None:
        line.let_in()
        heard.append(await line.hear("run.start"))
        line.cut()

    async def stumbling(line: FakeLine) -> None:
        line.let_in()
        for code in ("UNAVAILABLE", "RESTARTING"):
            heard.append(command := await line.hear("run.start"))
            line.say(reply_to=command["id"], error={"code": code, "message": "not now"})
        heard.append(command := await line.hear("run.start"))
        line.say(reply_to=command["id"], ok=True, duplicate=True)
        await line.answer_all()

    async with meeting(breaking, breaking, stumbling) as met:
        run = await met.client.start_run("t", "hello")
        assert run.is_duplicate
        assert {command["run_id"] for command in heard} == {run.run_id}
        assert len({command["id"] for command in heard}) == len(heard) == 5


@virtual
async def test_a_run_that_is_refused_is_not_asked_for_again() -> None:
    heard: list[Json] = []

    async def refuse(line: FakeLine) -> None:
        line.let_in()
        while True:
            heard.append(command := await line.hear("run.start"))
            line.say(reply_to=command["id"], error={"code": "RUN_ACTIVE", "message": "no"})

    async with meeting(refuse) as met:
        with pytest.raises(Refused):
            await met.client.start_run("t", "hello", run_id="r1")
        await asyncio.sleep(60.0)
        assert [command["run_id"] for command in heard] == ["r1"]


@pytest.mark.parametrize(("timing", "code"), [(Timing(command_seconds=2.0), "NO_REPLY"), (Timing(), "NO_REPLY")])
@virtual
async def test_starting_a_run_has_a_bound(timing: Timing, code: str) -> None:
    async with meeting(silent, timing=timing) as met:
        with pytest.raises(Unanswered) as told:
            await outcome_of(met.client.start_run("t", "hello", within_seconds=7.0), within_seconds=7.1)
        assert told.value.code == code


@virtual
async def test_a_run_is_cancelled_and_it_is_told_whether_it_still_ran() -> None:
    async def cancelling(line: FakeLine) -> None:
        line.let_in()
        for cancelled in (True, False):
            command = await line.hear("run.cancel")
            assert (command["thread_id"], command["run_id"]) == ("t", "r1")
            line.say(reply_to=command["id"], ok=True, cancelled=cancelled)
        await line.answer_all()

    async with meeting(cancelling) as met:
        assert await met.client.cancel_run("t", "r1") is True
        assert await met.client.cancel_run("t", "r1") is False
