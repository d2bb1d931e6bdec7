"""Traces by OpenTelemetry: the API only. Which spans are kept, and where they go, is the business of the SDK that was set up.

A span is made when something has ended, from the timeline that is kept anyway, but for those whose id must be known before: the
decision's own, and that of the call to the auth service. Exporting is the SDK's, on its own thread.

Source: W3C Trace Context (`traceparent`); OpenTelemetry specification, "Tracing API".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from doorward.core.limits import Lane
from doorward.runtime.insight import DecisionRecord

if TYPE_CHECKING:
    from doorward.runtime.tracing import DecisionSpan

ClientTrace = Literal["link", "parent", "ignore"]

_SPAN_NAMES = {"websocket": "doorward.handshake", "http": "doorward.request"}
_PROPAGATOR = TraceContextTextMapPropagator()


def configured_tracing(*, client_trace: ClientTrace, wall: Callable[[], float]) -> OtelTracing | None:
    """Over the process's own tracer provider; `None` if none was set up."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return OtelTracing(provider.get_tracer("doorward"), client_trace=client_trace, wall=wall)


class OtelTracing:
    """The `Tracing` port over a tracer.

    Args:
        client_trace: what becomes of a client's own `traceparent`. `link`: our trace points to it. `parent`: it is continued, with
            its sampling flag. An instrumentation around the door has read the header already; then its span is the parent.
        wall: wall-clock seconds.
    """

    def __init__(self, tracer: trace.Tracer, *, client_trace: ClientTrace, wall: Callable[[], float]) -> None:
        self._tracer = tracer
        self._client_trace = client_trace
        self._wall = wall
        self._calls: WeakKeyDictionary[asyncio.Task[Any], SpanContext] = WeakKeyDictionary()

    def decision(self, kind: str, headers: Iterable[tuple[bytes, bytes]]) -> OtelDecision:
        parent, links = self._surroundings(headers)
        began = _nanoseconds(self._wall())
        span = self._tracer.start_span(
            _SPAN_NAMES[kind], context=parent, kind=SpanKind.SERVER, links=links, start_time=began
        )
        return OtelDecision(self._tracer, span, began, self._calls)

    @contextmanager
    def attempt(self, asker: DecisionSpan | None, lane: Lane) -> Iterator[OtelAttempt]:
        context = asker.context if isinstance(asker, OtelDecision) else Context()
        with self._tracer.start_as_current_span(
            "doorward.validate",
            context=context,
            kind=SpanKind.CLIENT,
            attributes={"doorward.lane": lane.value},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            flight = asyncio.current_task()
            if flight is not None:
                self._calls[flight] = span.get_span_context()
            yield OtelAttempt(span)

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    def _surroundings(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Context, list[Link]]:
        """What the decision is a part of, and what it points to."""
        around = trace.get_current_span()
        if around.get_span_context().is_valid:
            return trace.set_span_in_context(around), []
        if self._client_trace == "ignore":
            return Context(), []
        told = _told(headers, with_state=self._client_trace == "parent")
        if self._client_trace == "parent":
            return told, []
        client = trace.get_current_span(told).get_span_context()
        return Context(), [Link(client)] if client.is_valid else []


class OtelDecision:
    """A `DecisionSpan`."""

    def __init__(
        self,
        tracer: trace.Tracer,
        span: trace.Span,
        began: int,
        calls: WeakKeyDictionary[asyncio.Task[Any], SpanContext],
    ) -> None:
        self.context = trace.set_span_in_context(span, Context())
        self._tracer = tracer
        self._span = span
        self._began = began
        self._calls = calls
        self._flight: asyncio.Task[Any] | None = None
        self._is_decided = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_decided:
            self._span.set_attribute("doorward.verdict", "none")
            self._span.set_status(Status(StatusCode.ERROR, "cut short"))
            self._span.end()

    def waits_for(self, flight: asyncio.Task[Any]) -> None:
        self._flight = flight

    def decided(self, record: DecisionRecord) -> None:
        self._is_decided = True
        if self._span.is_recording():
            self._steps(record.steps)
            self._link()
            self._span.set_attributes(_attributes(record))
            if record.verdict == "unavailable":
                self._span.set_status(Status(StatusCode.ERROR, record.reason))
        self._span.end(self._began + _from_ms(record.total_ms))

    def _steps(self, steps: Mapping[str, float]) -> None:
        at = self._began
        for name, ms in steps.items():
            span = self._tracer.start_span(f"doorward.{name}", context=self.context, start_time=at)
            at += _from_ms(ms)
            span.end(at)

    def _link(self) -> None:
        call = self._calls.get(self._flight) if self._flight is not None else None
        if call is not None:
            self._span.add_link(call)


class OtelAttempt:
    """An `AttemptSpan`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def ended(self, result: str, *, answered: bool) -> None:
        self._span.set_attribute("doorward.result", result)
        if not answered:
            self._span.set_status(Status(StatusCode.ERROR, result))


def _attributes(record: DecisionRecord) -> dict[str, str | bool]:
    """Closed sets and the decision id: who it was, and from where, is in the log line with this id, and only there."""
    found = {
        "doorward.decision_id": record.id,
        "doorward.verdict": record.verdict,
        "doorward.source": record.source,
        "doorward.reason": record.reason,
        "doorward.code": record.code,
        "doorward.assurance": record.assurance,
        "doorward.degraded": record.degraded,
        "doorward.provisional": record.provisional,
    }
    return {name: value for name, value in found.items() if value is not None}


def _told(headers: Iterable[tuple[bytes, bytes]], *, with_state: bool) -> Context:
    """The client's trace context, if it sends a single one."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return Context()
    carrier = {"traceparent": parents[0].decode("latin-1")}
    if with_state:
        states = [value.decode("latin-1") for name, value in headers if name == b"tracestate"]
        carrier["tracestate"] = ",".join(states)
    return _PROPAGATOR.extract(carrier, Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _from_ms(milliseconds: float) -> int:
    return int(milliseconds * 1e6)
