"""Two drills side by side: does the second one hold what the first one held, and is it slower than it may be? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from doorward.drill.results import DrillResult, Phase, ScenarioResult

FLOOR_SECONDS = 0.02
"""Below this a difference is noise: shorter times count as this long."""

RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure of one scenario in both. Seconds; `None`: that file has none."""

    scenario: str
    measure: str
    before: float | None
    after: float | None
    held: bool
    text: str = ""
    """What there is to say where there is no ratio."""

    @property
    def ratio(self) -> float | None:
        if self.before is None or self.after is None:
            return None
        return round(max(self.after, FLOOR_SECONDS) / max(self.before, FLOOR_SECONDS), 3)


def compared(before: DrillResult, after: DrillResult, *, max_ratio: float) -> Sequence[Compared]:
    """Every scenario of either file, with each of its measures. Nothing that the first file has passes in silence.

    Not held is: a scenario or a measure that is in the first file only, a scenario of the second that broke a rule, and a measure
    of the second that is more than `max_ratio` times the first's.
    """
    now = {scenario.name: scenario for scenario in after.scenarios}
    then = {scenario.name: scenario for scenario in before.scenarios}
    rows: list[Compared] = []
    for was in before.scenarios:
        there = now.get(was.name)
        if there is None:
            rows.append(Compared(was.name, "played", None, None, held=False, text="in the first file only"))
        else:
            rows += _rules(was, there)
            rows += _measured(was, there, max_ratio)
    for new in after.scenarios:
        if new.name not in then:
            rows += _rules(None, new) or [
                Compared(new.name, "played", None, None, held=True, text="in the second file only")
            ]
    return rows


def in_common(before: DrillResult, after: DrillResult) -> bool:
    """Is there a scenario that both have played?"""
    names = {scenario.name for scenario in before.scenarios}
    return any(scenario.name in names for scenario in after.scenarios)


def _rules(was: ScenarioResult | None, there: ScenarioResult) -> list[Compared]:
    """A broken rule is worse than any slowness."""
    broken = ", ".join(finding.rule for finding in there.findings if not finding.held) or "none is named"
    if not there.held:
        before = "" if was is None or was.held else "; in the first file it did not hold either"
        return [Compared(there.name, "rules", None, None, held=False, text=f"broken: {broken}{before}")]
    if was is not None and not was.held:
        return [
            Compared(there.name, "rules", None, None, held=True, text="broken in the first file, held in the second")
        ]
    return []


def _measured(was: ScenarioResult, there: ScenarioResult, max_ratio: float) -> Iterator[Compared]:
    before, after = _measures(was), _measures(there)
    for measure, seconds in before.items():
        row = Compared(was.name, measure, seconds, after.get(measure), held=False)
        if row.ratio is None:
            text = "never well again" if measure == RECOVERY else "not measured in the second file"
            yield Compared(was.name, measure, seconds, None, held=False, text=text)
        else:
            yield Compared(was.name, measure, seconds, row.after, held=row.ratio <= max_ratio)


def _measures(scenario: ScenarioResult) -> dict[str, float]:
    measures = {}
    for phase in (Phase.HEALTHY, Phase.FAULT):
        seconds = sorted(sample.seconds for sample in scenario.samples if sample.phase is phase)
        if seconds:
            measures[f"median wait, {phase}"] = seconds[len(seconds) // 2]
            measures[f"longest wait, {phase}"] = seconds[-1]
    if scenario.recovery_seconds is not None:
        measures[RECOVERY] = scenario.recovery_seconds
    return measures
