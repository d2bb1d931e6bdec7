"""What was seen of a play: all that the judge goes by. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doorward.drill.results import Decision, Reading, Sample
from doorward.drill.scenarios import Behaviour


@dataclass(frozen=True, slots=True)
class Stray:
    """How a misbehaving client ended. `seconds` until its end, or until it was not waited for any longer; then `end` is `None`."""

    behaviour: Behaviour
    seconds: float
    end: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was seen of a play. Seconds; a time counts from the start of the play.

    `null_seconds`: the slowest answer of a server that lets everybody in, under the same load. `client_lag_seconds`: the largest
    lag of the clients' own loop. `asked_in_vain`: tokens that a local look could refuse, and that were asked about all the same.
    `unasked`: decisions that claim an answer, live or cached, about a token that nobody asked about. `echoes`: how long the
    questions of a client that was in all the while took, `None` without an answer. `felt`: how often something met the fault.
    `returns`: when the clients of a storm came back; `returned`: how many of them got in.
    """

    samples: Sequence[Sample] = ()
    decisions: Sequence[Decision] = ()
    readings: Sequence[Reading] = ()
    baseline: Reading | None = None
    final: Reading | None = None
    null_seconds: float = 0.0
    client_lag_seconds: float = 0.0
    recovery_seconds: float | None = None
    strays: Sequence[Stray] = ()
    echoes: Sequence[float | None] = ()
    felt: int = 0
    repaired_at: float = 0.0
    returns: Sequence[float] = ()
    returned: int = 0
    returned_within_seconds: float | None = None
    asked_in_vain: int = 0
    unasked: Sequence[str] = ()
    lost_lines: int = 0
    troubles: Sequence[str] = ()
    """What kept the play from being played to its end: a door that did not start, or did not stop."""

    @property
    def lag_seconds(self) -> float:
        return max((reading.lag_seconds for reading in self.readings), default=0.0)

    @property
    def allowance_seconds(self) -> float:
        """What a client may have waited without the door being to blame: for either loop, and as long as at a null server."""
        return self.stall_seconds + self.null_seconds

    @property
    def stall_seconds(self) -> float:
        """The largest lag of the door's loop and of the clients': for so long nobody may have been served."""
        return self.lag_seconds + self.client_lag_seconds
