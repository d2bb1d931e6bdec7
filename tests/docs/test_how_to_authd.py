"""The how-tos around `doorward authd`: run it with a door beside it, get tokens from it for a script, rotate its keys."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc import jws
from tests.docs.pages import block
from tests.docs.typed import replaced, typed, typed_server

from doorward.drill.peers import free_port

ADA = "ada@example.com"
AUTH = "https://auth.example.com"
BOUND_SECONDS = 30.0
ONE_FAILURE = {"authd.login_address_burst": "1", "authd.login_address_per_second": "0.001"}
"""The second failed sign-in of an address is refused."""


@asynccontextmanager
async def authd(folder: Path, **settings: str) -> AsyncIterator[str]:
    """The auth service, made and started as its page says, in this folder; its address."""
    port = free_port()
    ours = {"/var/lib/doorward-auth": str(data_dir(folder)), "8001": str(port)}
    script = replaced(block("run-authd", "sh", "authd init"), ours)
    async with typed_server(script, port, cwd=folder, settings=settings):
        yield f"http://127.0.0.1:{port}"


def data_dir(folder: Path) -> Path:
    return folder / "data"


def password(folder: Path) -> str:
    """What the page says that `init` prints once."""
    found = re.search(r"The password.*\n# +(\S+)\n", (folder / "credential.env").read_text())
    assert found is not None
    return found[1]


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=BOUND_SECONDS)) as http:
        yield http


async def signed_in(http: aiohttp.ClientSession, password: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with http.post("/auth/login", json={"email": ADA, "password": password}, headers=headers) as answer:
        return answer.status, await answer.json()


def kid(token: str) -> str:
    return str(jws.extract_compact(token.encode()).headers()["kid"])


@pytest.mark.timeout(240)
async def test_a_door_beside_it_lets_in_a_script_with_its_tokens(tmp_path: Path) -> None:
    (beside := tmp_path / "door").mkdir()
    async with authd(tmp_path) as url:
        secrets = tmp_path / "credential.env"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        (beside / "credential.env").write_text(secrets.read_text())
        (tmp_path / "password.txt").write_text(f"{password(tmp_path)}\n")
        page = "tokens-for-scripts"
        with_password = replaced(block(page, "sh", "--password-stdin"), {AUTH: url})
        on_the_host = replaced(block(page, "sh", "--local"), {"http://127.0.0.1:8001": url})
        tokens = await asyncio.gather(
            *(
                typed(f"{script}\nprintf %s $TOKEN", cwd=tmp_path, settings=settings)
                for script, settings in [(with_password, {}), (on_the_host, host_of_authd(tmp_path))]
            )
        )

        port = free_port()
        door = replaced(block("run-authd", "sh", "credential.env\n"), {f"AUTH__URL={AUTH}": f"AUTH__URL={url}"})
        async with typed_server(door, port, cwd=beside, settings={"serve.port": str(port)}) as server:
            assert "All is well" in server.said
            script = beside / "ping.py"
            script.write_text(replaced(block(page, "python"), {"127.0.0.1:8000": f"127.0.0.1:{port}"}))
            for token in tokens:
                assert json.loads(await typed(f"python {script} {token}", cwd=beside)) == {"reply_to": "c1", "ok": True}


def host_of_authd(folder: Path) -> dict[str, str]:
    return {"data_dir": str(data_dir(folder)), "authd.issuer": AUTH}


async def test_it_believes_the_chat_servers_that_its_settings_name(tmp_path: Path) -> None:
    (tmp_path / "doorward.toml").write_text(replaced(block("run-authd", "toml"), {"10.0.0.0/24": "127.0.0.0/24"}))
    async with authd(tmp_path, **ONE_FAILURE) as url, asking(url) as http:
        tried = [
            (await signed_in(http, "wrong", **{"X-Forwarded-For": address}))[0]
            for address in ("203.0.113.1", "203.0.113.1", "203.0.113.2")
        ]
    assert tried == [401, 429, 401]


async def test_a_rotation_signs_nobody_out(tmp_path: Path) -> None:
    async with authd(tmp_path) as url, asking(url) as http:

        async def published() -> set[str]:
            async with http.get("/.well-known/jwks.json") as answer:
                return {key["kid"] for key in (await answer.json())["keys"]}

        async def token() -> str:
            return str((await signed_in(http, password(tmp_path)))[1]["access_token"])

        async def rotated(script: str, count: int) -> str:
            said = await typed(script, cwd=tmp_path, settings=host_of_authd(tmp_path))
            async with asyncio.timeout(BOUND_SECONDS):
                while True:
                    if len(await published()) >= count:
                        return said
                    await asyncio.sleep(0.1)

        first = await token()
        assert "signs in 11 min" in await rotated(block("rotate-keys", "sh", "rotate-keys\n"), 2)
        assert kid(await token()) == kid(first)

        assert "signs from now on" in await rotated(block("rotate-keys", "sh", "--now"), 3)
        last = await token()
        assert kid(last) != kid(first)
        assert await published() >= {kid(first), kid(last)}
        for each in (first, last):
            async with http.get("/auth/me", headers={"Authorization": f"Bearer {each}"}) as answer:
                assert (answer.status, (await answer.json())["email"]) == (200, ADA)
