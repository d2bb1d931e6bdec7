"""How the connection is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from doorward.client.meaning import Reason


class StateName(StrEnum):
    CONNECTING = "connecting"
    OPEN = "open"
    DEGRADED = "degraded"
    """Let in, but the auth service has not confirmed it."""
    WAITING = "waiting"
    SIGNED_OUT = "signed_out"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DoorView:
    """What the door said of this connection. `expires_at` and `grace_until` in wall-clock seconds."""

    user_id: str | None = None
    decision_id: str | None = None
    assurance: str | None = None
    degraded: bool = False
    expires_at: float | None = None
    grace_until: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """`attempt`: which one in a row this is. `reason`: why the connection is away. `retry_at`: wall-clock seconds."""

    name: StateName
    attempt: int = 1
    reason: Reason | None = None
    retry_at: float | None = None
    door: DoorView | None = None

    @property
    def is_in(self) -> bool:
        return self.name in {StateName.OPEN, StateName.DEGRADED}

    @property
    def is_over(self) -> bool:
        return self.name in {StateName.SIGNED_OUT, StateName.STOPPED}
