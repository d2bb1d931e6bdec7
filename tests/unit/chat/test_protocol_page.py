"""The reference page and the code say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from doorward.chat.commands import COMMANDS, ErrorCode
from doorward.chat.endings import ERRORS
from doorward.chat.eventlog import Retention
from doorward.chat.forward import ENDPOINTS
from doorward.chat.limits import ChatLimits
from doorward.chat.telemetry import ChatTelemetry

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "chat-protocol.md").read_text(encoding="utf-8")


def metrics() -> list[str]:
    registry = CollectorRegistry()
    ChatTelemetry(registry)
    return [f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()]


@pytest.mark.parametrize(
    "word",
    [
        *(f"| `{code.value}` |" for code in ErrorCode),
        *(f"| `{name}` |" for name in COMMANDS),
        *(f"`{code}`" for code, _, _ in ERRORS.values()),
        *(f"`{name}" for name in metrics()),
        *ENDPOINTS,
    ],
)
def test_every_word_of_the_protocol_is_described(word: str) -> None:
    assert word in PAGE


def test_the_limits_are_the_real_ones() -> None:
    limits = ChatLimits()
    for said in (
        f"| {limits.run_seconds:.0f} s (",
        f", {limits.events_per_run:,} events, {limits.bytes_per_run // 1024} KiB",
        f"| {Retention().events:,}, {Retention().seconds / 86_400:.0f} days (",
        f"{limits.history_messages} messages, {limits.history_bytes // 1024} KiB",
        f"{limits.threads_per_user:,} a person; {limits.threads:,} in use in a process",
        f"from {limits.merge_above_messages} messages on deltas are merged; {limits.queue_messages} messages or 1 MiB",
        f"takes nothing for {limits.stall_seconds:.0f} s",
        f"more than {limits.runs_per_user} runs",
        f"more than {limits.subscriptions_per_socket} threads on one socket",
    ):
        assert said in PAGE, said
