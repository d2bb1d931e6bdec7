"""E2E test tokens on real doors: off in production, idle while the auth service answers, once over processes and restarts."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.cli_support import doorward
from tests.door_client import opened
from tests.door_process import answer, process
from tests.door_server import RunningDoor, auth_settings, running_door

from doorward import Settings
from doorward.adapters.e2e_key import prepare_key, sign
from doorward.asgi.door import Door
from doorward.config import Environment
from doorward.core.breaker import State
from doorward.core.e2e import E2ePolicy, claims
from doorward.errors import ConfigError
from doorward.testing import FakeAuthService, Fault, FaultProxy, eventually, opaque_token

POLICY = E2ePolicy("staging-eu", "e2e", frozenset({"chat"}))
SWITCHED_ON: dict[str, Any] = {"e2e": {"enabled": True, "audience": POLICY.audience}}
STAGING: dict[str, Any] = {"environment": "staging", "deadline_seconds": 1.0, "patience_seconds": 0.1}
PROCESSES = 4
AT_ONCE = 100


def made(data_dir: Path, name: str = "ada", *, key: str = "e2e.key") -> str:
    """A test token for the door of this data directory."""
    said = claims(POLICY, name=name, jti=secrets.token_hex(8), wall_now=time.time(), seconds=600)
    return sign(prepare_key(data_dir / key), said)


@pytest.fixture(name="door")
async def a_door(tmp_path: Path) -> AsyncIterator[RunningDoor]:
    async with running_door(tmp_path, **STAGING, **SWITCHED_ON) as running:
        await running.settled()
        yield running


async def breaks(running: RunningDoor, fault: Fault = Fault.REFUSE) -> None:
    """The auth service, and then the breaker opens."""
    running.proxy.fault = fault
    await asyncio.gather(*(running.ask(opaque_token()) for _ in range(2)))
    await eventually(lambda: running.issuer.gate.breaker.state is State.OPEN, what="the breaker opens")


def never_asked(running: RunningDoor, *tokens: str) -> bool:
    return not any(token.encode() in request.body for token in tokens for request in running.auth.requests)


def admits(running: RunningDoor) -> float | None:
    return running.door.metrics.registry.get_sample_value("doorward_e2e_admits_total")


# What it is for


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.SILENCE], ids=["refused", "silent"])
async def test_a_test_user_sees_degraded_mode_from_end_to_end(fault: Fault, door: RunningDoor) -> None:
    await breaks(door, fault)
    token = made(door.door.settings.data_dir)
    async with opened(door.browser(token)) as page:
        notice = await page.frame(notice="auth.assurance")
        assert (notice["user_id"], notice["assurance"], notice["degraded"]) == ("e2e:ada", "test", True)
        who = await page.ask()
        assert (who["user_id"], who["assurance"], who["permissions"]) == ("e2e:ada", "test", ["chat"])
        record = door.records[-1]
        assert (record.verdict, record.source, record.reason) == ("allow", "e2e", "degraded_test")
        assert record.total_ms < 500
        assert admits(door) == 1
        door.proxy.fault = Fault.NONE
        assert (await page.closed())[0] == 3000
        assert page.client.close_reason is not None
        assert page.client.close_reason.startswith("TOKEN_REVOKED")
    assert (await door.ask(made(door.door.settings.data_dir))).code == "TOKEN_REJECTED", "the outage is over"
    assert never_asked(door, token)


async def test_a_token_of_the_command_line_opens_the_door(door: RunningDoor, tmp_path: Path) -> None:
    await breaks(door)
    outcome = await doorward(
        "token", "--e2e", "--as", "eve",
        cwd=tmp_path,
        environment="staging",
        data_dir="data",
        e2e__enabled="true",
        e2e__audience=POLICY.audience,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    token = outcome.out.strip()
    async with opened(door.connect(token)) as page:
        assert (await page.ask())["user_id"] == "e2e:eve"
    assert (await door.ask(token)).code == "TOKEN_REJECTED"


# What it must not do


async def test_it_does_nothing_while_the_auth_service_answers(door: RunningDoor) -> None:
    token = made(door.door.settings.data_dir)
    answer = await door.ask(token)
    assert (answer.status, answer.code) == (401, "TOKEN_REJECTED")
    assert admits(door) == 0
    assert never_asked(door, token)
    await breaks(door)
    assert (await door.ask(token)).status == 101, "it was not used up"


async def test_switched_off_it_is_invalid_and_never_sent_out(tmp_path: Path) -> None:
    async with running_door(tmp_path, **STAGING) as running:
        await running.settled()
        token = made(tmp_path)
        assert (await running.ask(token)).code == "TOKEN_INVALID"
        await breaks(running)
        assert (await running.ask(token)).code == "TOKEN_INVALID"
        assert never_asked(running, token)
        assert not (running.door.settings.data_dir / "e2e.key").exists()


async def test_it_refreshes_nobody(door: RunningDoor) -> None:
    token = made(door.door.settings.data_dir)
    async with opened(door.browser(door.auth.issue("ada"))) as page:
        reply = await page.refresh(token)
        assert reply["error"]["code"] == "TOKEN_INVALID"
        assert (await page.ask())["user_id"] == "ada"
    assert never_asked(door, token)


async def test_a_key_of_the_auth_service_makes_no_test_tokens(tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        key = auth.mint._keys[auth.mint.kid]
        (tmp_path / "their.key").write_text(json.dumps(key.as_dict(private=True)))
        (tmp_path / "their.key").chmod(0o600)
        e2e = {**SWITCHED_ON["e2e"], "key_file": tmp_path / "their.key"}
        async with running_door(tmp_path, auth=auth, **STAGING, e2e=e2e) as running:
            await running.settled()
            await breaks(running)
            assert (await running.ask(made(tmp_path, key="their.key"))).code == "TOKEN_INVALID"


async def test_a_store_that_cannot_say_lets_nobody_in(door: RunningDoor) -> None:
    await breaks(door)
    with sqlite3.connect(door.door.settings.data_dir / "node.sqlite3") as connection:
        connection.execute("ALTER TABLE redeemed RENAME TO elsewhere")
    connection.close()
    answer = await door.ask(made(door.door.settings.data_dir))
    assert (answer.status, answer.code, answer.cause) == (503, "SERVICE_UNAVAILABLE", "store")
    assert answer.seconds < 1.5
    assert admits(door) == 0


# The start


async def test_production_refuses_to_start(tmp_path: Path) -> None:
    """The default environment is production."""
    on = {"e2e__enabled": "true", "e2e__audience": "staging-eu"}
    auth = {"auth__url": "http://127.0.0.1:9", "auth__service_secret": "made-up"}
    for variables in (on | auth, on | auth | {"environment": "production"}):
        outcome = await doorward("serve", "--port", "0", cwd=tmp_path, **variables)
        assert (outcome.code, outcome.out) == (2, "")
        assert "e2e.enabled: production takes no test tokens" in outcome.said
    assert (await doorward("token", "--e2e", cwd=tmp_path, **on)).code == 2
    assert not (tmp_path / ".doorward").exists()


def test_production_refuses_however_it_was_said(tmp_path: Path) -> None:
    """A copy of settings is not checked again; the door checks."""
    auth = {"url": "http://127.0.0.1:9", "service_secret": "made-up"}
    staging = Settings(auth=auth, data_dir=tmp_path, environment="staging", **SWITCHED_ON)
    assert Door(staging).settings is staging
    nameless = staging.e2e.model_copy(update={"audience": None})
    for change in ({"environment": Environment.PRODUCTION}, {"e2e": nameless}):
        with pytest.raises(ConfigError, match=r"e2e\.enabled"):
            Door(staging.model_copy(update=change))


@pytest.mark.parametrize(
    ("content", "mode", "mend"),
    [(b"{}", 0o600, "move it away"), (None, 0o644, "chmod 600"), (b"", 0o644, "chmod 600")],
    ids=["no key", "readable by others", "both"],
)
async def test_a_key_that_cannot_be_trusted_stops_the_start(
    content: bytes | None, mode: int, mend: str, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "e2e.key"
    prepare_key(path)
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    auth = {"url": "http://127.0.0.1:9", "service_secret": "made-up"}
    door = Door(Settings(auth=auth, data_dir=tmp_path / "data", environment="staging", **SWITCHED_ON))
    with pytest.raises(ConfigError, match=mend) as caught:
        await door.open()
    assert str(path) in str(caught.value)
    await door.aclose()


# Once


async def opens_breaker(port: int) -> None:
    ends_at = time.monotonic() + 10
    while await answer(port, opaque_token()) != "SERVICE_UNAVAILABLE breaker_open":
        assert time.monotonic() < ends_at


async def test_a_hundred_at_once_over_four_processes_and_a_restart(tmp_path: Path) -> None:
    async with FakeAuthService() as auth, FaultProxy(auth.host, auth.port, seed=1) as proxy:
        async with running_door(tmp_path, auth=auth, proxy=proxy, **STAGING, **SWITCHED_ON) as first:
            await first.settled()
        proxy.fault = Fault.REFUSE
        settings = {"auth": auth_settings(auth, proxy), "data_dir": str(tmp_path / "data"), **STAGING, **SWITCHED_ON}
        token = made(tmp_path / "data")
        async with AsyncExitStack() as stack:
            ports = [await stack.enter_async_context(process(settings)) for _ in range(PROCESSES)]
            await asyncio.gather(*(opens_breaker(port) for port in ports))
            answers = Counter(
                await asyncio.gather(*(answer(port, token) for port in ports for _ in range(AT_ONCE // PROCESSES)))
            )
            assert answers == {"in": 1, "TOKEN_REJECTED": AT_ONCE - 1}
        async with process(settings) as port:
            await opens_breaker(port)
            assert await answer(port, token) == "TOKEN_REJECTED"
            assert await answer(port, made(tmp_path / "data")) == "in"
