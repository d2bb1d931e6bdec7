"""`doorward serve` exports its traces to a real collector's stand-in over OTLP/HTTP, and does not care if it hangs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import websockets
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.cli_support import Running, environment, serving

from doorward.testing import FakeAuthService, FaultProxy, eventually
from doorward.testing.faults import Fault, FaultKind

HANDSHAKES = 50
DEADLINE_SECONDS = 2.0
STOP_SECONDS = 12.0
"""SIGTERM to exit without an open socket, on a busy machine; the SDK by itself would wait for 30 s."""


class Collector:
    """What was exported to it."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: list[Span] = []

    async def receive(self, request: web.Request) -> web.Response:
        exported = ExportTraceServiceRequest.FromString(await request.read())
        for resource in exported.resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            self.services.add(attributes["service.name"])
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, FaultProxy]]:
    """A collector behind a fault proxy."""
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with FaultProxy("127.0.0.1", runner.addresses[0][1], seed=1) as proxy:
            yield collector, proxy
    finally:
        await runner.cleanup()


def settings(auth: FakeAuthService) -> dict[str, str]:
    return {
        "auth__url": auth.url,
        "auth__issuer": auth.issuer,
        "auth__audience": auth.audience,
        "auth__service_id": auth.service_id,
        "auth__service_secret": auth.service_secret,
        "serve__drain_delay_seconds": "0",
        "serve__drain_spread_seconds": "0",
    }


@asynccontextmanager
async def traced_server(tmp_path: Path, auth: FakeAuthService, **variables: str) -> AsyncIterator[Running]:
    env = environment(settings(auth)) | {"OTEL_BSP_SCHEDULE_DELAY": "100"} | variables
    async with serving("serve", cwd=tmp_path, env=env) as running:
        yield running


async def admitted(running: Running, token: str) -> float:
    """How long the handshake took, in seconds."""
    began = time.monotonic()
    url = running.url.replace("http", "ws", 1) + "/ws"
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=10):
        return time.monotonic() - began


async def test_spans_arrive_at_the_collector(tmp_path: Path) -> None:
    async with FakeAuthService() as auth, collecting() as (collector, proxy):
        async with traced_server(tmp_path, auth, OTEL_EXPORTER_OTLP_ENDPOINT=proxy.url) as running:
            await admitted(running, auth.issue("ada"))
            await eventually(lambda: collector.named("doorward.handshake"), within_seconds=15, what="a handshake span")
            await admitted(running, auth.issue("bob"))
            code, _, err = await running.stop()

        assert code == 0, err
        handshakes = collector.named("doorward.handshake")
        assert len(handshakes) == 2, "what was still waiting is exported at the end"
        assert collector.services == {"doorward"}
        children = {span.name for span in collector.spans if span.parent_span_id == handshakes[0].span_id}
        assert {"doorward.admit", "doorward.local", "doorward.remote", "doorward.validate"} <= children


async def test_a_collector_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    async with FakeAuthService() as auth, collecting() as (collector, proxy):
        proxy.fault = Fault(FaultKind.SILENCE)
        async with traced_server(
            tmp_path, auth, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{proxy.url}/v1/traces", OTEL_SERVICE_NAME="mine"
        ) as running:
            token = auth.issue("ada")
            took = [await admitted(running, token) for _ in range(HANDSHAKES)]
            await eventually(lambda: proxy.open_connections, what="the exporter waits for the collector")
            took += [await admitted(running, token) for _ in range(HANDSHAKES)]
            code, seconds, err = await running.stop()

        assert code == 0, err
        assert max(took) < DEADLINE_SECONDS
        assert seconds < STOP_SECONDS
        assert collector.spans == []


@pytest.mark.parametrize(
    "variables", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "DOORWARD_TELEMETRY__OTEL": "off"}]
)
def test_where_nobody_traces_opentelemetry_is_not_even_imported(variables: dict[str, str], tmp_path: Path) -> None:
    program = """
import sys
from doorward import Settings
from doorward.cli.serve import assemble
from doorward.cli.tracing import traces
settings = Settings(auth={"url": "http://127.0.0.1:1", "service_secret": "s"})
with traces(settings):
    assemble(settings)
print("opentelemetry.sdk" in sys.modules, "doorward.adapters.otel" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment({}) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "False False\n"), ran.stderr
