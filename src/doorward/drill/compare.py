"""Two drills side by side: is the second one slower than it may be?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doorward.drill.results import DrillResult, Phase, ScenarioResult

FLOOR_SECONDS = 0.02
"""Below this a difference is noise: shorter times count as this long."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one scenario in both. Seconds."""

    scenario: str
    measure: str
    before: float
    after: float
    ratio: float
    held: bool


def compared(before: DrillResult, after: DrillResult, *, max_ratio: float) -> Sequence[Compared]:
    """Every measure of every scenario that both have.

    Args:
        max_ratio: `after` may be so many times `before`.
    """
    then = {scenario.name: _measures(scenario) for scenario in before.scenarios}
    rows = []
    for scenario in after.scenarios:
        for measure, seconds in _measures(scenario).items():
            was = then.get(scenario.name, {}).get(measure)
            if was is not None:
                ratio = max(seconds, FLOOR_SECONDS) / max(was, FLOOR_SECONDS)
                rows.append(Compared(scenario.name, measure, was, seconds, round(ratio, 3), ratio <= max_ratio))
    return rows


def _measures(scenario: ScenarioResult) -> dict[str, float]:
    measures = {}
    for phase in (Phase.HEALTHY, Phase.FAULT):
        seconds = sorted(sample.seconds for sample in scenario.samples if sample.phase is phase)
        if seconds:
            measures[f"median wait, {phase}"] = seconds[len(seconds) // 2]
            measures[f"longest wait, {phase}"] = seconds[-1]
    if scenario.recovery_seconds is not None:
        measures["recovery"] = scenario.recovery_seconds
    return measures
