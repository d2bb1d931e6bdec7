"""What the chat tests share: a fake `Insight`, people, scripted agents, and a verifier of AG-UI's order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from ag_ui.core import BaseEvent, TextMessageContentEvent, TextMessageEndEvent, TextMessageStartEvent

from doorward.chat.agents.port import RunRequest
from doorward.core.verdict import Assurance, Principal
from doorward.runtime.insight import ConnectionView, DecisionRecord, ServiceView, Statistics

HEALTHY = ServiceView(
    issuer="auth",
    tenant=None,
    url="https://auth.internal",
    in_outage=False,
    breaker="closed",
    breaker_since_seconds=720.0,
    health="healthy",
    last_probe_ms=3.2,
    last_probe_passed=True,
    last_error=None,
    last_contact_age_seconds=2.0,
    keyset_age_seconds=60.0,
    feed="live",
    feed_age_seconds=4.0,
    degrade_mode="local_jwt",
    in_flight=0,
    bars=0,
)
BROKEN = replace(
    HEALTHY,
    in_outage=True,
    breaker="open",
    breaker_since_seconds=14.0,
    health="unhealthy",
    last_probe_passed=False,
    last_error="no answer in time",
    last_contact_age_seconds=20.0,
    bars=1,
)


def decision(decision_id: str, user_id: str | None, **changes: Any) -> DecisionRecord:
    """One decision that let somebody in degraded, after the patience was over."""
    record = DecisionRecord(
        id=decision_id,
        at=1_700_000_000.0,
        path="/ws",
        address="192.0.2.7",
        verdict="allow",
        source="patience",
        reason="degraded_local",
        code=None,
        assurance="local",
        degraded=True,
        provisional=True,
        user_id=user_id,
        fingerprint="f00d",
        detail="",
        total_ms=501.25,
        overrun_ms=0.0,
        steps={"local": 0.31, "remote": 500.6},
    )
    return msgspec.structs.replace(record, **changes)


def connection(connection_id: str, user_id: str) -> ConnectionView:
    return ConnectionView(connection_id, user_id, "/ws", "192.0.2.9", 1_700_000_000.0, "live", degraded=False)


@dataclass
class FakeInsight:
    """An `Insight` that says what the test put in."""

    state: ServiceView = HEALTHY
    others: Sequence[ServiceView] = ()
    counts: dict[str, int] = field(default_factory=lambda: {"allow": 40, "deny": 1, "unavailable": 1})
    records: list[DecisionRecord] = field(default_factory=list)
    views: list[ConnectionView] = field(default_factory=list)

    def services(self) -> Sequence[ServiceView]:
        return [self.state, *self.others]

    def statistics(self, window_seconds: float = 300.0, *, kind: str | None = None) -> Statistics:
        assert kind == "websocket", "the warden speaks of opening handshakes"
        total = sum(self.counts.values())
        reasons = {"live": 40, "token_expired": 1, "deadline": 1}
        return Statistics(window_seconds, total, self.counts, reasons if total else {}, 1.25, 3.5, 2001.0)

    def decisions(self, limit: int = 50) -> Sequence[DecisionRecord]:
        return self.records[:limit]

    def decision(self, decision_id: str) -> DecisionRecord | None:
        return next((record for record in self.records if record.id == decision_id), None)

    def connections(self, user_id: str | None = None) -> Sequence[ConnectionView]:
        return [view for view in self.views if user_id in {None, view.user_id}]


@dataclass
class FakeDrill:
    """A drill that ends as the test says."""

    outcome: Exception | None = None
    faults: Sequence[str] = ("silence", "refused", "dns-stall")
    played: list[str] = field(default_factory=list)

    async def play(self, fault: str) -> dict[str, Any]:
        self.played.append(fault)
        if self.outcome is not None:
            raise self.outcome
        scenario = {
            "name": f"{fault}/cold",
            "title": "accepted, then silent; cold cache",
            "held": True,
            "handshakes": 84,
            "slowest_ms": 13.5,
            "overrun_ms": 0.0,
            "recovery_seconds": 0.11,
            "broken": [],
        }
        return {"held": True, "seconds": 4.0, "scenarios": [scenario]}


@dataclass
class Person:
    """A live view, as the door would put it into the scope."""

    user_id: str = "alice"
    permissions: frozenset[str] = frozenset()
    decision_id: str = "d-alice"
    assurance: Assurance = Assurance.LIVE
    degraded: bool = False
    expires_at: float | None = None
    tenant: str | None = None

    @property
    def principal(self) -> Principal:
        return Principal(self.user_id, "https://auth.internal", permissions=self.permissions, tenant=self.tenant)


ADMIN = Person("root", frozenset({"admin"}), "d-root")

Script = Callable[[RunRequest], AsyncIterator[BaseEvent]]


@dataclass
class ScriptedAgent:
    """An agent that does what the script says."""

    script: Script

    def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        return self.script(request)


async def echo(request: RunRequest) -> AsyncIterator[BaseEvent]:
    """Says the question again, word by word."""
    name = f"{request.run_id}:answer"
    yield TextMessageStartEvent(message_id=name, role="assistant")
    for word in request.message.split():
        yield TextMessageContentEvent(message_id=name, delta=f"{word} ")
    yield TextMessageEndEvent(message_id=name)


async def forever(request: RunRequest) -> AsyncIterator[BaseEvent]:
    """Opens an answer and never goes on."""
    yield TextMessageStartEvent(message_id=f"{request.run_id}:answer", role="assistant")
    await asyncio.Event().wait()


_OPENS = {
    "TEXT_MESSAGE_START": ("TEXT_MESSAGE", "messageId"),
    "TOOL_CALL_START": ("TOOL_CALL", "toolCallId"),
    "REASONING_START": ("REASONING", "messageId"),
    "REASONING_MESSAGE_START": ("REASONING_MESSAGE", "messageId"),
    "STEP_STARTED": ("STEP", "stepName"),
}
_CLOSES = {
    "TEXT_MESSAGE_END": ("TEXT_MESSAGE", "messageId"),
    "TOOL_CALL_END": ("TOOL_CALL", "toolCallId"),
    "REASONING_END": ("REASONING", "messageId"),
    "REASONING_MESSAGE_END": ("REASONING_MESSAGE", "messageId"),
    "STEP_FINISHED": ("STEP", "stepName"),
}
_NEEDS = {
    "TEXT_MESSAGE_CONTENT": ("TEXT_MESSAGE", "messageId"),
    "TOOL_CALL_ARGS": ("TOOL_CALL", "toolCallId"),
    "REASONING_MESSAGE_CONTENT": ("REASONING_MESSAGE", "messageId"),
}


def verify(events: Sequence[dict[str, Any]]) -> None:
    """One whole run in the order that AG-UI's own verifier accepts.

    Nothing before `RUN_STARTED`, every part opened before it is used and closed before the end, nothing after the end.
    """
    assert events, "no events"
    assert events[0]["type"] == "RUN_STARTED", events[0]
    open_parts: set[tuple[str, str]] = set()
    for event in events[1:-1]:
        kind = event["type"]
        assert kind not in {"RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"}, f"{kind} in the middle of a run"
        if kind in _OPENS:
            part, name = _OPENS[kind]
            assert (part, event[name]) not in open_parts, f"{kind} twice"
            open_parts.add((part, event[name]))
        elif kind in _CLOSES:
            part, name = _CLOSES[kind]
            assert (part, event[name]) in open_parts, f"{kind} of what is not open"
            open_parts.remove((part, event[name]))
        elif kind in _NEEDS:
            part, name = _NEEDS[kind]
            assert (part, event[name]) in open_parts, f"{kind} of what is not open"
    assert events[-1]["type"] in {"RUN_FINISHED", "RUN_ERROR"}, events[-1]
    assert not open_parts, f"left open: {open_parts}"
