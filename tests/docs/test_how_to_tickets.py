"""The how-to "tickets": its request in a shell, its script in Node, its settings, on an app with an event stream."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from tests.docs.pages import block, read
from tests.docs.test_examples import connect, refused
from tests.docs.typed import replaced, typed
from tests.integration.test_js_client import find_node

from doorward import Doorward, Settings
from doorward.testing.guarded_app import GuardedApp

PAGE = "tickets"
PARAMETER = re.findall(r"`(\?\w+=)`", read(f"docs/how-to/{PAGE}.md"))[0]
"""What the page says that a ticket is called in the query string."""
IN_A_BROWSER = """
const ask = globalThis.fetch;
globalThis.fetch = (path, options) => ask(new URL(path, ORIGIN), options);
globalThis.EventSource = class {
    constructor(path) {
        fetch(path).then((answer) => answer.text()).then((text) => console.log(text));
    }
};
"""
"""What a page has and Node has not: an origin that paths are relative to, and an `EventSource`; this one prints what it gets."""


async def socket(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_json({"user": ws.scope["doorward"].principal.user_id, "query": dict(ws.query_params)})
    await ws.close()


async def events(request: Request) -> StreamingResponse:
    async def some() -> AsyncIterator[str]:
        yield f"data: hello {request.scope['doorward'].principal.user_id}\n\n"

    return StreamingResponse(some(), media_type="text/event-stream")


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedApp]:
    routes = [WebSocketRoute("/ws", socket), WebSocketRoute("/legacy", socket), Route("/events", events)]
    settings = tomllib.loads(block(PAGE, "toml"))
    with GuardedApp(Starlette(routes=routes), {"protect_http": ["/events"], **settings}) as running:
        yield running


async def heard(url: str) -> dict[str, Any]:
    """What the app says to a client that brings nothing but this address."""
    async with connect(url, None) as client:
        said: dict[str, Any] = json.loads(await client.recv())
        return said


async def test_the_request_gives_a_ticket_that_opens_its_path_once(guarded: GuardedApp, tmp_path: Path) -> None:
    script = replaced(block(PAGE, "sh"), {"https://app.example.com": guarded.http_url})
    path = re.search(r"\?path=(/\w+)", script)
    assert path is not None
    answer = json.loads(await typed(script, cwd=tmp_path, TOKEN=guarded.token("ada")))
    assert answer.keys() == (shown := json.loads(block(PAGE, "json"))).keys()
    assert answer["expires_in_ms"] == shown["expires_in_ms"]

    with_ticket = f"{path[1]}{PARAMETER}{answer['ticket']}"
    assert (await refused(guarded.url + with_ticket.replace(path[1], "/legacy"), None))["code"] == "AUTH_REQUIRED"
    assert await heard(guarded.url + with_ticket) == {"user": "ada", "query": {}}
    assert (await refused(guarded.url + with_ticket, None))["code"] == "TOKEN_REJECTED"


async def test_the_script_opens_an_event_stream(guarded: GuardedApp, tmp_path: Path) -> None:
    if (node := find_node()) is None:
        pytest.skip("NOT RUN: Node is not installed")
    given = f"const ORIGIN = {json.dumps(guarded.http_url)}, token = {json.dumps(guarded.token('ada'))};"
    (tmp_path / "page.mjs").write_text(given + IN_A_BROWSER + block(PAGE, "js"))
    assert (await typed(f"{node} page.mjs", cwd=tmp_path)).strip() == "data: hello ada"


async def test_a_raw_token_counts_where_the_settings_say_so(guarded: GuardedApp) -> None:
    parameter = re.search(r"# (\?\w+=)\.\.\.", block(PAGE, "toml"))
    assert parameter is not None
    with_token = f"{parameter[1]}{guarded.token('ada')}"
    assert await heard(f"{guarded.url}/legacy{with_token}") == {"user": "ada", "query": {}}
    assert (await refused(f"{guarded.url}/ws{with_token}", None))["code"] == "AUTH_REQUIRED"


def test_the_start_warns_of_a_raw_token() -> None:
    with structlog.testing.capture_logs() as lines:
        auth = {"url": "https://auth.example.com", "service_secret": "s"}
        Doorward(Starlette(), Settings(auth=auth, **tomllib.loads(block(PAGE, "toml"))))
    assert [line["path"] for line in lines if line["log_level"] == "warning"] == ["/legacy"]
