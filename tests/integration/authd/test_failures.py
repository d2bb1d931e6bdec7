"""What breaks: the store, the process, the start. "Could not ask" is 503, and nothing answered is ever lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.authd_support import SECRET, Authd, Serve, bearer, service_header
from tests.postgres import Postgres, running_postgres

from doorward.authd import admin
from doorward.config import Settings
from doorward.testing import eventually

BOUND_SECONDS = 1.0
SLACK_SECONDS = 0.7

PROGRAM = """
import sys, uvicorn
from pathlib import Path
from doorward.authd.app import create_app
from doorward.config import Settings
from doorward.testing import eventually
data_dir, port, secret = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = Settings(data_dir=data_dir, auth={"service_secret": secret}, authd={"allow_register": True})
app = create_app(settings, issuer="https://auth.test")
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, proxy_headers=False)
"""


def is_unavailable(answer: tuple[int, Any]) -> bool:
    status, body = answer
    return status == 503 and body["code"] == "STORE_UNAVAILABLE" and body["retry_after_ms"] > 0


async def test_a_failing_store_is_503_and_never_invalid(authd: Authd) -> None:
    tokens = await authd.sign_up()
    body = {"refresh_token": tokens["refresh_token"]}
    tables = ("sessions", "services")
    await authd.sql(*(f"ALTER TABLE {table} RENAME TO hidden_{table}" for table in tables))
    for token in (tokens["access_token"], "opaque"):
        assert is_unavailable(await authd.validate(token))
    assert is_unavailable(await authd.get("/auth/me", headers=bearer(tokens)))
    assert is_unavailable(await authd.post("/auth/refresh", body))
    assert is_unavailable(await authd.post("/auth/logout", body))
    assert is_unavailable(await authd.get("/auth/health"))
    assert is_unavailable(await authd.post("/auth/validate", {"token": "x"}, headers=service_header("wrong")))
    await authd.sql(*(f"ALTER TABLE hidden_{table} RENAME TO {table}" for table in tables))
    assert (await authd.validate(tokens["access_token"]))[1]["valid"] is True
    assert (await authd.validate("opaque"))[1]["valid"] is False
    assert (await authd.post("/auth/refresh", body))[0] == 200


async def test_a_locked_store_answers_within_its_bound(serve: Serve) -> None:
    async with serve(store_seconds=BOUND_SECONDS) as authd:
        tokens = await authd.sign_up()
        body = {"refresh_token": tokens["refresh_token"]}
        async with authd.locked():
            started = time.monotonic()
            calls = [authd.post("/auth/refresh", body) for _ in range(5)]
            answers = await asyncio.gather(*calls, authd.post("/auth/logout", body))
            assert time.monotonic() - started < BOUND_SECONDS + SLACK_SECONDS
            assert all(is_unavailable(answer) for answer in answers)
            assert (await authd.validate(tokens["access_token"]))[1]["valid"] is True
        assert (await authd.post("/auth/refresh", body))[0] == 200


@pytest.fixture
def own_postgres(postgres: Postgres) -> Iterator[Postgres]:
    """One that a test may break; where there is none, `postgres` skips the test."""
    with running_postgres() as running:
        yield running


async def test_a_postgresql_that_is_restarted(serve: Serve, own_postgres: Postgres) -> None:
    async with serve(database_url=own_postgres.new_database()) as authd:
        tokens = await authd.sign_up()
        await asyncio.to_thread(own_postgres.stop)
        assert is_unavailable(await authd.validate(tokens["access_token"]))
        assert is_unavailable(await authd.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]}))
        await asyncio.to_thread(own_postgres.start)
        assert (await authd.validate(tokens["access_token"]))[1]["valid"] is True
        assert (await authd.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]}))[0] == 200


async def test_a_postgresql_that_hangs_is_waited_for_in_bounds(serve: Serve, own_postgres: Postgres) -> None:
    async with serve(database_url=own_postgres.new_database(), store_seconds=BOUND_SECONDS) as authd:
        tokens = await authd.sign_up()
        with own_postgres.frozen():
            started = time.monotonic()
            answers = await asyncio.gather(*(authd.validate(tokens["access_token"]) for _ in range(20)))
            assert time.monotonic() - started < BOUND_SECONDS + SLACK_SECONDS
            assert all(is_unavailable(answer) for answer in answers)
        assert (await authd.validate(tokens["access_token"]))[1]["valid"] is True


@asynccontextmanager
async def process(data_dir: Path, http: aiohttp.ClientSession) -> AsyncIterator[tuple[Authd, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = (sys.executable, "-c", PROGRAM, str(data_dir), str(port), SECRET)
    child = await asyncio.create_subprocess_exec(*arguments)
    settings = Settings(data_dir=data_dir, auth={"service_secret": SECRET})
    authd = Authd(f"http://127.0.0.1:{port}", settings, http, child.kill)
    try:
        async with asyncio.timeout(20):
            while child.returncode is None:
                try:
                    if (await authd.get("/auth/health"))[0] == 200:
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.02)
        yield authd, child.pid
    finally:
        if child.returncode is None:
            child.kill()
        await asyncio.wait_for(child.wait(), 10)


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        async with process(tmp_path / "state", http) as (authd, pid):
            kept, gone = await authd.sign_up("kept@example.com"), await authd.sign_up("gone@example.com")
            _, rotated = await authd.post("/auth/refresh", {"refresh_token": kept["refresh_token"]})
            assert (await authd.post("/auth/logout", {"refresh_token": gone["refresh_token"]}))[0] == 204
            os.kill(pid, signal.SIGKILL)
        async with process(tmp_path / "state", http) as (authd, pid):
            _, again = await authd.post("/auth/refresh", {"refresh_token": kept["refresh_token"]})
            assert again["refresh_token"] == rotated["refresh_token"]
            assert (await authd.validate(rotated["access_token"]))[1]["valid"] is True
            assert (await authd.validate(gone["access_token"]))[1]["valid"] is False
            _, page = await authd.revocations()
            assert (page["cursor"], len(page["items"])) == ("1", 1)


async def test_kill_9_in_the_middle_of_refreshes_signs_nobody_out(tmp_path: Path) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        latest: list[str] = []

        async def keep_refreshing(authd: Authd, number: int, token: str) -> None:
            while True:
                latest[number] = token
                try:
                    status, body = await authd.post("/auth/refresh", {"refresh_token": token})
                except aiohttp.ClientError:
                    return
                assert status == 200
                token = body["refresh_token"]

        async with process(tmp_path / "state", http) as (authd, pid):
            signed_up = [await authd.sign_up(f"user{number}@example.com") for number in range(5)]
            latest += [tokens["refresh_token"] for tokens in signed_up]
            first = list(latest)
            tasks = [asyncio.create_task(keep_refreshing(authd, number, latest[number])) for number in range(5)]
            await eventually(
                lambda: all(old != new for old, new in zip(first, latest, strict=True)),
                within_seconds=10,
                what="everybody refreshed once",
            )
            os.kill(pid, signal.SIGKILL)
            await asyncio.wait_for(asyncio.gather(*tasks), 10)
        async with process(tmp_path / "state", http) as (authd, _):
            for token in latest:
                assert (await authd.post("/auth/refresh", {"refresh_token": token}))[0] == 200


async def test_a_start_that_cannot_work_ends_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file in the way")
    arguments = (sys.executable, "-c", PROGRAM, str(tmp_path / "state"), "0", SECRET)
    child = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    _, shown = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode != 0
    assert b"ConfigError: data_dir" in shown
    assert SECRET.encode() not in shown


async def test_setting_up_beside_a_running_service(serve: Serve) -> None:
    async with serve() as authd:
        made = await admin.init(authd.settings, "second@example.com")
        assert made.admin.password
        assert made.service_secret is None
        tokens = await authd.sign_in("second@example.com", made.admin.password)
        assert tokens["user"]["permissions"] == ["admin", "chat"]
