"""What an operator does on the host: set up, make users, rotate keys. And that nothing secret is shown or kept in clear."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from joserfc import jws
from tests.authd_support import SECRET, Authd, Serve, bearer

from doorward.authd import admin
from doorward.authd.keys import PUBLISH_SECONDS
from doorward.config import Settings
from doorward.errors import UsageError


def kid_of(tokens: dict[str, Any]) -> str:
    return str(jws.extract_compact(tokens["access_token"].encode()).headers()["kid"])


async def published(authd: Authd) -> list[str]:
    _, body = await authd.get("/.well-known/jwks.json")
    return [key["kid"] for key in body["keys"]]


async def published_with(authd: Authd, kid: str) -> list[str]:
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        kids = await published(authd)
        if kid in kids:
            return kids
    raise AssertionError("the new key was not published")


async def test_init_makes_all_that_a_first_start_needs(tmp_path: Path, serve: Serve) -> None:
    settings = Settings(data_dir=tmp_path / "state")
    made = await admin.init(settings, "first@example.com")
    assert made.admin.created
    assert made.admin.password
    assert made.service_secret
    assert made.service_secret not in repr(made)
    assert made.admin.password not in repr(made)
    again = await admin.init(settings, "first@example.com", "another password")
    assert (again.admin.created, again.admin.password, again.service_secret) == (False, None, None)
    async with serve(settings={}) as authd:
        assert (await authd.sign_in("first@example.com", "another password"))["user"]["permissions"] == [
            "admin",
            "chat",
        ]
        header = {"authorization": aiohttp.encode_basic_auth(made.service_id, made.service_secret)}
        status, body = await authd.post("/auth/validate", {"token": "opaque"}, headers=header)
        assert (status, body["valid"]) == (200, False)


async def test_ensure_user_brings_a_user_up_to_date(serve: Serve) -> None:
    async with serve() as authd:
        made = await admin.ensure_user(authd.settings, "ann@example.com", permissions=["chat"], generate_password=True)
        assert made.created
        assert made.password
        again = await admin.ensure_user(authd.settings, "ann@example.com", permissions=["ops"], generate_password=True)
        assert (again.created, again.password) == (False, None)
        tokens = await authd.sign_in("ann@example.com", made.password)
        assert tokens["user"]["permissions"] == ["chat", "ops"]
    with pytest.raises(UsageError):
        await admin.ensure_user(authd.settings, "no address")
    with pytest.raises(UsageError):
        await admin.ensure_user(authd.settings, "ann@example.com", "short")


async def test_a_rotated_key_is_published_long_before_it_signs(authd: Authd) -> None:
    before = await authd.sign_up()
    key = await admin.rotate_keys(authd.settings)
    assert key.signs_from >= time.time() + PUBLISH_SECONDS
    kids = await published_with(authd, key.kid)
    assert set(kids) == {key.kid, kid_of(before)}
    _, after = await authd.post("/auth/refresh", {"refresh_token": before["refresh_token"]})
    assert kid_of(after) == kid_of(before)


async def test_rotating_now_signs_at_once_and_old_tokens_stay_good(authd: Authd) -> None:
    before = await authd.sign_up()
    key = await admin.rotate_keys(authd.settings, now=True)
    assert kid_of(before) in await published_with(authd, key.kid)
    _, after = await authd.post("/auth/refresh", {"refresh_token": before["refresh_token"]})
    assert kid_of(after) == key.kid
    for tokens in (before, after):
        assert (await authd.validate(tokens["access_token"]))[1]["valid"] is True


async def test_nothing_secret_is_logged_or_kept_in_clear(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    password = "hunter2-hunter2"
    async with serve() as authd:
        with structlog.testing.capture_logs() as events:
            tokens = await authd.sign_up("ann@example.com", password)
            code = await admin.issue_one_time_code(authd.settings, "ann@example.com")
            _, second = await authd.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]})
            await authd.post("/auth/login", {"email": "ann@example.com", "password": password + "!"})
            await authd.validate(second["access_token"])
            await authd.get("/auth/me", headers=bearer(second))
            await authd.post("/auth/logout", {"refresh_token": second["refresh_token"]})
        await authd.post("/auth/login", {"one_time_code": code})
        stored = b"".join(path.read_bytes() for path in _files(authd.database.parent))
    secrets = [password, code, SECRET]
    secrets += [each[name] for each in (tokens, second) for name in ("access_token", "refresh_token")]
    logged = f"{events}{caplog.text}"
    assert "authd.registered" in logged
    for secret in secrets:
        assert secret not in logged
        assert secret.encode() not in stored


def _files(directory: Path) -> list[Path]:
    return list(directory.glob("authd.sqlite3*"))
