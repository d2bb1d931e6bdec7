"""Doors side by side: what was measured of each in the same trouble becomes one scenario, and our own column is judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from doorward.drill.faults import TROUBLES
from doorward.drill.results import OURS, Column, Finding, Outcome, ScenarioResult, WaitAvoided
from doorward.drill.seen import in_trouble, longest, wait_avoided, waited
from doorward.errors import UsageError

FAULTS = tuple(TROUBLES)
"""The troubles that every door is measured on, as far as it can be (`peers.Rival.why_not`)."""

FAMILY = "beside"
"""What their names begin with."""

OLD_WAY = "post-mortem"
"""The door whose waits are those that were avoided."""

STORM_FAULT = "silence"
MAX_WAIT_SECONDS = 2.5
"""The deadline, and what a crowd of clients needs on its own side; the lag of its loop comes on top."""

MAX_RECOVERY_SECONDS = 5.0


def split(only: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Patterns that mean scenarios of our own door, and the faults of `FAULTS` that any pattern means (all, if there is none).

    Raises:
        UsageError: a pattern of a fault on other doors matches none.
    """
    for pattern in only:
        if _is_beside(pattern) and not _meant([pattern]):
            raise UsageError(f"no fault on other doors is called {pattern!r}; `doorward drill --list` shows them all")
    return [pattern for pattern in only if not _is_beside(pattern)], _meant(only) if only else FAULTS


def _is_beside(pattern: str) -> bool:
    return pattern.partition("/")[0] == FAMILY


def _meant(only: Sequence[str]) -> Sequence[str]:
    names = {fault: (fault, f"{FAMILY}/{fault}", FAMILY) for fault in FAULTS}
    return [fault for fault in FAULTS if any(fnmatchcase(name, one) for name in names[fault] for one in only)]


def as_scenarios(measured: Mapping[str, Sequence[Column]]) -> list[ScenarioResult]:
    """One scenario a fault, for the report: our own column is judged, the others stand beside it.

    The curves of returning clients are kept for `STORM_FAULT` alone; one picture of each door tells it.
    """
    return [_scenario(name, columns) for name, columns in measured.items()]


def _scenario(name: str, columns: Sequence[Column]) -> ScenarioResult:
    ours = next((column for column in columns if column.name == OURS), Column(OURS))
    findings = judged(ours)
    if name != STORM_FAULT:
        columns = [replace(column, curve=()) for column in columns]
    others = [column for column in columns if column.name != OURS]
    return ScenarioResult(
        name=f"{FAMILY}/{name}",
        family="other doors",
        title=TROUBLES[name].title,
        held=all(finding.held for finding in findings),
        findings=findings,
        factors={"fault": name},
        seconds=max(
            (sample.at_seconds + sample.seconds for column in columns for sample in column.samples), default=0.0
        ),
        lag_ms=None if ours.lag_seconds is None else round(ours.lag_seconds * 1000, 2),
        recovery_seconds=ours.recovery_seconds,
        samples=ours.samples,
        curve=ours.curve if name == STORM_FAULT else (),
        marks=ours.marks,
        columns=[replace(column, wait_avoided=wait_avoided(ours, column)) for column in others],
    )


def columns_of(scenario: ScenarioResult) -> Sequence[Column]:
    """All doors of such a scenario, ours first; none of a scenario of our own door alone."""
    if not scenario.columns:
        return ()
    why_not = None if scenario.samples else "; ".join(finding.text for finding in scenario.findings)
    ours = Column(
        OURS,
        scenario.samples,
        scenario.recovery_seconds,
        curve=scenario.curve,
        why_not=why_not,
        marks=scenario.marks,
    )
    return (ours, *scenario.columns)


def old_way_avoided(scenario: ScenarioResult) -> WaitAvoided | None:
    """What people were spared in this trouble; `None` where the old way was not tried in it."""
    return next((column.wait_avoided for column in scenario.columns if column.name == OLD_WAY), None)


def judged(ours: Column) -> list[Finding]:
    """What our own door must do in a play whose clients all hold a good, signed token."""
    waits = in_trouble(ours.samples)
    if not waits:
        return [Finding("played", held=False, text=ours.why_not or "the door was not tried")]
    last = longest(waits)
    limit = MAX_WAIT_SECONDS + (ours.lag_seconds or 0.0)
    outside = sum(sample.outcome is not Outcome.ALLOW for sample in waits)
    recovery = ours.recovery_seconds
    return [
        Finding(
            "answered in time",
            last.seconds <= limit,
            f"the longest wait was {waited(last)}, of at most {limit:.2f} s",
            last.seconds,
            round(limit, 4),
        ),
        Finding(
            "who is proven gets in",
            not outside,
            f"{outside} of {len(waits)} were kept out",
            float(outside),
            0.0,
        ),
        Finding(
            "well again",
            recovery is not None and recovery <= MAX_RECOVERY_SECONDS,
            "never" if recovery is None else f"{recovery:.1f} s after the repair",
            recovery,
            MAX_RECOVERY_SECONDS,
        ),
    ]
