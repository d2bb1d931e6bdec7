"""Traces of a real door: what spans there are, what they are part of, what they say and what they never say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from tests.door_server import running_door, whoami

from doorward.adapters.otel import ClientTrace, OtelTracing
from doorward.asgi.types import Message, Receive, Scope, Send
from doorward.testing import Endpoint, FakeAuthService, Fault, FaultKind, eventually, opaque_token

SCOPE: Scope = {"type": "websocket", "path": "/ws", "headers": [], "client": ("127.0.0.1", 1), "scheme": "ws"}
CLIENT_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CLIENT = {"traceparent": f"00-{CLIENT_TRACE_ID}-b7ad6b7169203331-01"}
UNSAMPLED = {"traceparent": f"00-{CLIENT_TRACE_ID}-b7ad6b7169203331-00"}


class Recorded:
    """A tracing whose spans stay in memory."""

    def __init__(self, *, client_trace: ClientTrace = "link", sampled: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider() if sampled else TracerProvider(sampler=ParentBased(ALWAYS_OFF))
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OtelTracing(self.provider.get_tracer("test"), client_trace=client_trace, wall=time.time)

    def all(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    async def some(self, name: str, count: int = 1) -> Sequence[ReadableSpan]:
        await eventually(lambda: len(self.all(name)) >= count, what=f"{count} spans {name}")
        return self.all(name)

    async def one(self, name: str) -> ReadableSpan:
        (span,) = await self.some(name)
        return span

    def children(self, parent: ReadableSpan) -> Sequence[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.parent == parent.context]

    def calls(self) -> Sequence[ReadableSpan]:
        """Those that a decision has made."""
        return [span for span in self.all("doorward.validate") if span.parent is not None]

    def text(self) -> str:
        return "".join(span.to_json() for span in self._exporter.get_finished_spans())


def ids(traceparent: str) -> tuple[int, int]:
    """Trace and span of a `traceparent`."""
    _, trace_id, span_id, _ = traceparent.split("-")
    return int(trace_id, 16), int(span_id, 16)


def asked_with(auth: FakeAuthService, token: str) -> Sequence[str]:
    """The `traceparent` of each question about the token; empty where there was none."""
    asked = [request for request in auth.requests if request.endpoint is Endpoint.VALIDATE and request.token() == token]
    return [request.headers.get("traceparent", "") for request in asked]


async def test_a_handshake_is_a_span_with_its_steps_and_the_call_in_it(tmp_path: Path) -> None:
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await running.ask(token)).status == 101

        handshake = await spans.one("doorward.handshake")
        record = running.records[-1]
        steps = [span for span in spans.children(handshake) if span.kind is SpanKind.INTERNAL]
        (call,) = [span for span in spans.children(handshake) if span.kind is SpanKind.CLIENT]
        assert handshake.parent is None
        assert handshake.kind is SpanKind.SERVER
        assert handshake.status.status_code is StatusCode.UNSET
        assert handshake.attributes == {
            "doorward.decision_id": record.id,
            "doorward.verdict": "allow",
            "doorward.source": "remote",
            "doorward.reason": "live",
            "doorward.assurance": "live",
            "doorward.degraded": False,
            "doorward.provisional": False,
        }
        assert [span.name for span in steps] == [f"doorward.{name}" for name in record.steps]
        assert [span.start_time for span in steps][1:] == [span.end_time for span in steps][:-1]
        assert steps[0].start_time == handshake.start_time
        assert call.name == "doorward.validate"
        assert call.attributes == {"doorward.lane": "proven", "doorward.result": "valid"}
        assert call.context is not None
        assert [ids(header) for header in asked_with(running.auth, token)] == [
            (call.context.trace_id, call.context.span_id)
        ]


async def test_no_span_says_who_it_was_or_with_what(tmp_path: Path) -> None:
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()
        token, forged = running.auth.issue("ada-lovelace"), running.auth.mint.forged("ada-lovelace")
        await running.ask(token, path="/ws?secret=42", headers={"X-Note": "from-the-client"})
        await running.ask(forged)
        await spans.some("doorward.handshake", 2)

        for private in (
            "ada-lovelace",
            token,
            forged,
            "secret",
            "from-the-client",
            "127.0.0.1",
            running.auth.service_secret,
        ):
            assert private not in spans.text()


async def test_a_refusal_is_no_error_and_an_outage_is_one(tmp_path: Path) -> None:
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing, patience_seconds=0.2, deadline_seconds=0.5) as running:
        await running.settled()
        running.auth.reject(rejected := running.auth.issue("eve"))
        await running.ask(rejected)
        running.proxy.fault = Fault(FaultKind.SILENCE)
        await running.ask(opaque_token())

        denied, unavailable = await spans.some("doorward.handshake", 2)
        assert denied.attributes is not None
        assert unavailable.attributes is not None
        assert (denied.attributes["doorward.code"], denied.status.status_code) == ("TOKEN_REJECTED", StatusCode.UNSET)
        assert (unavailable.attributes["doorward.verdict"], unavailable.status.status_code) == (
            "unavailable",
            StatusCode.ERROR,
        )
        assert unavailable.status.description == unavailable.attributes["doorward.reason"] == "deadline"
        await eventually(lambda: len(spans.calls()) == 2, what="the call is given up")
        asked, unanswered = spans.calls()
        assert (asked.attributes, asked.status.status_code) == (
            {"doorward.lane": "proven", "doorward.result": "invalid"},
            StatusCode.UNSET,
        )
        assert (unanswered.attributes, unanswered.status.description) == (
            {"doorward.lane": "unproven", "doorward.result": "deadline"},
            "deadline",
        )


async def test_those_who_share_a_question_are_linked_to_its_call(tmp_path: Path) -> None:
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()
        token = running.auth.issue("ada")
        running.proxy.fault = Fault.latency(0.3)
        await asyncio.gather(*(running.ask(token) for _ in range(5)))

        handshakes = await spans.some("doorward.handshake", 5)
        (call,) = spans.calls()
        asker = [span for span in handshakes if span.context == call.parent]
        sharing = [span for span in handshakes if span.links]
        assert (len(asker), len(sharing)) == (1, 4)
        assert all(span.links[0].context == call.context for span in sharing)
        assert len(asked_with(running.auth, token)) == 1


@pytest.mark.parametrize("client_trace", ["link", "parent", "ignore"])
async def test_what_a_clients_own_trace_is_to_ours(client_trace: ClientTrace, tmp_path: Path) -> None:
    spans = Recorded(client_trace=client_trace)
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.ask(running.auth.issue("ada"), headers=CLIENT)

        handshake = await spans.one("doorward.handshake")
        linked = [format(link.context.trace_id, "032x") for link in handshake.links]
        parent = format(handshake.parent.trace_id, "032x") if handshake.parent else None
        assert (linked, parent) == {
            "link": ([CLIENT_TRACE_ID], None),
            "parent": ([], CLIENT_TRACE_ID),
            "ignore": ([], None),
        }[client_trace]


async def test_a_stranger_does_not_choose_what_is_sampled(tmp_path: Path) -> None:
    spans = Recorded(sampled=False)
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await running.ask(token, headers=CLIENT)).status == 101

        (sent,) = asked_with(running.auth, token)
        assert int(sent[-2:], 16) & 1 == 0  # the bit that says sampled
        assert spans.text() == ""


async def test_a_gateway_may_leave_a_trace_out(tmp_path: Path) -> None:
    spans = Recorded(client_trace="parent")
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()
        token = running.auth.issue("ada")
        assert (await running.ask(token, headers=UNSAMPLED)).status == 101

        (sent,) = asked_with(running.auth, token)
        assert (sent[3:35], sent[-2:]) == (CLIENT_TRACE_ID, "00")
        assert spans.all("doorward.handshake") == []


@pytest.mark.parametrize("header", ["", "00-0-0-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "\xff" * 8_000, "00"])
async def test_a_header_that_is_no_trace_context_is_none(header: str, tmp_path: Path) -> None:
    spans = Recorded(client_trace="parent")
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        assert (await running.ask(running.auth.issue("ada"), headers={"traceparent": header})).status == 101

        handshake = await spans.one("doorward.handshake")
        assert (handshake.parent, handshake.links) == (None, ())


async def test_a_span_around_the_door_is_the_parent(tmp_path: Path) -> None:
    """As an instrumentation of the server or of the framework makes one."""
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        with spans.provider.get_tracer("around").start_as_current_span("around") as around:
            await running.app(SCOPE, _connects, _ignores)

        handshake = await spans.one("doorward.handshake")
        assert handshake.parent == around.get_span_context()


async def test_a_handshake_that_is_cut_short_says_so(tmp_path: Path) -> None:
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()
        running.proxy.fault = Fault(FaultKind.SILENCE)
        scope = {**SCOPE, "headers": [(b"authorization", f"Bearer {running.auth.issue('ada')}".encode())]}
        handshake = asyncio.create_task(running.app(scope, _connects, _ignores))
        await eventually(lambda: running.issuer.gate.bulkhead.total, what="the question is asked")
        handshake.cancel()
        await asyncio.wait({handshake}, timeout=5)

        span = await spans.one("doorward.handshake")
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "cut short")


async def test_the_app_runs_outside_of_the_span(tmp_path: Path) -> None:
    """A connection lives for hours; its spans are not part of a handshake of a millisecond."""
    spans, seen = Recorded(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            seen.append(trace.get_current_span().get_span_context().is_valid)
        await whoami(scope, receive, send)

    async with running_door(tmp_path, tracing=spans.tracing, app=app) as running:
        assert (await running.ask(running.auth.issue("ada"))).status == 101
    assert seen == [False]


async def test_a_question_that_nobody_waits_for_is_a_trace_of_its_own(tmp_path: Path) -> None:
    spans = Recorded()
    async with running_door(tmp_path, tracing=spans.tracing) as running:
        await running.settled()

        call = await spans.one("doorward.validate")
        assert (call.parent, call.attributes) == (None, {"doorward.lane": "unproven", "doorward.result": "invalid"})


async def _connects() -> Message:
    return {"type": "websocket.connect"}


async def _ignores(message: Message) -> None:
    pass
