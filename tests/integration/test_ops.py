"""The ops page's server side on a real door: who may look, who may break things, and what an outage changes of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from tests.cli_support import doorward
from tests.door_server import RunningDoor, running_door

from doorward.asgi.types import App, Receive, Scope, Send
from doorward.ops.access import KEPT_GRANTS
from doorward.ops.faults import FaultPanel
from doorward.ops.page import LOOKS_AT_ONCE, MAX_BODY_BYTES, ops_routes
from doorward.ops.token import issue, prepare_key
from doorward.runtime.clock import SystemClock
from doorward.testing import Endpoint, FakeAuthService, Fault, eventually, opaque_token

CHANGE = "printed-by-up"
ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}
HEALED_SECONDS = 20.0


class LateApp:
    """The ops routes of a door that is made after the app; a WebSocket is accepted and held."""

    def __init__(self) -> None:
        self.http: App | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.http is not None:
            await self.http(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
        else:
            raise RuntimeError("no lifespan")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: dict[str, Any]

    @property
    def code(self) -> str:
        code: str = self.content["code"]
        return code


@dataclass
class Ops:
    running: RunningDoor
    http: aiohttp.ClientSession
    key: bytes
    panel: FaultPanel | None

    async def look(self, token: str | None = None, *, query: str = "", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return await self._ask("GET", "state" + query, headers=sent)

    async def change(
        self, body: bytes | str = '{"fault":"silence"}', *, token: str | None = CHANGE, **headers: str
    ) -> Answer:
        sent = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if token is not None:
            sent["X-Doorward-Change"] = token
        return await self._ask("POST", "fault", headers=sent, data=body)

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        url = f"http://127.0.0.1:{self.running.port}/ops/api/{path}"
        async with self.http.request(method, url, **options) as response:
            content = json.loads(await response.read() or b"{}") if "json" in response.content_type else {}
            return Answer(response.status, dict(response.headers), content)

    def admin(self, user: str = "root", **claims: Any) -> str:
        return self.running.auth.issue(user, permissions=("admin", "chat"), **claims)

    def ops_token(self, *, seconds: float = 600.0, ago: float = 0.0) -> str:
        return issue(self.key, now=time.time() - ago, seconds=seconds)[0]

    @property
    def asked(self) -> int:
        return self.running.auth.calls[Endpoint.VALIDATE]


@asynccontextmanager
async def ops(tmp_path: Path, *, panel: bool = False, **settings: Any) -> AsyncIterator[Ops]:
    app = LateApp()
    async with running_door(tmp_path, app=app, **settings) as running, aiohttp.ClientSession() as http:
        key = prepare_key(tmp_path / "data")
        assert key is not None
        faults = FaultPanel(running.proxy, token=CHANGE, clock=SystemClock()) if panel else None
        app.http = Starlette(routes=ops_routes(running.door, key=key, panel=faults))
        await running.door.open()
        await running.settled()
        yield Ops(running, http, key, faults)


# ------------------------------------------------------------------------------------------------- who may look


async def test_nobody_looks_without_a_credential(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        answer = await page.look()
        assert (answer.status, answer.code) == (401, "AUTH_REQUIRED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "services" not in answer.content


async def test_an_admin_looks_and_is_asked_about_once(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        token, before = page.admin(), page.asked
        answers = [await page.look(token) for _ in range(5)]
        assert {each.status for each in answers} == {200}
        answer = answers[-1]
        assert answer.content["viewer"]["how"] == "admin"
        assert answer.content["viewer"]["may_change"] is False
        assert answer.headers["Cache-Control"] == "no-store"
        assert page.asked - before == 1
        assert page.running.records == []


async def test_somebody_else_does_not(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        chatter = page.running.auth.issue("ada", permissions=("chat",))
        assert (await page.look(chatter)).code == "FORBIDDEN"
        assert (await page.look(opaque_token())).code == "TOKEN_REJECTED"
        assert (await page.look(page.running.auth.mint.forged("root"))).code == "TOKEN_INVALID"
        assert (await page.look("not a token")).code == "BAD_CREDENTIAL_FORMAT"


async def test_a_cookie_counts_for_nothing(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        assert (await page.look(cookie=f"__Host-doorward={page.admin()}")).code == "AUTH_REQUIRED"


async def test_a_page_of_another_origin_may_not_look(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        for token in (None, page.admin(), page.ops_token()):
            assert (await page.look(token, origin="http://evil.example")).code == "ORIGIN_DENIED"
        same = f"http://127.0.0.1:{page.running.port}"
        assert (await page.look(origin=same)).status == 200


async def test_an_admin_whose_session_is_revoked_is_out_at_once(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        token = page.admin()
        assert (await page.look(token)).status == 200
        page.running.auth.revoke(user_id="root", not_before_ms=int(time.time() * 1000) + 1000)

        async def out() -> bool:
            return (await page.look(token)).status == 401

        deadline = time.monotonic() + 5
        while not await out():
            assert time.monotonic() < deadline


async def test_an_admin_of_a_tenant_is_none_of_the_door(tmp_path: Path) -> None:
    """All tenants are seen here. Each auth service is shown by its name."""
    async with FakeAuthService(service_secret="of-acme") as acme:
        entry = {"name": "acme", "url": acme.url, "service_secret": "of-acme"}
        async with ops(tmp_path, issuers=(entry,)) as page:
            refused = await page.look(acme.issue("root", permissions=("admin",)))
            assert (refused.status, refused.code) == (403, "FORBIDDEN")
            seen = await page.look(page.admin())
            assert [service["issuer"] for service in seen.content["services"]] == ["auth", "acme"]
            assert {service["breaker"] for service in seen.content["services"]} == {"closed"}


# ------------------------------------------------------------------------------------------------- in an outage


async def test_an_admin_still_looks_while_the_auth_service_is_silent(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        page.running.proxy.fault = Fault.SILENCE
        began = time.monotonic()
        answer = await page.look(page.admin())
        assert answer.status == 200
        assert time.monotonic() - began < 1.5


async def test_nobody_waits_longer_than_the_deadline(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        page.running.proxy.fault = Fault.SILENCE
        began = time.monotonic()
        answer = await page.look(opaque_token())
        assert (answer.status, answer.content["cause"]) == (503, "deadline")
        assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() - began < 2.5


async def test_an_ops_token_asks_nobody(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        page.running.proxy.fault = Fault.REFUSE
        before = page.asked
        answer = await page.look(page.ops_token())
        assert (answer.status, answer.content["viewer"]["how"]) == (200, "ops_token")
        assert page.asked == before


async def test_an_ops_token_runs_out(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        answer = await page.look(page.ops_token(seconds=60, ago=61))
        assert (answer.status, answer.code) == (401, "TOKEN_INVALID")
        assert "run out" in answer.content["title"]


async def test_the_command_makes_a_token_that_the_door_believes(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        made = await doorward("ops-token", "--minutes", "5", cwd=tmp_path, data_dir=str(tmp_path / "data"))
        assert made.code == 0
        token = made.out.strip()
        assert token not in made.err
        answer = await page.look(token)
        assert answer.content["viewer"]["until"] == pytest.approx(time.time() + 300, abs=30)
        as_json = await doorward("ops-token", "--json", cwd=tmp_path, data_dir=str(tmp_path / "data"))
        assert (await page.look(as_json.json["token"])).content["viewer"]["name"] == as_json.json["id"]


async def test_the_command_says_where_it_must_be_run(tmp_path: Path) -> None:
    made = await doorward("ops-token", cwd=tmp_path, data_dir=str(tmp_path / "elsewhere"))
    assert (made.code, made.out) == (2, "")
    assert "run this where the door runs" in made.said
    too_long = await doorward("ops-token", "--minutes", "61", cwd=tmp_path)
    assert too_long.code == 2


# ------------------------------------------------------------------------------------------------- what is seen


async def test_a_decision_is_seen_with_its_steps_and_the_connection_with_it(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        first = (await page.look()).content
        assert first["decisions"] == []
        async with page.running.connect(page.running.auth.issue("ada")):
            await eventually(lambda: page.running.records, what="a decision")
            state = await with_decisions(page)
            (decision,) = state["decisions"]
            assert (decision["user_id"], decision["verdict"]) == ("ada", "allow")
            assert [name for name, _ in decision["steps"]][:3] == ["open", "admit", "extract"]
            assert sum(ms for _, ms in decision["steps"]) == pytest.approx(decision["total_ms"], abs=0.1)
            assert state["connections"]["total"] == 1
            assert state["connections"]["newest"][0]["id"] == decision["id"]
            assert sum(sum(column["counts"]) for column in state["latency"]["columns"]) == 1
            newer = await page.look(query=f"?after={decision['id']}")
            assert (newer.content["complete"], newer.content["decisions"]) == (False, [])


async def with_decisions(page: Ops) -> dict[str, Any]:
    """The state once it is new enough to have a decision."""
    deadline = time.monotonic() + 3
    while not (state := (await page.look()).content)["decisions"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return state


async def test_too_many_looks_are_told_to_wait(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        answers = await asyncio.gather(*(page.look() for _ in range(LOOKS_AT_ONCE * 2)))
        statuses = {answer.status for answer in answers}
        assert statuses == {200, 429}
        assert sum(answer.status == 200 for answer in answers) >= LOOKS_AT_ONCE


async def test_no_more_grants_are_kept_than_the_bound(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        access = page_access(page)
        for number in range(KEPT_GRANTS + 10):
            await page.look(page.admin(f"root{number}"))
        assert len(access._grants) == KEPT_GRANTS


def page_access(page: Ops) -> Any:
    app = page.running.app.app
    assert isinstance(app, LateApp)
    assert isinstance(app.http, Starlette)
    endpoint: Any = app.http.routes[0].endpoint  # type: ignore[attr-defined]
    return endpoint.__self__._access


# ------------------------------------------------------------------------------------------------- this host


async def test_only_with_a_panel_may_this_host_look(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        assert (await page.look(host="localhost")).status == 401
    async with ops(tmp_path, panel=True) as page:
        answer = await page.look(host="localhost")
        assert answer.content["viewer"] == {"how": "this_host", "name": None, "until": None, "may_change": False}


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, ELSEWHERE, {"forwarded": "for=127.0.0.1"}, {"via": "1.1 proxy"}]
)
async def test_who_only_comes_through_this_host_may_not(tmp_path: Path, headers: dict[str, str]) -> None:
    async with ops(tmp_path, panel=True) as page:
        assert (await page.look(**headers)).code == "AUTH_REQUIRED"
        assert (await page.change(**headers)).code == "AUTH_REQUIRED"
        assert page.running.proxy.fault == Fault.NONE


# ------------------------------------------------------------------------------------------------- breaking things


async def test_without_a_panel_nothing_can_be_broken(tmp_path: Path) -> None:
    async with ops(tmp_path) as page:
        answer = await page.change(Authorization=f"Bearer {page.admin()}")
        assert answer.status == 404
        assert page.running.proxy.fault == Fault.NONE


async def test_a_change_needs_the_printed_token_whoever_asks(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        for who in ({}, {"Authorization": f"Bearer {page.admin()}"}):
            for token in (None, "wrong", CHANGE[:-1], CHANGE + "x", page.ops_token()):
                assert (await page.change(token=token, **who)).status == 403
        assert page.running.proxy.fault == Fault.NONE


async def test_an_ops_token_changes_nothing_even_with_the_printed_one(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        answer = await page.change(Authorization=f"Bearer {page.ops_token()}")
        assert (answer.status, page.running.proxy.fault) == (403, Fault.NONE)


async def test_the_printed_token_counts_in_its_header_alone(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        elsewhere = {"cookie": f"x-doorward-change={CHANGE}", "Authorization": f"Bearer {CHANGE}"}
        answer = await page.change(token=None, **elsewhere)
        assert (answer.status, page.running.proxy.fault) == (403, Fault.NONE)


async def test_a_page_of_another_origin_breaks_nothing(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        assert (await page.change(origin="http://evil.example")).code == "ORIGIN_DENIED"
        assert page.running.proxy.fault == Fault.NONE


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("nonsense", 400),
        ('{"fault": 1}', 400),
        ('{"fault": "silence", "more": 1}', 400),
        ('{"fault": "fire"}', 422),
        ('{"fault": "' + "x" * MAX_BODY_BYTES + '"}', 413),
    ],
)
async def test_a_change_that_is_none_is_refused(tmp_path: Path, body: str, status: int) -> None:
    async with ops(tmp_path, panel=True) as page:
        answer = await page.change(body)
        assert (answer.status, page.running.proxy.fault) == (status, Fault.NONE)
        assert (await page.change('{"fault":"silence"}', Content_Type="text/plain")).status == 415
        assert page.running.proxy.fault == Fault.NONE


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        reader, writer = await asyncio.open_connection("127.0.0.1", page.running.port)
        writer.write(
            b"POST /ops/api/fault HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"X-Doorward-Change: " + CHANGE.encode() + b"\r\nContent-Length: 20\r\n\r\n{"
        )
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_break_watch_heal_watch(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        broken = await page.change()
        assert broken.content["faults"]["now"] == "silence"
        assert broken.content["viewer"]["may_change"] is True
        await asyncio.gather(*(page.running.ask(opaque_token()) for _ in range(8)))
        state = (await seen(page, lambda state: state["services"][0]["breaker"] == "open")).content
        assert state["services"][0]["breaker_changes"][-1]["after"] == "open"
        assert state["in_outage"] is True
        healed = await page.change('{"fault":"none"}')
        assert [switch["key"] for switch in healed.content["faults"]["switches"]] == ["silence", "none"]
        closed = (await seen(page, lambda state: state["services"][0]["breaker"] == "closed")).content
        assert closed["services"][0]["breaker_changes"][-1]["after"] == "closed"
        assert closed["services"][0]["breaker_changes"][-1]["at"] - closed["faults"]["switches"][-1]["at"] < 5.0


async def seen(page: Ops, condition: Any, within_seconds: float = 8.0) -> Answer:
    deadline = time.monotonic() + within_seconds
    while not condition((answer := await page.look()).content):
        assert time.monotonic() < deadline, answer.content
        await asyncio.sleep(0.1)
    return answer


async def test_the_state_holds_no_token(tmp_path: Path) -> None:
    async with ops(tmp_path, panel=True) as page:
        token, stranger, ops_token = page.admin(), opaque_token(), page.ops_token()
        async with page.running.connect(token):
            await page.running.ask(stranger)
            text = json.dumps(await with_decisions(page)) + json.dumps((await page.look(ops_token)).content)
        for secret in (token, stranger, ops_token, CHANGE, page.running.auth.service_secret):
            assert secret not in text


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("too_many", {"throttled"}),
        ("overloaded", {"throttled"}),
        ("secret_refused_late", {"config"}),
        ("truncated", {"upstream", "protocol"}),
        ("wrong_json", {"protocol"}),
        ("huge_body", {"protocol"}),
        ("flapping", {"", "upstream"}),
        ("mostly_slow", {"", "deadline"}),
        ("stale_keep_alive", {"", "upstream"}),
    ],
)
async def test_what_a_stranger_is_told_in_each_fault(tmp_path: Path, fault: str, told: set[str]) -> None:
    """A token that only the auth service can judge: never a wrong word, and once it is healed the right one."""
    async with ops(tmp_path, panel=True) as page:
        assert (await page.change(f'{{"fault":"{fault}"}}')).content["faults"]["now"] == fault
        answer = await page.running.ask(opaque_token())
        assert (answer.status, answer.cause or "") in {(503 if cause else 401, cause) for cause in told}
        await page.change('{"fault":"none"}')
        deadline = time.monotonic() + HEALED_SECONDS
        while (answer := await page.running.ask(opaque_token())).status != 401:
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.1)
        assert answer.code == "TOKEN_REJECTED"
