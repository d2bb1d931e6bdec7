"""The matrix: every fault of the auth service, crossed pairwise with the door's own state when it strikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from doorward.core.breaker import State
from doorward.core.verdict import Cause
from doorward.drill.expectations import Circumstances, expectations
from doorward.drill.faults import TROUBLES, Reach, Trouble
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import (
    DEADLINE_SECONDS,
    UNPROVEN_LANE,
    Baseline,
    Burst,
    Crowd,
    OpenBreaker,
    Repair,
    Rules,
    Scenario,
    Step,
    Stream,
    Strike,
    Warm,
)

QUICK = frozenset(
    {
        "silence/warm/with-keys/breaker-closed",
        "drip/cold/with-keys/breaker-half-open",
        "refused/cold/with-keys/breaker-closed",
        "secret-refused/warm/with-keys/breaker-open",
    }
)
FRESH_SECONDS = 1.0
STREAM_PER_SECOND, STREAM_SECONDS = 8.0, 1.5

COLD: Crowd = {
    Kind.JWT: 8,
    Kind.OPAQUE: 3,
    Kind.STRANGER: 2,
    Kind.FORGED: 3,
    Kind.EXPIRED: 2,
    Kind.NO_TOKEN: 2,
}
WARMED: Crowd = {Kind.WARM_JWT: 4, Kind.WARM_OPAQUE: 3}
PROVEN = frozenset({Kind.JWT, Kind.WARM_JWT, Kind.FORGED, Kind.EXPIRED})
"""With a key set these are not asked about in the unproven lane."""


@dataclass(frozen=True, slots=True)
class Row:
    """One combination: the fault, and the state that it strikes."""

    trouble: Trouble
    warm: bool
    keyset: bool
    breaker: State

    @property
    def factors(self) -> dict[str, str]:
        return {
            "fault": self.trouble.name,
            "cache": "warm" if self.warm else "cold",
            "keys": "with" if self.keyset else "without",
            "breaker": self.breaker.value,
        }

    @property
    def name(self) -> str:
        factors = self.factors
        breaker = self.breaker.replace("_", "-")
        return f"{factors['fault']}/{factors['cache']}/{factors['keys']}-keys/breaker-{breaker}"


def rows() -> Iterator[Row]:
    """Pairwise: every two values of two factors meet in some row.

    Each fault meets each state of the breaker, the first two of them with a combination of cache and keys and with its opposite, so
    it meets both values of these too; which combination it is goes round from fault to fault, so all the others meet each other.
    """
    combinations = [(False, True), (False, False), (True, False), (True, True)]
    for number, trouble in enumerate(TROUBLES.values()):
        warm, keyset = combinations[number % 4]
        yield Row(trouble, warm, keyset, State.CLOSED)
        yield Row(trouble, not warm, not keyset, State.OPEN)
        yield Row(trouble, *combinations[(number + 3) % 4], State.HALF_OPEN)


def scenarios() -> Sequence[Scenario]:
    return [_scenario(row) for row in rows()]


def _scenario(row: Row) -> Scenario:
    crowd: Crowd = {**COLD, **(WARMED if row.warm else {})}
    factors = row.factors
    return Scenario(
        name=row.name,
        family="matrix",
        title=f"{row.trouble.title}; {factors['cache']} cache, {factors['keys']} key set, breaker {row.breaker.replace('_', ' ')}",
        steps=tuple(_steps(row, crowd)),
        rules=Rules(expectations(circumstances(row, crowd)), felt=row.trouble.reach is not Reach.NEVER),
        factors=factors,
        settings={"cache.positive_seconds": FRESH_SECONDS} if row.warm else {},
        keyset=row.keyset,
        trouble=row.trouble.name,
        quick=row.name in QUICK,
    )


def _steps(row: Row, crowd: Crowd) -> Iterator[Step]:
    yield Burst(Phase.HEALTHY, COLD)
    yield Baseline()
    if row.warm:
        yield Warm(WARMED[Kind.WARM_JWT], WARMED[Kind.WARM_OPAQUE], FRESH_SECONDS)
    if row.breaker is State.OPEN:
        yield OpenBreaker()
    yield Strike(row.trouble.name, half_open=row.breaker is State.HALF_OPEN)
    yield Burst(Phase.FAULT, crowd)
    yield Stream(Phase.FAULT, [kind for kind in crowd if kind is not Kind.NO_TOKEN], STREAM_PER_SECOND, STREAM_SECONDS)
    yield Repair()
    yield Burst(Phase.HEALED, crowd)


def circumstances(row: Row, crowd: Crowd) -> Circumstances:
    """A breaker that is not closed adds its own cause, and closes by itself if the fault can be lived with."""
    trouble = row.trouble
    unproven = [kind for kind in crowd if kind is not Kind.NO_TOKEN and not (row.keyset and kind in PROVEN)]
    at_once = sum(crowd[kind] for kind in unproven) + STREAM_PER_SECOND * min(STREAM_SECONDS, DEADLINE_SECONDS)
    causes = trouble.causes | {Cause.BREAKER_OPEN}
    reach = trouble.reach
    if row.breaker is not State.CLOSED:
        causes |= {Cause.UPSTREAM}
        reach = Reach.SOMETIMES if reach is Reach.ALWAYS else reach
    return Circumstances(reach, causes, keyset=row.keyset, crowded=at_once > UNPROVEN_LANE)
