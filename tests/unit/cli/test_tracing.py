from __future__ import annotations

import sys
import time

import pytest
from opentelemetry import trace
from structlog.testing import capture_logs

from doorward.adapters.otel import configured_tracing
from doorward.cli.tracing import traces
from doorward.config import Settings, otlp_protocol

COLLECTOR = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("variables", "protocol"),
    [
        ({}, None),
        ({"ENDPOINT": COLLECTOR}, "http/protobuf"),
        ({"TRACES_ENDPOINT": COLLECTOR}, "http/protobuf"),
        ({"ENDPOINT": " "}, None),
        ({"ENDPOINT": COLLECTOR, "PROTOCOL": "grpc"}, "grpc"),
        ({"ENDPOINT": COLLECTOR, "PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"}, "http/protobuf"),
    ],
)
def test_where_traces_go_is_said_by_opentelemetrys_own_variables(
    variables: dict[str, str], protocol: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)

    assert otlp_protocol() == protocol


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("OTEL_SDK_DISABLED", "True", False),
        ("OTEL_SDK_DISABLED", "false", True),
        ("OTEL_TRACES_EXPORTER", "none", False),
        ("OTEL_TRACES_EXPORTER", "console, otlp", True),
    ],
)
def test_traces_can_be_switched_off_by_them(
    name: str, value: str, *, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
    monkeypatch.setenv(name, value)

    assert (otlp_protocol() is not None) is wanted


def test_a_protocol_that_is_not_spoken_is_said_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    with capture_logs() as logs, traces(Settings()):
        pass

    (line,) = logs
    assert line["mend"] == "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


def test_an_sdk_that_is_not_installed_is_said_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with capture_logs() as logs, traces(Settings()):
        pass

    (line,) = logs
    assert line["mend"] == "pip install 'doorward[otel]'"


def test_without_a_provider_there_is_no_tracing() -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert configured_tracing(client_trace="link", wall=time.time) is None
