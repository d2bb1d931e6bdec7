"""The how-to "test degraded mode": its settings and its command, and each step of its list, over an outage."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import websockets
from tests.docs.pages import block, read
from tests.docs.test_examples import connect, refused
from tests.docs.typed import typed, typed_server
from tests.door_client import frames
from tests.servers import settings_for

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, eventually, opaque_token

PAGE = "test-degraded-mode"
TEXT = read(f"docs/how-to/{PAGE}.md")
BOUND_SECONDS = 30.0


def said(pattern: str) -> str:
    found = re.search(pattern, TEXT, re.DOTALL)
    assert found is not None, pattern
    return found[1]


async def open_the_breaker(url: str) -> None:
    """Break nothing here: open connections, as the page says, until its metric says that the breaker is open."""
    shut = re.compile(rf'^{said("the breaker opens .`(.*?)`")}\{{.*state="open".*\}} 1', re.MULTILINE)
    metrics = url.replace("ws:", "http:").replace("/ws", "/metrics")
    async with asyncio.timeout(BOUND_SECONDS), aiohttp.ClientSession() as http:
        while True:
            await refused(url, opaque_token())
            async with http.get(metrics) as answer:
                if shut.search(await answer.text()):
                    return


async def test_a_test_user_gets_in_while_the_auth_service_is_away_and_no_longer(tmp_path: Path) -> None:
    (tmp_path / "doorward.toml").write_text(block(PAGE, "toml"))
    command = f"{block(PAGE, 'sh')}\nprintf %s $TOKEN"
    async with FakeAuthService() as auth:
        port, settings = free_port(), settings_for(auth, tmp_path / "data")
        async with typed_server(f"doorward serve --port {port}", port, cwd=tmp_path, settings=settings) as server:
            url = f"ws://127.0.0.1:{port}/ws"
            async with connect(url, auth.issue("ada")):
                early = await typed(command, cwd=tmp_path, settings=settings)
            assert (await refused(url, early))["code"] == said(r"the breaker is not closed \| `(\w+)`")

            await auth.aclose()
            await open_the_breaker(url)
            first, second = await asyncio.gather(*(typed(command, cwd=tmp_path, settings=settings) for _ in range(2)))
            async with connect(url, first, subprotocols=[websockets.Subprotocol("doorward.v1")]) as client:
                admission = json.loads(await asyncio.wait_for(client.recv(), BOUND_SECONDS))
                assert admission["user_id"] == said(r"the user\s+`(e2e:[\w-]+)`")
                assert (admission["assurance"], admission["degraded"]) == (said(r"`assurance` `(\w+)`"), True)
                assert (await refused(url, first))["code"] == "TOKEN_REJECTED"
                async with connect(url, second):
                    pass
                await auth.start()
                async with asyncio.timeout(BOUND_SECONDS):
                    last = [frame async for frame in frames(client)][-1]
            assert last["code"] == said(r"the connection is closed with `(\w+)`")
            await eventually(lambda: "e2e admit" in server.said, what="the line, which a thread writes")
