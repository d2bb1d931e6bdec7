"""The how-to "trace handshakes": `doorward serve` as it says, and its lines in an app of one's own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import block, read, rows, words
from tests.docs.test_examples import connect
from tests.docs.typed import replaced, typed_server
from tests.integration.test_tracing_export import Collector, collecting
from tests.servers import settings_for

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, eventually

PAGE = "trace"
TABLES = {words(cells[0])[0]: cells for cells in rows(f"docs/how-to/{PAGE}.md")}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
APP = """
from doorward import Doorward, Settings

async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await receive()

"""


async def spans_arrive(collector: Collector) -> None:
    """Of one handshake that asked: what the page's tables say."""
    handshake, call = "doorward.handshake", "doorward.validate"
    assert {handshake, call} < TABLES.keys()
    await eventually(
        lambda: collector.named(handshake) and collector.named(call), within_seconds=30, what="the spans are there"
    )
    found = {pair.key: pair.value.string_value for pair in collector.named(handshake)[0].attributes}
    assert found["doorward.verdict"] == "allow"
    assert {name for name in found if name.startswith("doorward.")} <= {
        word for cells in TABLES.values() for word in words(cells[0])
    }
    assert found.keys() >= {"doorward.decision_id", "doorward.assurance"}
    result = {pair.key: pair.value.string_value for pair in collector.named(call)[0].attributes}["doorward.result"]
    assert result in words(TABLES["doorward.result"][2])


async def test_serve_exports_where_the_variable_says(tmp_path: Path) -> None:
    typed_line = next(line for line in block(PAGE, "console").splitlines() if line.endswith("doorward serve"))
    async with FakeAuthService() as auth, collecting() as (collector, proxy):
        script = replaced(typed_line.removeprefix("$ "), {"http://127.0.0.1:4318": proxy.url})
        port = free_port()
        settings = settings_for(auth, tmp_path / "data") | {"serve.port": str(port)}
        async with typed_server(script, port, cwd=tmp_path, settings=settings, **QUICK):
            async with connect(f"ws://127.0.0.1:{port}/ws", auth.issue("ada")):
                await spans_arrive(collector)
            name = re.search(r"`OTEL_SERVICE_NAME` \(default `(\w+)`\)", read(f"docs/how-to/{PAGE}.md"))
            assert name is not None
            assert collector.services == {name[1]}


async def test_an_app_of_ones_own_exports_too(tmp_path: Path) -> None:
    async with FakeAuthService() as auth, collecting() as (collector, proxy):
        code = APP + replaced(block(PAGE, "python"), {"https://auth.internal": auth.url})
        (tmp_path / "traced.py").write_text(code)
        port = free_port()
        script = f"uvicorn traced:app --port {port}"
        settings = settings_for(auth, tmp_path / "data")
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": proxy.url, **QUICK}
        async with (
            typed_server(script, port, cwd=tmp_path, settings=settings, **where),
            connect(f"ws://127.0.0.1:{port}/ws", auth.issue("ada")),
        ):
            await spans_arrive(collector)
