"""The life of an admitted connection, on real sockets: expiry, grace, refresh, late answers, re-validation, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from tests.door_client import Page, opened
from tests.door_server import RunningDoor, running_door, whoami

from doorward.asgi.types import App, Message, Receive, Scope, Send
from doorward.core.limits import Lane
from doorward.runtime.gate import Pass
from doorward.testing import Endpoint, FakeAuthService, Fault, eventually, opaque_token

QUICK: dict[str, Any] = {"deadline_seconds": 0.6, "patience_seconds": 0.1}
DEGRADED: dict[str, Any] = {"mode": "local_jwt", "privileged_scopes": ("admin",)}


def lasting(auth: FakeAuthService, seconds: float, **claims: Any) -> str:
    """A token that expires after this many seconds, to the millisecond."""
    return auth.issue("ada", exp=time.time() + seconds, permissions=("chat", "admin"), **claims)


def metric(running: RunningDoor, name: str, **labels: str) -> float:
    return running.door.metrics.registry.get_sample_value(f"doorward_{name}", labels) or 0.0


def sockets_only(app: App) -> App:
    """An app that raises on everything else, as one without a lifespan does."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await app(scope, receive, send)

    return guarded


def task_names() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks()]


async def outage(running: RunningDoor, fault: Fault = Fault.REFUSE) -> None:
    """The auth service is gone, and the door has noticed."""
    running.proxy.fault = fault
    await running.ask(opaque_token())
    assert running.door.in_outage


# The live view


async def test_a_client_of_ours_is_greeted_with_what_is_known_of_it(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        token = running.auth.issue("ada")
        async with opened(running.browser(token)) as page:
            greeting = await page.frame(notice="auth.assurance")
            assert page.client.subprotocol == "doorward.v1"
            assert greeting["assurance"] == "live"
            assert greeting["degraded"] is False
            assert greeting["user_id"] == "ada"
            assert greeting["decision_id"] == running.records[0].id
            assert greeting["expires_at"] == pytest.approx(time.time() + 600, abs=5)
            assert (await page.ask())["assurance"] == "live"


async def test_other_clients_hear_nothing_from_the_door(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        async with opened(running.connect(lasting(running.auth, 0.8))) as page:
            assert (await page.ask())["user_id"] == "ada"
            code, reason = await page.closed()
            assert (code, reason.split(";")[0]) == (3000, "TOKEN_EXPIRED")
            assert page.frames == []


# Expiry


async def test_a_warning_and_then_the_end(tmp_path: Path) -> None:
    async with running_door(tmp_path, session={"expiring_notice_seconds": 0.6}) as running:
        await running.settled()
        ends_at = time.time() + 1.2
        async with opened(running.browser(running.auth.issue("ada", exp=ends_at))) as page:
            warning = await page.frame(notice="auth.expiring")
            assert 0 < warning["expires_in_ms"] <= 600
            assert time.time() < ends_at
            error = await page.frame(type="auth.error")
            assert time.time() >= ends_at
            code, reason = await page.closed()
            assert (error["code"], error["action"], error["retry_after_ms"]) == ("TOKEN_EXPIRED", "sign_in", None)
            assert code == 3000
            assert reason == f"TOKEN_EXPIRED;id={error['decision_id']}"
        await eventually(lambda: len(running.issuer.registry) == 0, what="the registry is empty")


async def test_who_comes_with_the_last_seconds_of_a_token_is_warned_too(tmp_path: Path) -> None:
    """The warning is due before the app has even accepted."""
    async with running_door(tmp_path, session={"expiring_notice_seconds": 60}) as running:
        await running.settled()
        async with opened(running.browser(lasting(running.auth, 30))) as page:
            await page.frame(notice="auth.assurance")
            assert 0 < (await page.frame(notice="auth.expiring"))["expires_in_ms"] <= 30_000


async def test_who_comes_within_the_leeway_has_time_to_refresh(tmp_path: Path) -> None:
    """Let in, and not put out in the same moment."""
    async with running_door(tmp_path, verify="local") as running:
        await running.settled()
        async with opened(running.browser(lasting(running.auth, -0.5, session_id="s1"))) as page:
            greeting = await page.frame(notice="auth.assurance")
            assert greeting["expires_at"] > time.time()
            assert 0 < (await page.frame(notice="auth.expiring"))["expires_in_ms"] <= 4_500
            assert (await page.refresh(lasting(running.auth, 600, session_id="s1")))["ok"] is True
            assert (await page.ask())["user_id"] == "ada"


# Grace


async def test_an_expired_connection_stays_while_nobody_can_refresh(tmp_path: Path) -> None:
    grace = {"expiry_grace_seconds": 0.8, "expiring_notice_seconds": 0}
    async with running_door(tmp_path, degrade=DEGRADED, session=grace) as running:
        await running.settled()
        async with opened(running.browser(lasting(running.auth, 0.7))) as page:
            assert (await page.ask())["permissions"] == ["admin", "chat"]
            await outage(running)
            notice = await page.frame(notice="auth.grace")
            assert notice["until"] == pytest.approx(time.time() + 0.8, abs=0.3)
            answer = await page.ask("and now?")
            assert (answer["permissions"], answer["degraded"]) == (["chat"], False)
            assert metric(running, "expiry_grace_total") == 1
            error = await page.frame(type="auth.error")
            assert (error["code"], error["cause"], error["action"]) == ("SERVICE_UNAVAILABLE", "stale", "retry")
            assert error["retry_after_ms"] >= 10_000
            code, reason = await page.closed()
            assert code == 1013
            assert reason.startswith(f"SERVICE_UNAVAILABLE;retry_after_ms={error['retry_after_ms']};")


async def test_a_new_token_after_the_recovery_ends_the_grace(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED, session={"expiring_notice_seconds": 0}) as running:
        await running.settled()
        token = lasting(running.auth, 0.7, session_id="s1")
        async with opened(running.browser(token)) as page:
            await outage(running)
            await page.frame(notice="auth.grace")
            running.proxy.fault = Fault.NONE
            warning = await page.frame(notice="auth.expiring")
            assert 50_000 < warning["expires_in_ms"] <= 60_000
            reply = await page.refresh(lasting(running.auth, 600, session_id="s1"))
            assert (reply["ok"], reply["assurance"]) == (True, "live")
            assert (await page.ask())["permissions"] == ["admin", "chat"]


async def test_without_a_new_token_the_grace_ends_as_expired_once_it_could_be_refreshed(tmp_path: Path) -> None:
    grace = {"expiry_grace_seconds": 3, "expiring_notice_seconds": 0}
    async with running_door(tmp_path, degrade=DEGRADED, session=grace) as running:
        await running.settled()
        async with opened(running.browser(lasting(running.auth, 0.5))) as page:
            await outage(running)
            await page.frame(notice="auth.grace")
            running.proxy.fault = Fault.NONE
            await page.frame(notice="auth.expiring")
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_EXPIRED"
            assert (await page.closed())[0] == 3000


async def test_an_outage_is_noticed_without_any_handshake(tmp_path: Path) -> None:
    """A failed health probe sends the canary out; its failure is an outage."""
    async with running_door(tmp_path, degrade=DEGRADED) as running:
        await running.settled()
        running.proxy.fault = Fault.REFUSE
        await eventually(lambda: running.door.in_outage, within_seconds=10, what="the door noticed")


async def test_a_broken_health_endpoint_is_no_outage(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED) as running:
        await running.settled()
        running.auth.healthy = False
        issuer = running.issuer
        await eventually(lambda: issuer.health.failing_since, within_seconds=10, what="a probe failed")
        failing_since = issuer.health.failing_since
        assert failing_since is not None
        assert [view.last_probe_passed for view in running.door.insight.services()] == [False]
        await eventually(lambda: (issuer.memory.last_contact or 0) > failing_since, what="the canary has flown")
        assert not issuer.in_outage


async def test_a_stranger_makes_no_outage_where_nobody_can_be_asked(tmp_path: Path) -> None:
    """`verify = local` needs no secret. Asked without one, the service refuses us, and nothing would end that trouble."""
    local: dict[str, Any] = {"verify": "local", "auth_settings": {"service_secret": None}}
    async with running_door(tmp_path, session={"expiring_notice_seconds": 0}, **local) as running:
        await eventually(lambda: running.issuer.keys.keyset, what="the key set is there")
        async with opened(running.browser(lasting(running.auth, 0.8))) as page:
            refused = await running.ask(opaque_token())
            assert (refused.status, refused.code) == (401, "TOKEN_INVALID")
            assert running.auth.calls[Endpoint.VALIDATE] == 0
            assert not running.door.in_outage
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_EXPIRED"
            assert (await page.closed())[0] == 3000


async def test_what_is_asked_without_a_secret_is_asked_under_verify_local_too(tmp_path: Path) -> None:
    """A service that wants none. No canary flies: it may have nothing that answers one, and that is no outage."""
    local: dict[str, Any] = {"verify": "local", "auth_settings": {"service_secret": None, "send_credential": False}}
    async with running_door(tmp_path, **local) as running:
        await eventually(lambda: running.issuer.keys.keyset, what="the key set is there")
        running.auth.answer_with(200, {"valid": False})
        assert (await running.ask(opaque_token())).code == "TOKEN_REJECTED"
        assert running.auth.calls[Endpoint.VALIDATE] == 1


# In-band refresh


async def test_a_refresh_moves_the_end_and_the_app_does_not_see_it(tmp_path: Path) -> None:
    async with running_door(tmp_path, session={"expiring_notice_seconds": 0}) as running:
        await running.settled()
        async with opened(running.browser(lasting(running.auth, 1.0, session_id="s1"))) as page:
            ends_at = time.time() + 1.0
            new_end = time.time() + 500
            token = running.auth.issue("ada", session_id="s1", exp=new_end)
            reply = await page.refresh(token, "c7")
            assert reply == {
                "reply_to": "c7",
                "ok": True,
                "assurance": "live",
                "expires_at": pytest.approx(new_end, abs=0.01),
            }
            await eventually(lambda: time.time() > ends_at + 0.1, what="the first token has expired")
            assert (await page.ask("still here"))["user_id"] == "ada"
            assert page.found(text="auth.refresh") is None
            assert all(token not in json.dumps(frame) for frame in page.frames)
            assert [frame for frame in page.frames if "text" in frame] == []


@pytest.mark.parametrize("other", [{"user_id": "eve", "session_id": "s1"}, {"user_id": "ada", "session_id": "s2"}])
async def test_a_refresh_keeps_the_person_and_the_session(other: dict[str, Any], tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        async with opened(running.browser(running.auth.issue("ada", session_id="s1"))) as page:
            assert (await page.refresh(running.auth.issue(**other)))["error"]["code"] == "FORBIDDEN"
            assert (await page.ask())["user_id"] == "ada"


async def test_a_token_that_is_no_good_changes_nothing(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        rejected = running.auth.issue("ada", session_id="s1")
        running.auth.reject(rejected)
        cases = {
            "TOKEN_EXPIRED": running.auth.mint.expired("ada", session_id="s1"),
            "TOKEN_INVALID": running.auth.mint.forged("ada", session_id="s1"),
            "TOKEN_REJECTED": rejected,
        }
        async with opened(running.browser(running.auth.issue("ada", session_id="s1"))) as page:
            for code, token in cases.items():
                error = (await page.refresh(token, code))["error"]
                assert error["code"] == code
                assert error["retry_after_ms"] is None
            shapes: list[object] = [None, 7, "", "a b", "é", "x" * 5_000, ["t"], {}]
            for number, junk in enumerate(shapes):
                assert (await page.refresh(junk, f"junk-{number}"))["error"]["code"] == "BAD_CREDENTIAL_FORMAT"
            assert (await page.ask())["user_id"] == "ada"


async def test_a_refresh_while_the_auth_service_is_frozen(tmp_path: Path) -> None:
    """What is proven locally comes in degraded, within the deadline; what is not is told to try again."""
    async with running_door(tmp_path, degrade=DEGRADED, **QUICK) as running:
        await running.settled()
        async with opened(running.browser(lasting(running.auth, 600, session_id="s1"))) as page:
            running.proxy.fault = Fault.SILENCE
            began = time.monotonic()
            reply = await page.refresh(lasting(running.auth, 700, session_id="s1"), "jwt")
            assert time.monotonic() - began < 1.0
            assert (reply["ok"], reply["assurance"]) == (True, "local")
            assert (await page.ask())["permissions"] == ["chat"]
            error = (await page.refresh(opaque_token(), "opaque"))["error"]
            assert error["code"] == "SERVICE_UNAVAILABLE"
            assert error["retry_after_ms"] >= 1000
            running.proxy.fault = Fault.NONE
            live = await page.frame(notice="auth.assurance", assurance="live", within_seconds=8)
            assert live["degraded"] is False
            await page.frame(notice="auth.assurance", assurance="live", degraded=False, within_seconds=8)


async def test_one_refresh_at_a_time(tmp_path: Path) -> None:
    async with running_door(tmp_path, **QUICK) as running:
        await running.settled()
        async with opened(running.browser(running.auth.issue("ada", session_id="s1"))) as page:
            running.auth.latency_seconds = 0.3
            first = {"id": "first", "type": "auth.refresh", "token": running.auth.issue("ada", session_id="s1")}
            await page.client.send(json.dumps(first))
            busy = await page.refresh(running.auth.issue("ada", session_id="s1"), "second")
            assert busy["error"]["code"] == "RATE_LIMITED"
            assert (await page.frame(reply_to="first"))["ok"] is True


async def test_refreshes_count_as_handshakes_of_their_address(tmp_path: Path) -> None:
    """Each may be a question to the auth service, and one socket could ask them without an end."""
    limits = {"address_rate_per_second": 0.001, "address_burst": 4}
    async with running_door(tmp_path, limits=limits) as running:
        await running.settled()
        async with opened(running.browser(running.auth.issue("ada", session_id="s1"))) as page:
            tokens = [running.auth.issue("ada", session_id="s1") for _ in range(5)]
            replies = [await page.refresh(token, f"c{number}") for number, token in enumerate(tokens)]
            assert [reply.get("ok", False) for reply in replies] == [True] * 3 + [False] * 2
            assert {reply["error"]["code"] for reply in replies[3:]} == {"RATE_LIMITED"}
            assert sum(running.auth.asked_about[token] for token in tokens) == 3
            assert (await page.ask())["user_id"] == "ada"


# Late answers


async def test_a_late_yes_upgrades_in_place(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED, **QUICK) as running:
        await running.settled()
        running.auth.latency_seconds = 0.35
        async with opened(running.browser(lasting(running.auth, 600))) as page:
            greeting = await page.frame(notice="auth.assurance")
            assert (greeting["assurance"], greeting["degraded"]) == ("local", False)
            answer = await page.ask("early")
            assert (answer["assurance"], answer["permissions"]) == ("local", ["admin", "chat"])
            await page.frame(notice="auth.assurance", assurance="live", degraded=False)
            assert (await page.ask("late"))["assurance"] == "live"
        assert [(record.provisional, record.degraded) for record in running.records] == [(True, False)]


async def test_a_late_no_closes_and_bars(tmp_path: Path) -> None:
    seen: list[Message] = []

    @sockets_only
    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "doorward.v1"})
        seen.append(await receive())

    async with running_door(tmp_path, degrade=DEGRADED, app=recording, **QUICK) as running:
        await running.settled()
        token = running.auth.issue("ada")
        running.auth.reject(token)
        running.auth.latency_seconds = 0.3
        async with opened(running.browser(token)) as page:
            assert (await page.frame(notice="auth.assurance"))["assurance"] == "local"
            error = await page.frame(type="auth.error")
            assert (error["code"], error["action"]) == ("TOKEN_REVOKED", "sign_in")
            assert (await page.closed())[0] == 3000
        await eventually(lambda: seen, what="the app was told")
        assert seen == [{"type": "websocket.disconnect", "code": 3000, "reason": "TOKEN_REVOKED"}]
        running.proxy.fault = Fault.REFUSE
        await eventually(lambda: not running.door.authenticator.pending, what="quiet")
        assert (await running.ask(token)).code == "TOKEN_REJECTED"


async def test_no_answer_at_all_leaves_it_degraded(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED, **QUICK) as running:
        await running.settled()
        running.proxy.fault = Fault.SILENCE
        async with opened(running.browser(lasting(running.auth, 600))) as page:
            greeting = await page.frame(notice="auth.assurance")
            assert (greeting["assurance"], greeting["degraded"]) == ("local", False)
            settled = await page.frame(notice="auth.assurance", degraded=True)
            assert settled["assurance"] == "local"
            assert (await page.ask())["permissions"] == ["chat"]


async def test_a_late_answer_about_somebody_else_is_no_answer_and_no_admission(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED, **QUICK) as running:
        await running.settled()
        token = running.auth.issue("ada")
        running.auth.alter_answer(token, user_id="mallory")
        running.auth.latency_seconds = 0.3
        async with opened(running.browser(token)) as page:
            error = await page.frame(type="auth.error")
            assert (error["code"], error["cause"], error["action"]) == ("SERVICE_UNAVAILABLE", "protocol", "retry")
            assert (await page.closed())[0] == 1013


async def test_a_late_answer_about_the_old_token_does_not_undo_a_refresh(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED, deadline_seconds=3.0, patience_seconds=0.1) as running:
        await running.settled()
        old = running.auth.issue("ada", session_id="s1")
        new = running.auth.issue("ada", session_id="s1")
        running.auth.reject(old)
        assert (await running.ask(new)).status == 101
        running.auth.latency_seconds = 1.0
        async with opened(running.browser(old)) as page:
            assert (await page.frame(notice="auth.assurance"))["assurance"] == "local"
            assert (await page.refresh(new))["ok"] is True
            await eventually(lambda: len(running.issuer.memory.bars) == 1, what="the old token was refused")
            await eventually(lambda: "doorward:late verdict" not in task_names(), what="that verdict is settled")
            assert (await page.ask())["user_id"] == "ada"


# After the recovery


async def test_who_came_in_degraded_is_asked_about_again(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade=DEGRADED, **QUICK) as running:
        await running.settled()
        good, bad = lasting(running.auth, 600), lasting(running.auth, 600)
        await outage(running)
        running.auth.reject(bad)
        async with opened(running.browser(good)) as stays, opened(running.browser(bad)) as goes:
            for page in (stays, goes):
                assert (await page.frame(notice="auth.assurance"))["degraded"] is True
            running.proxy.fault = Fault.NONE
            live = await stays.frame(notice="auth.assurance", assurance="live", within_seconds=8)
            assert live["degraded"] is False
            assert (await stays.ask())["permissions"] == ["admin", "chat"]
            assert (await goes.frame(type="auth.error"))["code"] == "TOKEN_REVOKED"
            assert (await goes.closed())[0] == 3000
        assert metric(running, "revalidations_total", result="allow") == 1
        assert metric(running, "revalidations_total", result="deny") == 1


async def test_who_found_the_gate_full_is_asked_about_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"degrade": DEGRADED, "limits": {"bulkhead": 1}, **QUICK}
    async with running_door(tmp_path, **options) as running, contextlib.AsyncExitStack() as stack:
        await running.settled()
        await outage(running)
        pages = [await stack.enter_async_context(opened(running.browser(lasting(running.auth, 600)))) for _ in range(3)]
        running.auth.latency_seconds = 0.3
        running.proxy.fault = Fault.NONE
        for page in pages:
            await page.frame(notice="auth.assurance", assurance="live", degraded=False, within_seconds=10)


async def test_who_came_in_degraded_without_an_outage_is_asked_about_soon(tmp_path: Path) -> None:
    """A full bulkhead is no outage, so no recovery follows it."""
    async with running_door(tmp_path, degrade=DEGRADED, limits={"bulkhead": 1}, **QUICK) as running:
        await running.settled()
        gate = running.issuer.gate
        good, bad = lasting(running.auth, 600), lasting(running.auth, 600)
        running.auth.reject(bad)
        await eventually(lambda: gate.bulkhead.total == 0, what="nothing is in flight")
        filling = gate.enter(Lane.PROVEN)
        assert isinstance(filling, Pass)
        async with opened(running.browser(good)) as stays, opened(running.browser(bad)) as goes:
            for page in (stays, goes):
                assert (await page.frame(notice="auth.assurance"))["degraded"] is True
            assert not running.door.in_outage
            assert task_names().count("doorward:re-validation of auth") == 1
            gate.leave(filling)
            await stays.frame(notice="auth.assurance", assurance="live", degraded=False, within_seconds=8)
            assert (await goes.frame(type="auth.error", within_seconds=8))["code"] == "TOKEN_REVOKED"
            assert (await goes.closed())[0] == 3000
        await eventually(lambda: "doorward:re-validation of auth" not in task_names(), what="it is over")


async def test_a_degraded_grant_ends_by_itself(tmp_path: Path) -> None:
    degrade = {**DEGRADED, "grant_seconds": 0.6}
    async with running_door(tmp_path, degrade=degrade, session={"expiring_notice_seconds": 0}, **QUICK) as running:
        await running.settled()
        await outage(running)
        async with opened(running.browser(lasting(running.auth, 600))) as page:
            error = await page.frame(type="auth.error")
            assert (error["code"], error["cause"]) == ("SERVICE_UNAVAILABLE", "stale")
            assert (await page.closed())[0] == 1013


# The app and its end


async def revoke(running: RunningDoor, user_id: str = "ada") -> None:
    running.auth.revoke(user_id=user_id, not_before_ms=int((time.time() + 5) * 1000))


@pytest.mark.parametrize("reads", [False, True])
async def test_an_app_that_does_not_leave_is_cancelled(reads: bool, tmp_path: Path) -> None:
    """It never looks at the disconnect, or it looks and goes on all the same."""
    ended: list[str] = []

    @sockets_only
    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "doorward.v1"})
        if reads:
            ended.append((await receive())["type"])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with running_door(tmp_path, app=stubborn, session={"app_exit_seconds": 0.3}) as running:
        await running.settled()
        async with opened(running.browser(running.auth.issue("ada"))) as page:
            await page.frame(notice="auth.assurance")
            await revoke(running)
            assert (await page.closed())[0] == 3000
            await eventually(lambda: "cancelled" in ended, within_seconds=2, what="the app was cancelled")
            assert ended == (["websocket.disconnect", "cancelled"] if reads else ["cancelled"])
        await eventually(lambda: len(running.issuer.registry) == 0, what="the registry is empty")


async def test_a_client_is_answered_even_if_the_app_has_not_accepted_yet(tmp_path: Path) -> None:
    ended: list[str] = []

    @sockets_only
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    options: dict[str, Any] = {"degrade": DEGRADED, "session": {"app_exit_seconds": 0.2}, **QUICK}
    async with running_door(tmp_path, app=slow, **options) as running:
        await running.settled()
        token = running.auth.issue("ada")
        running.auth.reject(token)
        running.auth.latency_seconds = 0.3
        answer = await running.ask(token)
        assert (answer.status, answer.code) == (401, "TOKEN_REVOKED")
        assert answer.seconds < 1.5
        other = running.auth.issue("eve")
        running.auth.reject(other)
        async with opened(running.browser(other)) as page:
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_REVOKED"
            assert (await page.closed())[0] == 3000
        await eventually(lambda: ended == ["cancelled", "cancelled"], within_seconds=3, what="the apps were cancelled")


async def test_a_reader_that_stalls_holds_nobody_up(tmp_path: Path) -> None:
    async def flooding(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/flood":
            await whoami(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "text": "x" * 50_000})

    async with running_door(tmp_path, app=flooding, session={"app_exit_seconds": 1}) as running:
        await running.settled()
        stalled = await deaf_client(running, running.auth.issue("ada"))
        try:
            await eventually(lambda: len(running.issuer.registry) == 1, what="it is in")
            async with opened(running.browser(running.auth.issue("ada"))) as page:
                assert (await page.ask())["user_id"] == "ada"
                began = time.monotonic()
                await revoke(running)
                assert (await page.closed())[0] == 3000
                assert time.monotonic() - began < 1.0
            await eventually(lambda: len(running.issuer.registry) == 0, what="the stalled one is cut")
            await eventually(lambda: running.connections == 0, what="its socket is gone")
        finally:
            stalled.close()


async def deaf_client(running: RunningDoor, token: str) -> socket.socket:
    """Opens a WebSocket and never reads from it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", running.port))
    request = (
        f"GET /flood HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    await loop.sock_sendall(client, request.encode())
    return client


async def test_a_client_that_leaves_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        before = len(running.door.supervisor)
        pages: list[Page] = []
        async with opened(running.browser(running.auth.issue("ada"))) as page:
            await page.ask()
            pages.append(page)
            assert len(running.issuer.registry) == 1
            assert [view.user_id for view in running.door.insight.connections()] == ["ada"]
        await eventually(lambda: len(running.issuer.registry) == 0, what="the registry is empty")
        await eventually(lambda: running.connections == 0, what="the socket is gone")
        await eventually(lambda: len(running.door.supervisor) <= before, what="no task is left")
        assert running.door.insight.connections() == []
