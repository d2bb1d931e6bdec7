"""Traces of our own processes: OpenTelemetry's SDK, set up where its own variables say to whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from doorward.config import Settings, otlp_protocol
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

LAST_EXPORT_SECONDS = 2.0

log = get_logger("doorward")


@contextmanager
def traces(settings: Settings) -> Iterator[None]:
    """While entered, spans are exported. Without the SDK, or without a collector to export to, it does nothing.

    The end is bounded: a collector that hangs gets `LAST_EXPORT_SECONDS`, then the rest is lost.
    """
    provider = _provider() if settings.telemetry.otel == "auto" else None
    try:
        yield
    finally:
        if provider is not None:
            _shut_down(provider)


def _provider() -> TracerProvider | None:
    protocol = otlp_protocol()
    if protocol is None:
        return None
    if protocol != "http/protobuf":
        log.warning("no traces: only OTLP over HTTP is spoken", mend="set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no traces: OpenTelemetry is not installed", mend="pip install 'doorward[otel]'")
        return None
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "doorward"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def _shut_down(provider: TracerProvider) -> None:
    """The SDK itself would wait for half a minute."""
    ending = threading.Thread(target=provider.shutdown, name="doorward-traces", daemon=True)
    ending.start()
    ending.join(LAST_EXPORT_SECONDS)
