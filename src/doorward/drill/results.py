"""What a drill writes down: plain data, as it stands in the JSON file (docs/reference/drill.md).

Every column of a report (our door, the old way, a peer) is measured into these same types, so that they can be laid side by side.
Seconds are on a monotonic clock unless a name says otherwise; `at_seconds` counts from the start of the play.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

FORMAT = 1
"""Version of the JSON file. Fields may be added; one that changes its meaning raises it."""

OURS = "doorward"
"""The column of the door under test."""


class Phase(StrEnum):
    """When in a play a handshake was opened."""

    HEALTHY = "healthy"
    FAULT = "fault"
    REPAIR = "repair"
    """The fault is gone; the door may not know it yet."""
    HEALED = "healed"


class Kind(StrEnum):
    """What the client presented."""

    JWT = "jwt"
    """Good, well signed, never seen before."""
    WARM_JWT = "warm_jwt"
    """Good, and validated before the fault; the verdict is no longer fresh."""
    OPAQUE = "opaque"
    """Good, readable for the auth service alone, never seen before."""
    WARM_OPAQUE = "warm_opaque"
    STRANGER = "stranger"
    """A random opaque token that nobody issued."""
    FORGED = "forged"
    """Names a published key, signed with another."""
    EXPIRED = "expired"
    NO_TOKEN = "no_token"  # noqa: S105 - the name of a case
    REJECTED = "rejected"
    """Well signed; the auth service said no to it before the fault."""
    REVOKED = "revoked"
    """Well signed; revoked before the fault."""
    NEW_KEY = "new_key"
    """Good, signed with a key that was published after the door fetched the key set."""


class Outcome(StrEnum):
    """What became of a handshake, as far as the client can tell."""

    ALLOW = "allow"
    DENY = "deny"
    UNAVAILABLE = "unavailable"
    SILENT = "silent"
    """No answer until the client gave up: `seconds` is when."""
    BROKEN = "broken"
    """The connection ended without an answer that means anything."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One opening handshake, as its client saw it."""

    phase: Phase
    kind: Kind
    at_seconds: float
    seconds: float
    """From the first byte sent to the answer, or until the client gave up."""
    outcome: Outcome
    browser: bool = False
    """Bearer subprotocol and Origin, refusals by close frame; else Authorization header, refusals by HTTP status."""
    status: int | None = None
    close: int | None = None
    code: str | None = None
    cause: str | None = None
    retry_after_ms: int | None = None
    assurance: str | None = None
    degraded: bool = False
    decision_id: str | None = None

    @property
    def censored(self) -> bool:
        """The real wait was longer than `seconds`."""
        return self.outcome is Outcome.SILENT


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of the door's decision log: its own clock."""

    id: str
    at_seconds: float
    verdict: str
    source: str
    reason: str
    ms: float
    overrun_ms: float
    code: str | None = None
    assurance: str | None = None
    degraded: bool = False
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the door from outside: `/metrics` and the process table. `None`: could not be had."""

    at_seconds: float
    lag_seconds: float
    """The largest event loop lag since the reading before: an upper bound, from the histogram's sum and buckets."""
    breaker: str | None = None
    tasks: int | None = None
    connections: int | None = None
    """TCP connections from clients."""
    admitted: int | None = None
    abandoned: int | None = None
    files: int | None = None
    upstream: int = 0
    """Connections that the door holds to the auth service, some of them idle on purpose."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """So many clients came (again) in the second that begins at `at_seconds` after the repair."""

    at_seconds: float
    count: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of the judge, and whether it held."""

    rule: str
    held: bool
    text: str
    measured: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class WaitAvoided:
    """How much longer people waited at another door than at the one under test, in the same trouble. Negative: less long."""

    half_seconds: float
    """Between the waits that half of the people had at most."""
    longest_seconds: float
    at_least: bool = False
    """Somebody gave up at the other door, so the real difference is larger."""


@dataclass(frozen=True, slots=True)
class Column:
    """The same play against another door: the old way, a peer. It is measured, not judged."""

    name: str
    samples: Sequence[Sample] = ()
    recovery_seconds: float | None = None
    """From the repair to the first of the answers that stayed good; `None`: never, as long as it was watched."""
    censored_seconds: float | None = None
    """A client gave up after so long."""
    curve: Sequence[CurvePoint] = ()
    note: str | None = None
    """What this door is."""
    why_not: str | None = None
    """Why it was not tried in this trouble."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """When the fault began (`fault`) and ended (`repair`), seconds from the start of this door's play."""
    lag_seconds: float | None = None
    """The largest lag of the clients' own loop meanwhile: every wait may include it."""
    wait_avoided: WaitAvoided | None = None
    """`None`: one of the two doors was not tried in this trouble."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """One scenario: what was done, what was seen, and the judgement."""

    name: str
    family: str
    title: str
    held: bool
    findings: Sequence[Finding]
    factors: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the whole scenario took."""
    slowest_ms: float | None = None
    """The slowest decision on the door's clock."""
    overrun_ms: float | None = None
    lag_ms: float | None = None
    null_ms: float | None = None
    """The slowest answer of a server that lets everybody in, under the same load."""
    recovery_seconds: float | None = None
    expected_rate_per_second: float | None = None
    """What a storm's curve is held against."""
    samples: Sequence[Sample] = ()
    readings: Sequence[Reading] = ()
    curve: Sequence[CurvePoint] = ()
    marks: Mapping[str, float] = field(default_factory=dict)
    """When the fault began (`fault`) and ended (`repair`), seconds from the start of the play."""
    columns: Sequence[Column] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was run."""

    system: str
    processors: int
    python: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DrillResult:
    """A whole drill."""

    command: str
    began_at: str
    """RFC 3339."""
    seconds: float
    seed: int
    held: bool
    machine: Machine
    scenarios: Sequence[ScenarioResult]
    target: str = "doorward serve"
    pairs: int = 0
    """How many combinations of the matrix were among the scenarios."""
    format: int = FORMAT


# --- what another column must bring -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a door asks about tokens: the fault proxy before the auth service.

    `ca_file`: whom to trust, where `url` is https. `dns_server`: HOST:PORT of the one that knows the name in `url`.
    """

    url: str
    issuer: str
    audience: str
    service_id: str
    service_secret: str = field(repr=False)
    ca_file: str | None = None
    dns_server: str | None = None
