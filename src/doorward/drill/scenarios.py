"""What a scenario is: steps to take, and what may be answered. Plain data; the runner plays it, the judge holds the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from doorward.drill.results import Kind, Phase

Crowd = Mapping[Kind, int]
Expectations = Mapping[tuple[Phase, Kind], frozenset[str]]
"""What may be answered: `allow:live`, `deny:TOKEN_EXPIRED`, `unavailable:OVERLOADED`, `unavailable:SERVICE_UNAVAILABLE/config`."""

DEADLINE_SECONDS = 2.0
RECOVERY_SECONDS = 5.0
UNPROVEN_LANE = 16


class Behaviour(StrEnum):
    """How a client can be at fault."""

    HALF_SENT = "half-sent"
    """Sends half an upgrade request, then nothing."""
    SAYS_NOTHING = "says-nothing"
    """Connects and sends no byte."""
    STOPS_READING = "stops-reading"
    """Is let in, asks for much, and reads none of it."""
    BIG_COOKIE = "big-cookie"
    """A cookie of 9 KB."""
    MANY_HEADERS = "many-headers"
    """200 header lines."""
    NO_AUTH_FRAME = "no-auth-frame"
    """Is let in to send its token first, and never sends it."""


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Burst:
    """Open these handshakes at once, and wait for every answer."""

    phase: Phase
    crowd: Crowd


@dataclass(frozen=True, slots=True)
class Stream:
    """Open handshakes one after the other, without waiting for answers; the kinds take turns."""

    phase: Phase
    kinds: Sequence[Kind]
    per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """Look what the door holds when nothing is the matter."""


@dataclass(frozen=True, slots=True)
class Warm:
    """Validate the warm tokens, then let their verdicts grow stale."""

    jwts: int
    opaque: int
    stale_after_seconds: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Have some well-signed tokens rejected live, and others revoked."""

    rejected: int
    revoked: int


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """Refuse connections until the breaker is open."""


@dataclass(frozen=True, slots=True)
class Strike:
    """The fault begins. `half_open`: in the moment in which the breaker is half open, one canary back and the next under way."""

    trouble: str
    half_open: bool = False


@dataclass(frozen=True, slots=True)
class Repair:
    """The fault ends. Then probe with fresh tokens until both lanes are answered live again."""

    probe: bool = True


@dataclass(frozen=True, slots=True)
class Restart:
    """End the door and start another on the same data directory. `kill`: without a word."""

    kill: bool = False


@dataclass(frozen=True, slots=True)
class Rotate:
    """The auth service signs with a new key from now on; both are in its key set."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let something grow old: so many seconds in which nothing happens."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Skew:
    """The auth service's clock is so far ahead (or behind, when negative)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Misbehave:
    """So many clients behave like this at once, while honest ones come at this rate."""

    behaviour: Behaviour
    clients: int
    honest_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Siege:
    """Silent connections from many addresses, while honest clients come. Each is watched until it is cut."""

    per_second: float
    seconds: float
    honest_per_second: float

    @property
    def clients(self) -> int:
        """How many silent ones there are in all."""
        return round(self.per_second * self.seconds)


@dataclass(frozen=True, slots=True)
class Storm:
    """So many clients arrive in the outage; each obeys `retry_after_ms` and comes back until it is in. Repairs the fault, not
    before each was answered once."""

    clients: int
    over_seconds: float
    repair_after_seconds: float
    within_seconds: float


Step = (
    Burst
    | Stream
    | Baseline
    | Warm
    | Refuse
    | OpenBreaker
    | Strike
    | Repair
    | Restart
    | Rotate
    | Pause
    | Skew
    | Misbehave
    | Siege
    | Storm
)


# --- rules ------------------------------------------------------------------------------------------------------------


CUT = "cut"
"""The connection was ended without a word."""


def answered(status: int) -> str:
    """It got this HTTP status, and its connection was ended."""
    return f"answered {status}"


def closed(code: int, word: str = "") -> str:
    """It got a close frame, after an error frame with this word if there is one, and its connection was ended."""
    return f"closed {code} {word}".rstrip()


@dataclass(frozen=True, slots=True)
class StrayRule:
    """How each of so many misbehaving clients must end: in one of these ways, after so many seconds at the latest."""

    clients: int
    within_seconds: float
    ends: frozenset[str] = frozenset({CUT})
    at_once: int | None = None
    """The door never holds more connections than this."""


@dataclass(frozen=True, slots=True)
class StormRule:
    """A crowd of `clients` was sent away, each comes back when it was told to, spread out to this rate, and all get in."""

    rate_per_second: float
    clients: int
    within_seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What the judge holds a scenario against. Seconds."""

    expect: Expectations
    deadline_seconds: float = DEADLINE_SECONDS
    overrun_seconds: float = 0.05
    recovery_seconds: float | None = RECOVERY_SECONDS
    """`None`: there was nothing to recover from."""
    strays: Mapping[Behaviour, StrayRule] = field(default_factory=dict)
    storm: StormRule | None = None
    neighbour: bool = False
    """A client that behaves is in all the while, and each of its questions must be answered within the deadline."""
    felt: bool = False
    """The answers may be the same with and without the fault, so something must have met it."""
    inside: bool = True
    """The door's own log and metrics can be read: it is ours."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One play. `weight`: how much of the machine it takes while it runs; 1 is mostly waiting."""

    name: str
    family: str
    title: str
    steps: Sequence[Step]
    rules: Rules
    factors: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the door that differ from the product's defaults, dotted."""
    keyset: bool = True
    """False: the key set can never be had."""
    starts_well: bool = True
    """False: the fault is there before the door is."""
    trouble: str | None = None
    weight: int = 1
    quick: bool = False

    @property
    def crowd(self) -> int:
        """The largest number of handshakes opened at once."""
        return max((sum(step.crowd.values()) for step in self.steps if isinstance(step, Burst)), default=1)
