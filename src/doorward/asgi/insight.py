"""The read side of the door, for the warden, the pages and `/readyz`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from doorward.asgi.policies import degrade_policy
from doorward.asgi.session import AdmittedConnection
from doorward.runtime.history import COLUMN_SECONDS, COLUMNS, Change, Column
from doorward.runtime.insight import ConnectionView, DecisionRecord, ServiceView, Statistics

if TYPE_CHECKING:
    from doorward.asgi.door import Door

LOOKED_AT_CONNECTIONS = 5_000


class DoorInsight:
    """Implements `runtime.insight.Insight` on a door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @property
    def feed_age_seconds(self) -> float | None:
        last = self._door.memory.last_feed
        return max(self._door.clock.wall() - last, 0.0) if last is not None else None

    def service(self) -> ServiceView:
        door = self._door
        contact = door.memory.last_contact
        suspect = door.gate.suspect
        mode = degrade_policy(door.settings).effective_mode(has_feed=door.memory.last_feed is not None)
        return ServiceView(
            url=door.settings.auth.base_url,
            breaker=door.gate.breaker.state,
            breaker_since_seconds=door.clock.monotonic() - door.gate.breaker.since,
            health=door.health.health.condition,
            last_probe_ms=door.health.last_ms,
            last_error=suspect.detail or suspect.cause if suspect is not None else door.health.last_error,
            last_contact_age_seconds=max(door.clock.wall() - contact, 0.0) if contact is not None else None,
            keyset_age_seconds=door.keys.age_seconds(),
            feed=door.follower.state,
            feed_age_seconds=self.feed_age_seconds,
            degrade_mode=mode,
            in_flight=door.gate.bulkhead.total,
            bars=len(door.memory.bars),
        )

    def statistics(self, window_seconds: float = 300.0) -> Statistics:
        return self._door.telemetry.statistics(window_seconds)

    def decisions(self, limit: int = 50) -> Sequence[DecisionRecord]:
        return self._door.telemetry.decisions(limit)

    def decision(self, decision_id: str) -> DecisionRecord | None:
        return self._door.telemetry.decision(decision_id)

    def connections(self, user_id: str | None = None) -> Sequence[ConnectionView]:
        registry = self._door.registry
        found = registry.of_user(user_id) if user_id is not None else tuple(registry)
        return [_view(connection) for connection in found if isinstance(connection, AdmittedConnection)]

    # For the ops page alone

    @property
    def in_outage(self) -> bool:
        return self._door.in_outage

    @property
    def up_seconds(self) -> float:
        """Since the door opened."""
        opened_at = self._door.opened_at
        return self._door.clock.monotonic() - opened_at if opened_at is not None else 0.0

    def latency(self) -> Sequence[Column]:
        """The heat map of the last ten minutes, oldest column first."""
        return self._door.telemetry.latency.columns(self._door.clock.wall() - COLUMNS * COLUMN_SECONDS)

    def breaker_changes(self) -> Sequence[Change]:
        return tuple(self._door.telemetry.breaker_changes)

    def health_changes(self) -> Sequence[Change]:
        return tuple(self._door.health.changes)

    def newest_connections(self, limit: int) -> tuple[int, Sequence[ConnectionView]]:
        """How many there are, and the newest; where they are very many, the newest of some, so that looking costs little."""
        registry = self._door.registry
        found = (each for each in registry if isinstance(each, AdmittedConnection))
        newest = heapq.nlargest(limit, islice(found, LOOKED_AT_CONNECTIONS), key=lambda connection: connection.since)
        return len(registry), [_view(connection) for connection in newest]


def _view(connection: AdmittedConnection) -> ConnectionView:
    return ConnectionView(
        id=connection.admission.decision_id,
        user_id=connection.principal.user_id,
        path=connection.scope["path"],
        address=connection.address,
        since=connection.since,
        assurance=connection.admission.assurance,
        degraded=connection.admission.degraded,
    )
