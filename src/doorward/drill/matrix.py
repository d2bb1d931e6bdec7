"""The matrix: every fault of the auth service, crossed pairwise with the door's own state when it strikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

QUICK = frozenset({("silence", "cold"), ("drip", "warm"), ("refused", "warm"), ("secret-refused", "cold")})
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
    breaker_open: bool

    @property
    def factors(self) -> dict[str, str]:
        return {
            "fault": self.trouble.name,
            "cache": "warm" if self.warm else "cold",
            "keys": "with" if self.keyset else "without",
            "breaker": "open" if self.breaker_open else "closed",
        }

    @property
    def name(self) -> str:
        factors = self.factors
        return "/".join(
            (factors["fault"], factors["cache"], f"{factors['keys']}-keys", f"breaker-{factors['breaker']}")
        )


def rows() -> Iterator[Row]:
    """Pairwise: every two values of two factors meet in some row.

    Each fault gets a combination and its opposite, so it meets both values of each other factor; which combination it is goes
    round from fault to fault, so the other factors meet each other too.
    """
    halves = [(False, True, False), (False, False, False), (False, True, True), (False, False, True)]
    for number, trouble in enumerate(TROUBLES.values()):
        warm, keyset, opened = halves[number % len(halves)]
        yield Row(trouble, warm, keyset, opened)
        yield Row(trouble, not warm, not keyset, not opened)


def scenarios() -> Sequence[Scenario]:
    return [_scenario(row) for row in rows()]


def _scenario(row: Row) -> Scenario:
    crowd: Crowd = {**COLD, **(WARMED if row.warm else {})}
    factors = row.factors
    return Scenario(
        name=row.name,
        family="matrix",
        title=f"{row.trouble.title}; {factors['cache']} cache, {factors['keys']} key set, breaker {factors['breaker']}",
        steps=tuple(_steps(row, crowd)),
        rules=Rules(expectations(circumstances(row, crowd))),
        factors=factors,
        settings={"cache.positive_seconds": FRESH_SECONDS} if row.warm else {},
        keyset=row.keyset,
        trouble=row.trouble.name,
        quick=(row.trouble.name, factors["cache"]) in QUICK,
    )


def _steps(row: Row, crowd: Crowd) -> Iterator[Step]:
    yield Burst(Phase.HEALTHY, COLD)
    yield Baseline()
    if row.warm:
        yield Warm(WARMED[Kind.WARM_JWT], WARMED[Kind.WARM_OPAQUE], FRESH_SECONDS)
    if row.breaker_open:
        yield OpenBreaker()
    yield Strike(row.trouble.name)
    yield Burst(Phase.FAULT, crowd)
    yield Stream(Phase.FAULT, [kind for kind in crowd if kind is not Kind.NO_TOKEN], STREAM_PER_SECOND, STREAM_SECONDS)
    yield Repair()
    yield Burst(Phase.HEALED, crowd)


def circumstances(row: Row, crowd: Crowd) -> Circumstances:
    """An open breaker adds its own cause, and closes by itself if the fault can be lived with."""
    trouble = row.trouble
    unproven = [kind for kind in crowd if kind is not Kind.NO_TOKEN and not (row.keyset and kind in PROVEN)]
    at_once = sum(crowd[kind] for kind in unproven) + STREAM_PER_SECOND * min(STREAM_SECONDS, DEADLINE_SECONDS)
    causes = trouble.causes | {Cause.BREAKER_OPEN}
    reach = trouble.reach
    if row.breaker_open:
        causes |= {Cause.UPSTREAM}
        reach = Reach.SOMETIMES if reach is Reach.ALWAYS else reach
    return Circumstances(reach, causes, keyset=row.keyset, crowded=at_once > UNPROVEN_LANE)
