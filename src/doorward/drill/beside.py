"""Doors side by side: what was measured of each in the same trouble becomes one scenario, and our own column is judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from doorward.drill.faults import TROUBLES
from doorward.drill.results import OURS, Column, Finding, Outcome, Phase, ScenarioResult

FAULTS = (
    "silence",
    "drip",
    "refused",
    "error-500",
    "black-hole",
    "header-stall",
    "secret-refused",
    "flapping",
)
"""The troubles that every door is measured on. Those of TLS and of names are not among them: each door would need its own."""

FAMILY = "beside"
"""What their names begin with."""

STORM_FAULT = "silence"
MAX_WAIT_SECONDS = 2.5
"""The deadline, and what a crowd of clients needs on its own side."""

MAX_RECOVERY_SECONDS = 5.0


def split(only: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Patterns that mean scenarios of our own door, and the faults of `FAULTS` that any pattern means (all, if there is none)."""
    own = [pattern for pattern in only if pattern.partition("/")[0] != FAMILY]
    names = {fault: (fault, f"{FAMILY}/{fault}", FAMILY) for fault in FAULTS}
    meant = [fault for fault in FAULTS if any(fnmatchcase(name, one) for name in names[fault] for one in only)]
    return own, meant if only else FAULTS


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
        recovery_seconds=ours.recovery_seconds,
        samples=ours.samples,
        columns=[column for column in columns if column.name != OURS],
    )


def judged(ours: Column) -> list[Finding]:
    """What our own door must do in a play whose clients all hold a good, signed token."""
    waits = [sample for sample in ours.samples if sample.phase is Phase.FAULT]
    if not waits:
        return [Finding("played", held=False, text=ours.note or "the door was not tried")]
    longest = max(sample.seconds for sample in waits)
    outside = sum(sample.outcome is not Outcome.ALLOW for sample in waits)
    recovery = ours.recovery_seconds
    return [
        Finding(
            "answered in time",
            longest <= MAX_WAIT_SECONDS,
            f"the longest wait was {longest_wait(ours)}",
            longest,
            MAX_WAIT_SECONDS,
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


def longest_wait(column: Column) -> str | None:
    """The longest that anybody waited in the trouble, in words: `35.2 s`, or `> 90 s` of who gave up."""
    waits = [sample for sample in column.samples if sample.phase is Phase.FAULT]
    if not waits:
        return None
    longest = max(waits, key=lambda sample: sample.seconds)
    return f"> {longest.seconds:.0f} s" if longest.censored else f"{longest.seconds:.1f} s"
