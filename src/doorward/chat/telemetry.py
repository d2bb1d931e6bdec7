"""What the chat backend counts. Labels are closed sets; never a user, a thread or a token."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from doorward.chat.mailbox import Ending
from doorward.core.verdict import Code

# Shown as 0 before the first, which would not be seen to have come otherwise.
CLOSING_CODES = (Code.MESSAGE_TOO_BIG, Code.OVERLOADED, Code.SERVICE_UNAVAILABLE, Code.INTERNAL)
FORWARD_RESULTS = ("answered", "refused", "deadline", "upstream", "config", "overloaded")


class ChatTelemetry:
    """Counters in `registry`; without one they are kept and shown nowhere."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self._runs = Counter("doorward_chat_runs_total", "Runs that ended, by how", ["ending"], registry=registry)
        self._active = Gauge("doorward_chat_runs_active", "Runs that go on now", registry=registry)
        self._sockets = Gauge("doorward_chat_sockets", "Open chat sockets", registry=registry)
        self._closed = Counter(
            "doorward_chat_sockets_closed_total",
            "Chat sockets closed by the server, by code word",
            ["code"],
            registry=registry,
        )
        self._forwarded = Counter(
            "doorward_chat_auth_forwards_total",
            "Requests passed on to the auth service, by result",
            ["result"],
            registry=registry,
        )
        for ending in Ending:
            self._runs.labels(ending.value)
        for code in CLOSING_CODES:
            self._closed.labels(code.value)
        for result in FORWARD_RESULTS:
            self._forwarded.labels(result)

    def run_started(self) -> None:
        self._active.inc()

    def run_ended(self, ending: Ending) -> None:
        self._active.dec()
        self._runs.labels(ending.value).inc()

    def socket_opened(self) -> None:
        self._sockets.inc()

    def socket_gone(self) -> None:
        self._sockets.dec()

    def socket_closed(self, code: str) -> None:
        self._closed.labels(code).inc()

    def forwarded(self, result: str) -> None:
        self._forwarded.labels(result).inc()
