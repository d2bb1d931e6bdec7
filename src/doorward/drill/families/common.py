"""What the families share: who comes, how a scenario begins, what is expected in an outage."""

from __future__ import annotations

from typing import Any

from doorward.core.verdict import Cause
from doorward.drill.expectations import Circumstances, expectations
from doorward.drill.faults import TROUBLES, Reach
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import Baseline, Burst, Crowd, Expectations, Rules, Step

WITH_TOKENS: Crowd = {Kind.JWT: 6, Kind.OPAQUE: 2, Kind.FORGED: 2, Kind.EXPIRED: 2}
SOME: Crowd = {**WITH_TOKENS, Kind.NO_TOKEN: 1}
BEGIN: tuple[Step, ...] = (Burst(Phase.HEALTHY, SOME), Baseline())
SILENT_SECONDS = 3.0
CUT_SECONDS = 0.1
"""A time limit is looked at that often."""


def well() -> Expectations:
    return expectations(Circumstances(Reach.ALWAYS, frozenset()))


def outage(trouble: str, *, remembers: bool = True, crowded: bool = False, **more: Any) -> Rules:
    causes = TROUBLES[trouble].causes | {Cause.BREAKER_OPEN}
    return Rules(expectations(Circumstances(Reach.NEVER, causes, remembers=remembers, crowded=crowded)), **more)
