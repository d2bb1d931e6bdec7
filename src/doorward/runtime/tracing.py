"""What tracing asks to be told, as ports: a span for each decision, and one for each question to the auth service.

`adapters/otel.py` implements them. Where nobody traces there is no implementation at all, and nothing is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from doorward.core.limits import Lane
from doorward.runtime.insight import DecisionRecord


class DecisionSpan(Protocol):
    """One decision. Entered when the scope comes in; leaving it without a decision means that it was cut short."""

    def waits_for(self, flight: asyncio.Task[Any]) -> None:
        """The decision shares a question that another one has asked."""
        ...

    def decided(self, record: DecisionRecord) -> None:
        """The verdict, and the timeline of how it came about."""
        ...


class AttemptSpan(Protocol):
    """One call to the auth service. What runs in it finds the span as the current one of its context."""

    def ended(self, result: str, *, answered: bool) -> None:
        """Args: result: `valid`, `invalid`, or why it could not be asked; a closed set."""
        ...


class Tracing(Protocol):
    """Nothing here blocks or raises."""

    def decision(self, kind: str, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[DecisionSpan]:
        """Args: kind: websocket | http; headers: of the client, who may have a trace of its own."""
        ...

    def attempt(self, asker: DecisionSpan | None, lane: Lane) -> AbstractContextManager[AttemptSpan]:
        """Enter it in the task of the flight.

        Args:
            asker: the decision that started the flight; `None` for one that nobody waits for.
        """
        ...

    def traceparent(self) -> str | None:
        """The current span as a W3C `traceparent`, for the auth service."""
        ...
