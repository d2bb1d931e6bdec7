"""The connection in virtual time: what each end of a line leads to, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.client_support import SIGNED_OUT, FakeDoor, FakeLine, FakeTokens, Json, Serve, down, meeting, welcome
from tests.runtime_kit import virtual

from doorward.client import Client, Ended, FixedToken, SignedOut, State, StateName, Timing, Token, Unanswered
from doorward.client.commands import MAX_WAITING
from doorward.client.meaning import Reason, of_answer
from doorward.core.verdict import Action, Code
from doorward.errors import UsageError
from doorward.testing import VirtualClock


def refusing(code: Code, *, retry_after_ms: int | None = None) -> Serve:
    async def behave(line: FakeLine) -> None:
        line.refuse(code, retry_after_ms=retry_after_ms)

    return behave


async def dropping(line: FakeLine) -> None:
    line.cut()


def in_seconds(seconds: float) -> float:
    return VirtualClock().wall() + seconds


# Refusals


@virtual
async def test_retry_after_is_honoured() -> None:
    async with meeting(refusing(Code.SERVICE_UNAVAILABLE, retry_after_ms=4000), welcome, uniform=0.0) as met:
        await met.client.ready()
        waiting = await met.state(StateName.WAITING)
        assert met.door.waits == pytest.approx([4.0])
        assert waiting.reason is not None
        assert (waiting.reason.code, waiting.reason.decision_id) == ("SERVICE_UNAVAILABLE", "d0")
        assert met.tokens.asked == [None, None], "an outage says nothing about the token"


@virtual
async def test_somebody_who_insists_does_not_get_in_front_of_retry_after() -> None:
    async with meeting(refusing(Code.OVERLOADED, retry_after_ms=4000), welcome, uniform=0.99) as met:
        await met.state(StateName.WAITING)
        met.client.retry_now()
        await met.client.ready()
        assert met.door.waits == pytest.approx([4.0])


@virtual
async def test_somebody_who_insists_is_heard_where_the_server_named_no_time() -> None:
    async with meeting(dropping, welcome, timing=Timing(backoff_base_seconds=30.0)) as met:
        await met.state(StateName.WAITING)
        met.client.retry_now()
        await met.client.ready()
        assert met.door.waits == pytest.approx([0.0], abs=0.1)


@virtual
async def test_back_off_grows_to_its_cap_when_nobody_listens() -> None:
    nobody = Reason("CONNECT_FAILED", Action.RETRY)
    async with meeting(nobody, uniform=1.0) as met:
        await met.state(StateName.WAITING, count=9)
        assert met.door.waits == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0])


@virtual
async def test_a_connection_that_lasted_starts_the_back_off_anew() -> None:
    async def lasting(line: FakeLine) -> None:
        line.let_in()
        await asyncio.sleep(11.0)
        line.cut()

    async def brief(line: FakeLine) -> None:
        line.let_in()
        await asyncio.sleep(1.0)
        line.cut()

    async with meeting(brief, brief, brief, lasting, welcome, uniform=1.0) as met:
        await met.state(StateName.OPEN, count=5)
        assert met.door.waits == pytest.approx([1.5, 2.0, 3.0, 11.5])


@pytest.mark.parametrize("code", [Code.FORBIDDEN, Code.BAD_CREDENTIAL_FORMAT, Code.MESSAGE_TOO_BIG])
@virtual
async def test_stop_means_stop(code: Code) -> None:
    async with meeting(refusing(code)) as met:
        stopped = await met.state(StateName.STOPPED)
        assert stopped.reason is not None
        assert stopped.reason.code == code
        met.client.retry_now()
        with pytest.raises(Ended) as told:
            await met.client.send({"type": "ping"})
        assert told.value.code == code
        await asyncio.sleep(60.0)
        assert len(met.door.tokens) == 1


@virtual
async def test_somebody_elses_404_stops_at_first_and_is_a_deployment_later() -> None:
    missing = of_answer(404, None, b"<html>not found</html>")
    async with meeting(missing) as met:
        assert (await met.state(StateName.STOPPED)).reason == missing
    async with meeting(dropping_after_welcome, missing, welcome) as met:
        await met.state(StateName.OPEN, count=2)


async def dropping_after_welcome(line: FakeLine) -> None:
    line.let_in()
    line.cut()


@virtual
async def test_an_expired_token_is_replaced_once_and_tried_again_at_once() -> None:
    async with meeting(refusing(Code.TOKEN_EXPIRED), welcome, tokens=FakeTokens("t1", "t2")) as met:
        await met.client.ready()
        assert met.door.tokens == ["t1", "t2"]
        assert met.tokens.asked == [None, "t1"]
        assert met.door.waits == pytest.approx([0.0])
        assert StateName.WAITING not in met.names


@virtual
async def test_a_server_that_refuses_fresh_tokens_too_is_asked_ever_more_slowly() -> None:
    tokens = FakeTokens("t1", "t2", "t3", "t4", "t5")
    async with meeting(refusing(Code.TOKEN_INVALID), tokens=tokens, uniform=1.0) as met:
        await met.state(StateName.WAITING, count=3)
        assert met.door.waits == pytest.approx([0.0, 0.5, 1.0])
        assert StateName.SIGNED_OUT not in met.names


@virtual
async def test_only_signed_out_leads_to_the_sign_in() -> None:
    tokens = FakeTokens("t1", down(), ValueError("a bug of the provider"), SIGNED_OUT)
    async with meeting(refusing(Code.TOKEN_REVOKED), tokens=tokens) as met:
        ended = await met.state(StateName.SIGNED_OUT)
        assert ended.reason is not None
        assert ended.reason.code == Code.TOKEN_REVOKED
        assert met.names.count("waiting") == 2
        assert len(met.door.tokens) == 1
        with pytest.raises(SignedOut) as told:
            await met.client.ready()
        assert told.value.code == Code.TOKEN_REVOKED


@virtual
async def test_a_provider_that_has_no_other_token_has_signed_out() -> None:
    client = Client("http://chat.test", FixedToken("t1"), dial=(door := FakeDoor(refusing(Code.TOKEN_EXPIRED))))
    async with client:
        with pytest.raises(SignedOut):
            await client.ready()
    await door.aclose()


@pytest.mark.parametrize("nothing", [None, "", "t1", {}, {"token": ""}])
@virtual
async def test_what_is_no_token_is_not_presented_and_signs_nobody_out(nothing: Any) -> None:
    class Careless(FakeTokens):
        async def token(self, *, stale: str | None = None) -> Token:
            token = await super().token(stale=stale)
            brought: Token = nothing if len(self.asked) in {1, 3} else token
            return brought

    async def expiring(line: FakeLine) -> None:
        line.let_in()
        line.say(notice="auth.expiring", expires_in_ms=60_000)
        line.say(reply_to=(await line.hear("auth.refresh"))["id"], ok=True)
        await line.answer_all()

    async with meeting(expiring, tokens=Careless("t1", "t1", "t1", "t2")) as met:
        waiting = await met.state(StateName.WAITING)
        assert waiting.reason is not None
        assert (waiting.reason.code, waiting.reason.cause) == ("TOKEN_UNAVAILABLE", "BAD_ANSWER")
        await asyncio.sleep(60.0)
        assert met.names == ["connecting", "waiting", "connecting", "open"]
        assert met.door.tokens == ["t1"]
        assert met.tokens.asked == [None, None, "t1", "t1"]


@virtual
async def test_an_outage_of_the_provider_keeps_its_retry_after() -> None:
    async with meeting(welcome, tokens=FakeTokens(down(3.0), "t1"), uniform=0.0) as met:
        waiting = await met.state(StateName.WAITING)
        await met.client.ready()
        assert waiting.reason == Reason(
            "TOKEN_UNAVAILABLE", Action.RETRY, "SERVICE_UNAVAILABLE", retry_after_seconds=3.0, detail="no"
        )
        assert waiting.retry_at == pytest.approx(in_seconds(0.0), abs=0.1)


@virtual
async def test_a_provider_that_hangs_is_given_up() -> None:
    async with meeting(welcome, tokens=FakeTokens("hang", "t1")) as met:
        waiting = await met.state(StateName.WAITING)
        assert waiting.reason is not None
        assert waiting.reason.cause == "TIMEOUT"
        await met.client.ready()
        assert met.door.dialled_at[0] == pytest.approx(VirtualClock().monotonic(), abs=0.1)


@virtual
async def test_a_door_that_says_nothing_is_given_up() -> None:
    async def mute(line: FakeLine) -> None:
        await line.is_gone.wait()

    async with meeting(mute, welcome, uniform=1.0) as met:
        await met.client.ready()
        assert met.door.waits == pytest.approx([5.0 + 0.5])
        assert (await met.state(StateName.WAITING)).reason == Reason(
            "CONNECT_TIMEOUT", Action.RETRY, detail="the door did not say in time whether we may come in"
        )


@virtual
async def test_ready_says_why_it_is_not() -> None:
    nobody = Reason("CONNECT_FAILED", Action.RETRY, detail="connection refused")
    async with meeting(nobody) as met:
        with pytest.raises(Unanswered, match=r"The server cannot be reached \(connection refused\)") as told:
            await met.client.ready(within_seconds=3.0)
        assert told.value.code == "CONNECT_FAILED"


# Liveness


@virtual
async def test_a_line_that_is_dead_is_found_out() -> None:
    async def dead(line: FakeLine) -> None:
        line.let_in()
        await line.is_gone.wait()

    async with meeting(dead, welcome, uniform=0.0) as met:
        await met.state(StateName.OPEN, count=2)
        assert met.door.waits == pytest.approx([25.0 + 8.0])


@virtual
async def test_a_line_that_is_dead_is_found_out_however_many_commands_wait() -> None:
    async def dead(line: FakeLine) -> None:
        line.let_in()
        await line.is_gone.wait()

    async with meeting(dead, welcome, uniform=0.0) as met:
        await met.client.ready()
        waiting = [
            asyncio.create_task(met.client.send({"type": "odd"}, within_seconds=100.0)) for _ in range(MAX_WAITING)
        ]
        await met.state(StateName.OPEN, count=2)
        assert met.door.waits == pytest.approx([25.0 + 8.0])
        codes = {getattr(error, "code", error) for error in await asyncio.gather(*waiting, return_exceptions=True)}
        assert codes == {"CONNECTION_LOST"}


@virtual
async def test_a_line_that_answers_is_kept() -> None:
    async with meeting(welcome) as met:
        await asyncio.sleep(3_600.0)
        assert len(met.door.lines) == 1


@virtual
async def test_a_server_that_talks_is_not_asked() -> None:
    heard: list[Json] = []

    async def chatty(line: FakeLine) -> None:
        line.let_in()
        for _ in range(20):
            line.say(notice="thread.changed", thread={})
            await asyncio.sleep(10.0)
        heard.append(await line.hear())

    async with meeting(chatty) as met:
        await met.until(lambda: heard)
        assert heard[0]["type"] == "ping"
        assert VirtualClock().monotonic() - met.door.dialled_at[0] == pytest.approx(190.0 + 25.0, abs=0.2)


@virtual
async def test_what_is_none_of_the_protocol_is_passed_over() -> None:
    async def newer(line: FakeLine) -> None:
        for text in ("", "[]", "7", "{", '{"v": 2}', '{"v": 1, "thread_id": 3}', '{"reply_to": "c99", "ok": true}'):
            line.say_text(text)
        await welcome(line)

    async with meeting(newer) as met:
        await met.client.ready()
        assert (await met.client.send({"type": "ping"}))["ok"] is True
        assert len(met.door.lines) == 1


# Renewal


@virtual
async def test_the_token_is_renewed_on_the_open_line_before_it_ends() -> None:
    renewed: list[tuple[float, str]] = []

    async def watching(line: FakeLine) -> None:
        line.let_in()
        while True:
            command = await line.hear()
            line.say(reply_to=command["id"], ok=True)
            if command["type"] == "auth.refresh":
                renewed.append((asyncio.get_running_loop().time() - line.opened_at, command["token"]))

    tokens = FakeTokens(Token("t1", in_seconds(100.0)), Token("t2", in_seconds(1_000.0)), Token("t3"))
    async with meeting(watching, tokens=tokens) as met:
        await met.until(lambda: len(renewed) == 2)
        assert [token for _, token in renewed] == ["t2", "t3"]
        assert [at for at, _ in renewed] == pytest.approx([75.0, 75.0 + 0.75 * 925.0])
        assert met.tokens.asked == [None, "t1", "t2"]
        assert len(met.door.lines) == 1


@virtual
async def test_the_door_may_say_that_it_is_time() -> None:
    presented: list[str] = []

    async def expiring(line: FakeLine) -> None:
        line.let_in()
        line.say(notice="auth.expiring", expires_in_ms=60_000)
        command = await line.hear("auth.refresh")
        presented.append(command["token"])
        line.say(reply_to=command["id"], ok=True, expires_at=None)
        await line.answer_all()

    async with meeting(expiring, tokens=FakeTokens("t1", "t2")) as met:
        await met.until(lambda: presented)
        assert presented == ["t2"]
        assert [notice["notice"] for notice in met.notices] == ["auth.assurance", "auth.expiring"]


@virtual
async def test_an_outage_of_renewal_does_not_close_an_open_line() -> None:
    presented: list[str] = []

    async def expiring(line: FakeLine) -> None:
        line.let_in()
        line.say(notice="auth.expiring", expires_in_ms=60_000)
        command = await line.hear("auth.refresh")
        line.say(reply_to=command["id"], error={"code": "SERVICE_UNAVAILABLE", "message": "no", "retry_after_ms": 7000})
        command = await line.hear("auth.refresh")
        presented.append(command["token"])
        line.say(reply_to=command["id"], ok=True)
        await line.answer_all()

    tokens = FakeTokens("t1", down(30.0), "hang", RuntimeError("a bug of the provider"), "t2", "t3")
    async with meeting(expiring, tokens=tokens) as met:
        await met.until(lambda: presented)
        assert presented == ["t3"]
        assert met.names == ["connecting", "open"]
        assert VirtualClock().monotonic() - met.door.dialled_at[0] > 30.0 + 17.0 + 7.0


@virtual
async def test_a_token_without_a_successor_is_used_to_its_end() -> None:
    async with meeting(welcome, tokens=FakeTokens(Token("t1", in_seconds(100.0)))) as met:
        await asyncio.sleep(1_000.0)
        assert met.names == ["connecting", "open"]
        assert met.tokens.asked == [None, "t1"]


@virtual
async def test_a_clock_that_is_wrong_leads_to_no_storm() -> None:
    tokens = FakeTokens(*(Token(f"t{number}", in_seconds(-1_000.0)) for number in range(1_000)))
    async with meeting(welcome, tokens=tokens) as met:
        await asyncio.sleep(60.0)
        assert 10 < len(met.tokens.asked) <= 32


@virtual
async def test_signed_out_on_an_open_line_ends_it() -> None:
    async def expiring(line: FakeLine) -> None:
        line.let_in()
        line.say(notice="auth.expiring", expires_in_ms=60_000)
        await line.is_gone.wait()

    async with meeting(expiring, tokens=FakeTokens("t1", SIGNED_OUT)) as met:
        ended = await met.state(StateName.SIGNED_OUT)
        assert ended.reason == Reason("SIGNED_OUT", Action.SIGN_IN)
        assert met.door.lines[0].is_gone.is_set()


# What the door says


@virtual
async def test_a_provisional_admission_is_shown_and_its_upgrade_and_its_grace() -> None:
    async def upgraded(line: FakeLine) -> None:
        line.let_in(degraded=True)
        await asyncio.sleep(1.0)
        line.say(notice="auth.assurance", assurance="live", degraded=False)
        await asyncio.sleep(1.0)
        line.say(notice="auth.grace", until=1_700_000_900)
        await line.answer_all()

    async with meeting(upgraded) as met:
        grace = await met.state(StateName.DEGRADED, count=2)
        assert met.names == ["connecting", "degraded", "open", "degraded"]
        assert met.states[1].door is not None
        assert (met.states[1].door.assurance, met.states[1].door.user_id) == ("local", "u1")
        assert met.client.door is not None
        assert (met.client.door.assurance, met.client.door.user_id, met.client.door.decision_id) == ("live", "u1", "d0")
        assert grace.door is not None
        assert grace.door.grace_until == 1_700_000_900


# The end


@virtual
async def test_closing_is_final_and_polite() -> None:
    async with meeting(welcome) as met:
        await met.client.ready()
        waiting = asyncio.create_task(met.client.send({"type": "ping"}))
        await met.client.aclose()
        with pytest.raises((Ended, Unanswered)):
            await waiting
        assert met.door.lines[0].was_closed_politely
        assert (await met.state(StateName.STOPPED)).reason == Reason("CLOSED", Action.STOP)
        with pytest.raises(Ended):
            await met.client.ready()


@virtual
async def test_a_client_is_entered_once() -> None:
    async with meeting(welcome) as met:
        with pytest.raises(UsageError, match="entered once"):
            await met.client.__aenter__()


@pytest.mark.parametrize("bad", ["on_state", "on_notice"])
@virtual
async def test_a_callback_that_fails_is_not_passed_over(bad: str) -> None:
    def fail(what: Any) -> None:
        if not isinstance(what, State) or what.name is StateName.OPEN:
            raise ZeroDivisionError

    listeners: dict[str, Any] = {bad: fail}
    client = Client("http://chat.test", FixedToken("t1"), dial=(door := FakeDoor(welcome)), **listeners)
    await client.__aenter__()
    with pytest.raises(Ended) as told:
        await client.ready()
    assert told.value.code == "INTERNAL"
    with pytest.raises(ZeroDivisionError):
        await client.aclose()
    await door.aclose()
