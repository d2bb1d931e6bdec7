"""The read side of the door, for the warden, the pages and `/readyz`."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from doorward.asgi.session import AdmittedConnection
from doorward.runtime.history import COLUMN_SECONDS, COLUMNS, Change, Column
from doorward.runtime.insight import ConnectionView, DecisionRecord, ServiceView, Statistics, in_words

if TYPE_CHECKING:
    from doorward.asgi.door import Door
    from doorward.asgi.issuer import Issuer

LOOKED_AT_CONNECTIONS = 5_000


class DoorInsight:
    """Implements `runtime.insight.Insight` on a door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def services(self) -> Sequence[ServiceView]:
        return [self._service(issuer) for issuer in self._door.issuers.values()]

    def _service(self, issuer: Issuer) -> ServiceView:
        clock = self._door.clock
        contact, suspect = issuer.memory.last_contact, issuer.gate.suspect
        trouble = issuer.health.last_error if suspect is None else suspect.detail or suspect.cause
        return ServiceView(
            issuer=issuer.name,
            tenant=issuer.tenant,
            url=issuer.url,
            in_outage=issuer.in_outage,
            breaker=issuer.gate.breaker.state,
            breaker_since_seconds=clock.monotonic() - issuer.gate.breaker.since,
            health=issuer.health.health.condition,
            last_probe_ms=issuer.health.last_ms,
            last_probe_passed=issuer.health.failing_since is None if issuer.health.last_ms is not None else None,
            last_error=in_words(trouble) if trouble else None,
            last_contact_age_seconds=max(clock.wall() - contact, 0.0) if contact is not None else None,
            keyset_age_seconds=issuer.keys.age_seconds(),
            feed=issuer.follower.state,
            feed_age_seconds=issuer.feed_age_seconds,
            degrade_mode=issuer.degrade_mode,
            in_flight=issuer.gate.bulkhead.total,
            bars=len(issuer.memory.bars),
        )

    def statistics(self, window_seconds: float = 300.0, *, kind: str | None = None) -> Statistics:
        return self._door.telemetry.statistics(window_seconds, kind)

    def decisions(self, limit: int = 50) -> Sequence[DecisionRecord]:
        return self._door.telemetry.decisions(limit)

    def decision(self, decision_id: str) -> DecisionRecord | None:
        return self._door.telemetry.decision(decision_id)

    def connections(self, user_id: str | None = None) -> Sequence[ConnectionView]:
        if user_id is None:
            return [_view(connection) for connection in self._door.connections]
        found = (
            connection for issuer in self._door.issuers.values() for connection in issuer.registry.of_user(user_id)
        )
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

    def breaker_changes(self) -> Mapping[str, Sequence[Change]]:
        return {name: tuple(issuer.gate.changes) for name, issuer in self._door.issuers.items()}

    def health_changes(self) -> Mapping[str, Sequence[Change]]:
        return {name: tuple(issuer.health.changes) for name, issuer in self._door.issuers.items()}

    def newest_connections(self, limit: int) -> tuple[int, Sequence[ConnectionView]]:
        """How many there are, and the newest; where they are very many, the newest of some, so that looking costs little."""
        found = islice(self._door.connections, LOOKED_AT_CONNECTIONS)
        newest = heapq.nlargest(limit, found, key=lambda connection: connection.since)
        return self._door.connection_count, [_view(connection) for connection in newest]


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
