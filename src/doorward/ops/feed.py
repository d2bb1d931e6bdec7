"""What the ops page shows, as JSON. Made at most twice a second and shared by all who look, so that looking costs little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import msgspec

from doorward.runtime.history import COLUMN_SECONDS, COLUMNS, EDGES_MS, Change, Column
from doorward.runtime.insight import ConnectionView, DecisionRecord, Insight, in_words
from doorward.runtime.ports import Clock

SHOWN_DECISIONS = 200
SHOWN_CONNECTIONS = 50
SNAPSHOT_SECONDS = 0.5
WINDOW_SECONDS = 300.0


class OpsInsight(Insight, Protocol):
    """What the page sees of a door, beyond what the warden sees. Never blocks."""

    @property
    def in_outage(self) -> bool: ...

    @property
    def up_seconds(self) -> float: ...

    def latency(self) -> Sequence[Column]: ...

    def breaker_changes(self) -> Mapping[str, Sequence[Change]]:
        """By the names of the issuers."""
        ...

    def health_changes(self) -> Mapping[str, Sequence[Change]]:
        """By the names of the issuers."""
        ...

    def newest_connections(self, limit: int) -> tuple[int, Sequence[ConnectionView]]: ...


@dataclass(slots=True)
class _Snapshot:
    """`parts` encoded each on its own; `decisions` by their ids, newest first."""

    parts: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    decisions: Mapping[str, msgspec.Raw] = field(default_factory=dict)


class OpsFeed:
    """Args: faults: what the fault panel shows, where there is one."""

    def __init__(
        self,
        insight: OpsInsight,
        *,
        clock: Clock,
        deadline_seconds: float,
        faults: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._insight = insight
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._faults = faults
        self._snapshot = _Snapshot()
        self._made_at = float("-inf")

    def state(self, after: str | None, viewer: Mapping[str, Any]) -> bytes:
        """Everything the page shows.

        Args:
            after: the newest decision that the page has; it gets what came later, or all of them with `"complete": true`.
            viewer: who is looking.
        """
        now = self._clock.monotonic()
        if now - self._made_at >= SNAPSHOT_SECONDS:
            self._snapshot = self._taken()
            self._made_at = now
        complete = after not in self._snapshot.decisions
        return msgspec.json.encode(
            {
                **self._snapshot.parts,
                "now": self._clock.wall(),
                "viewer": viewer,
                "faults": self._faults() if self._faults is not None else None,
                "complete": complete,
                "decisions": _newer(self._snapshot.decisions, None if complete else after),
            }
        )

    def forget(self) -> None:
        """Something was changed: the next look is a new one."""
        self._made_at = float("-inf")

    def _taken(self) -> _Snapshot:
        parts = {
            "deadline_ms": self._deadline_seconds * 1000,
            "in_outage": self._insight.in_outage,
            "up_seconds": self._insight.up_seconds,
            "services": self._services(),
            "statistics": self._statistics(),
            "latency": self._latency(),
            "connections": self._connections(),
        }
        before = self._snapshot.decisions
        newest = self._insight.decisions(SHOWN_DECISIONS)
        return _Snapshot(
            {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in parts.items()},
            {record.id: before.get(record.id) or _encoded(record) for record in newest},
        )

    def _services(self) -> list[dict[str, Any]]:
        breaker, health = self._insight.breaker_changes(), self._insight.health_changes()
        return [
            {**asdict(view), "breaker_changes": breaker[view.issuer], "health_changes": health[view.issuer]}
            for view in self._insight.services()
        ]

    def _statistics(self) -> dict[str, Any]:
        """Verdicts come from the heat map's books, which miss none; reasons and quantiles from the decisions that are kept."""
        kept = self._insight.statistics(WINDOW_SECONDS)
        since = self._clock.wall() - WINDOW_SECONDS
        verdicts: Counter[str] = Counter()
        for column in self._insight.latency():
            if column.at > since:
                verdicts.update(column.verdicts)
        return {
            "window_seconds": WINDOW_SECONDS,
            "by_verdict": verdicts,
            "kept": kept.total,
            "by_reason": kept.by_reason,
            "p50_ms": kept.p50_ms,
            "p99_ms": kept.p99_ms,
            "max_ms": kept.max_ms,
        }

    def _latency(self) -> dict[str, Any]:
        return {
            "column_seconds": COLUMN_SECONDS,
            "columns_shown": COLUMNS,
            "edges_ms": EDGES_MS,
            "columns": self._insight.latency(),
        }

    def _connections(self) -> dict[str, Any]:
        total, newest = self._insight.newest_connections(SHOWN_CONNECTIONS)
        return {"total": total, "newest": newest}


def _encoded(record: DecisionRecord) -> msgspec.Raw:
    """Its steps as `[name, milliseconds]`."""
    told = {**msgspec.structs.asdict(record), "detail": in_words(record.detail), "steps": tuple(record.steps.items())}
    return msgspec.Raw(msgspec.json.encode(told))


def _newer(decisions: Mapping[str, msgspec.Raw], after: str | None) -> list[msgspec.Raw]:
    newer = []
    for decision_id, encoded in decisions.items():
        if decision_id == after:
            break
        newer.append(encoded)
    return newer
