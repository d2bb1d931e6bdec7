"""Two auth services behind one door, on real sockets: everybody is asked about at their own, and shares no trouble of another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.door_client import opened
from tests.door_server import RunningDoor, auth_settings, running_door
from tests.integration.door.test_e2e import SWITCHED_ON, made
from tests.integration.door.test_tickets import ticket_for, use

from doorward import Settings
from doorward.asgi.door import Door
from doorward.asgi.issuer import Issuer
from doorward.core.answer import Invalid, Valid
from doorward.core.breaker import State
from doorward.core.deadline import Deadline
from doorward.errors import UsageError
from doorward.testing import Endpoint, FakeAuthService, Fault, FaultProxy, eventually, opaque_token

QUICK: dict[str, Any] = {"deadline_seconds": 1.0, "patience_seconds": 0.1}
SICK = (Fault.REFUSE, Fault.SILENCE, Fault.status(500))


@dataclass
class Two:
    """`[auth]` is the running door's own; `acme` is the entry of `[[issuers]]`, reached over `proxy`."""

    running: RunningDoor
    acme: FakeAuthService
    proxy: FaultProxy

    @property
    def theirs(self) -> Issuer:
        return self.running.door.issuers["acme"]

    async def who(self, token: str) -> dict[str, Any]:
        """What the app sees of whoever comes with this token."""
        async with self.running.connect(token) as client:
            await client.send("who am I?")
            seen: dict[str, Any] = json.loads(await client.recv())
            return seen

    def metric(self, name: str, **labels: str) -> float | None:
        return self.running.door.metrics.registry.get_sample_value(f"doorward_{name}", labels)


@asynccontextmanager
async def two(
    tmp_path: Path,
    *,
    acme: FakeAuthService | None = None,
    between: FaultProxy | None = None,
    entry: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Two]:
    """Args: acme, between: the service and the proxy before it, where they outlive the door."""
    async with AsyncExitStack() as stack:
        service = (
            acme if acme is not None else await stack.enter_async_context(FakeAuthService(service_secret="of-acme"))
        )
        proxy = (
            between
            if between is not None
            else await stack.enter_async_context(FaultProxy(service.host, service.port, seed=2))
        )
        issuers = ({"name": "acme", **auth_settings(service, proxy), **(entry or {})},)
        running = await stack.enter_async_context(running_door(tmp_path, issuers=issuers, **settings))
        yield Two(running, service, proxy)


async def test_everybody_is_asked_about_at_their_own_service(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        ours, theirs = both.running.auth.issue("ada"), both.acme.issue("ada")
        assert (await both.who(ours))["user_id"] == "ada"
        seen = await both.who(theirs)
        assert (seen["user_id"], seen["assurance"], seen["degraded"]) == ("acme:ada", "live", False)
        assert (both.running.auth.asked_about[ours], both.acme.asked_about[theirs]) == (1, 1)
        assert (both.running.auth.asked_about[theirs], both.acme.asked_about[ours]) == (0, 0)
        assert [record.issuer for record in both.running.records] == ["auth", "acme"]
        async with both.running.connect(theirs):
            insight = both.running.door.insight
            await eventually(lambda: insight.connections("acme:ada"), what="it is registered")
            assert insight.connections("ada") == []


async def test_a_token_of_nobody_known_is_no_ones_to_judge(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await both.running.settled()
        asked = both.running.auth.calls[Endpoint.VALIDATE], both.acme.calls[Endpoint.VALIDATE]
        strangers = (
            both.acme.issue("eve", iss="https://evil.example"),
            both.acme.issue("eve", iss=f"{both.acme.issuer}/"),
            both.acme.issue("eve", iss=both.running.auth.issuer),
            both.running.auth.issue("eve", iss=both.acme.issuer),
        )
        for token in strangers:
            assert (await both.running.ask(token)).code == "TOKEN_INVALID"
            assert not both.running.auth.asked_about[token]
            assert not both.acme.asked_about[token]
        assert [record.issuer for record in both.running.records] == [None, None, "auth", "acme"]
        assert "a slash at its end" in both.running.records[1].detail
        assert (both.running.auth.calls[Endpoint.VALIDATE], both.acme.calls[Endpoint.VALIDATE]) == asked


@pytest.mark.parametrize("fault", SICK, ids=["refused", "silent", "500"])
async def test_the_outage_of_one_is_not_noticed_by_the_users_of_the_other(fault: Fault, tmp_path: Path) -> None:
    """Until the breaker of the sick one is open, and after it; with its bulkhead full of questions all the while."""
    limits = {"bulkhead": 4, "unproven_lane": 2, "abandoned": 4}
    async with two(tmp_path, limits=limits, breaker={"failures": 3}, entry={"opaque": True}, **QUICK) as both:
        running = both.running
        await running.settled()
        both.proxy.fault = fault
        siege = [asyncio.create_task(running.ask(opaque_token())) for _ in range(20)]
        crowd = [asyncio.create_task(running.ask(both.acme.issue(f"user-{number}"))) for number in range(20)]
        well = [await running.ask(running.auth.issue(f"well-{number}")) for number in range(10)]
        answers = await asyncio.gather(*siege, *crowd)
        await eventually(lambda: both.theirs.gate.breaker.state is not State.CLOSED, what="their breaker opens")
        well += [await running.ask(running.auth.issue(f"later-{number}")) for number in range(10)]

        assert {answer.status for answer in well} == {101}
        ours = [record for record in running.records if record.issuer == "auth"]
        assert {(record.verdict, record.degraded) for record in ours} == {("allow", False)}
        assert {answer.status for answer in answers[:20]} == {503}
        assert {answer.status for answer in answers[20:]} == {101}, "their proven users get in, degraded"
        assert not running.issuer.gate.in_outage
        assert running.issuer.gate.breaker.state is State.CLOSED
        assert (running.door.in_outage, running.door.ready) == (True, True)
        assert both.metric("breaker_state", issuer="auth", state="closed") == 1
        assert both.metric("breaker_state", issuer="acme", state="closed") == 0
        assert both.metric("auth_attempt_duration_seconds_count", issuer="auth", result="valid") == 20
        by_name = {view.issuer: view for view in running.door.insight.services()}
        assert [(name, view.in_outage) for name, view in by_name.items()] == [("auth", False), ("acme", True)]

        both.proxy.fault = Fault.NONE
        await eventually(lambda: not both.theirs.in_outage, within_seconds=10, what="it heals")
        assert (await both.who(both.acme.issue("ada")))["assurance"] == "live"


async def test_who_came_in_degraded_is_asked_about_again_by_their_own_recovery(tmp_path: Path) -> None:
    async with two(tmp_path, breaker={"failures": 2}, **QUICK) as both:
        await both.running.settled()
        both.proxy.fault = Fault.REFUSE
        token = both.acme.issue("ada")
        both.acme.reject(token)
        async with (
            opened(both.running.browser(token)) as page,
            opened(both.running.browser(both.running.auth.issue())) as well,
        ):
            assert (await page.frame(notice="auth.assurance"))["degraded"]
            await well.frame(notice="auth.assurance")
            both.proxy.fault = Fault.NONE
            assert (await page.closed())[0] == 3000
            assert (await well.ask())["assurance"] == "live"


async def test_a_feed_closes_the_sockets_of_its_own_users(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await both.running.settled()
        ours = both.running.auth.issue("ada", session_id="s1", jti="j1")
        theirs = both.acme.issue("ada", session_id="s1", jti="j1")
        async with opened(both.running.browser(ours)) as mine, opened(both.running.browser(theirs)) as other:
            await mine.frame(notice="auth.assurance")
            assert (await other.frame(notice="auth.assurance"))["user_id"] == "acme:ada"
            both.acme.revoke(user_id="ada")
            both.acme.revoke(session_id="s1")
            both.acme.revoke(jti="j1")
            assert (await other.closed())[0] == 3000
            assert (await mine.ask())["user_id"] == "ada"
        assert (await both.running.ask(theirs)).code == "TOKEN_REVOKED"
        assert (await both.running.ask(ours)).status == 101


async def test_a_socket_is_not_refreshed_with_a_token_of_another_issuer(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        await both.running.settled()
        other = both.acme.issue("ada", session_id="s1")
        async with opened(both.running.browser(both.running.auth.issue("ada", session_id="s1"))) as page:
            assert (await page.refresh(other))["error"]["code"] == "FORBIDDEN"
            strange = both.acme.issue("ada", session_id="s1", iss="https://evil.example")
            assert (await page.refresh(strange))["error"]["code"] == "TOKEN_INVALID"
            assert (await page.ask())["user_id"] == "ada"
            again = both.running.auth.issue("ada", session_id="s1")
            assert (await page.refresh(again))["ok"]
        assert not both.acme.asked_about[other]


async def test_tickets_and_first_messages_are_of_all_issuers(tmp_path: Path) -> None:
    routes = ({"path": "/first", "transports": ("first_message",)},)
    async with two(tmp_path, routes=routes) as both:
        token = both.acme.issue("ada")
        ticket = await ticket_for(both.running, token)
        assert await use(both.running, ticket) == "in"
        assert await use(both.running, ticket) == "401 TOKEN_REJECTED"
        async with both.running.connect(None, path="/first") as client:
            await client.send(json.dumps({"type": "auth", "token": token}))
            await client.send("who am I?")
            assert json.loads(await client.recv())["user_id"] == "acme:ada"


async def test_test_tokens_count_in_the_outages_of_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"environment": "staging", **SWITCHED_ON, "e2e": {**SWITCHED_ON["e2e"], "issuer": "acme"}}
    async with two(tmp_path, **options, **QUICK) as both:
        await both.running.settled()
        data_dir = both.running.door.settings.data_dir
        both.running.proxy.fault = Fault.REFUSE
        await asyncio.gather(*(both.running.ask(opaque_token()) for _ in range(3)))
        await eventually(lambda: both.running.issuer.gate.breaker.state is State.OPEN, what="our breaker opens")
        assert (await both.running.ask(made(data_dir))).code == "TOKEN_REJECTED"
        both.proxy.fault = Fault.REFUSE
        for number in range(3):
            await both.running.ask(both.acme.issue(f"user-{number}"))
        await eventually(lambda: both.theirs.gate.breaker.state is State.OPEN, what="their breaker opens")
        seen = await both.who(made(data_dir))
        assert (seen["user_id"], seen["assurance"]) == ("e2e:ada", "test")


async def test_each_remembers_its_own_over_a_restart(tmp_path: Path) -> None:
    """Key set, last contact, bars and revocations, in one file and apart."""
    async with (
        FakeAuthService() as auth,
        FakeAuthService(service_secret="of-acme") as acme,
        FaultProxy(auth.host, auth.port) as ours,
        FaultProxy(acme.host, acme.port) as theirs,
    ):
        refused, revoked = acme.issue("ada"), acme.issue("bob", session_id="s1")
        async with two(tmp_path, acme=acme, between=theirs, auth=auth, proxy=ours) as both:
            await both.running.settled()
            acme.reject(refused)
            assert (await both.running.ask(refused)).code == "TOKEN_REJECTED"
            acme.revoke(session_id="s1")
            await eventually(lambda: len(both.theirs.memory.revocations) == 1, what="the feed has come in")
            assert len(both.running.issuer.memory.revocations) == 0
        ours.fault = theirs.fault = Fault.REFUSE
        async with two(tmp_path, acme=acme, between=theirs, auth=auth, proxy=ours, **QUICK) as both:
            assert (await both.running.ask(refused)).code == "TOKEN_REJECTED"
            assert (await both.running.ask(revoked)).code == "TOKEN_REVOKED"
            same = [auth.issue("carol", session_id="s1"), acme.issue("carol")]
            assert [(await both.running.ask(token)).status for token in same] == [101, 101]
            assert [record.reason for record in both.running.records[-2:]] == ["degraded_local", "degraded_local"]


async def test_a_door_is_ready_when_it_has_the_keys_of_all(tmp_path: Path) -> None:
    """Whose keys are there gets in meanwhile."""
    async with two(tmp_path) as both:
        both.proxy.fault = Fault.SILENCE
        door = Door(both.running.door.settings.model_copy(update={"data_dir": tmp_path / "another"}))
        try:
            await door.open()
            await eventually(lambda: door.issuers["auth"].keys.keyset, what="our keys")
            assert not door.ready
            both.proxy.fault = Fault.NONE
            await eventually(lambda: door.ready, within_seconds=9, what="their keys")
        finally:
            await door.aclose()


class Says:
    """A validator of somebody's own."""

    def __init__(self, user: str) -> None:
        self.user = user

    async def validate(self, token: str, *, deadline: Deadline) -> Valid | Invalid:
        return Valid(self.user) if token == "good" else Invalid()


def test_validators_of_ones_own_are_given_by_name(tmp_path: Path) -> None:
    named = [{"name": "acme", "url": "https://acme.example", "service_secret": "x"}]
    settings = Settings(auth={"url": "https://auth.example"}, issuers=named, data_dir=tmp_path)
    Door(settings, validator={"auth": Says("ada")})
    with pytest.raises(UsageError, match=r"validator=\{name: \.\.\.\} with one of auth, acme"):
        Door(settings, validator=Says("ada"))
    with pytest.raises(UsageError, match="there is no issuer 'beta'; there is auth, acme"):
        Door(settings, validator={"beta": Says("ada")})


async def test_a_strict_service_is_asked_for_the_audience_that_the_token_has(tmp_path: Path) -> None:
    """One that holds a token to the audience it is asked for, as authd does."""
    async with running_door(tmp_path, auth_settings={"audience": ("doorward", "mobile", "web")}) as running:
        for aud in ("doorward", "web", ["web", "mobile"], ["else", "web"]):
            assert (await running.ask(running.auth.issue("ada", aud=aud))).status == 101, aud
        assert (await running.ask(running.auth.issue("ada", aud="else"))).code == "TOKEN_INVALID"
        said = [json.loads(request.body)["audience"] for request in running.auth.requests if request.audience()]
        assert said[-4:] == ["doorward", "web", "mobile", "web"]
