"""A small drill with everything in it that a report can show, made of plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

from doorward.drill.beside import FAULTS, as_scenarios
from doorward.drill.peers import OURS_TOO, RIVALS
from doorward.drill.results import (
    OURS,
    Column,
    CurvePoint,
    DrillResult,
    Finding,
    Kind,
    Machine,
    Outcome,
    Phase,
    Sample,
    ScenarioResult,
)

CROWD = 40
MARKS = {"fault": 10.0, "repair": 22.5}
NOTES = {rival.name: rival.note for rival in (*RIVALS, OURS_TOO)}
HELD = Finding("verdict", held=True, text="every answer was the right one", measured=0.0, limit=0.0)
BROKEN = Finding("in-time", held=False, text="the slowest client waited <3.000> s & more, of at most 2.1 s")


def told(
    outcome: Outcome, seconds: float, *, at: float = 10.0, phase: Phase = Phase.FAULT, kind: Kind = Kind.JWT
) -> Sample:
    """One client's handshake, as each kind of answer looks."""
    assurance = None if outcome is not Outcome.ALLOW else "local" if phase is Phase.FAULT and seconds < 2 else "live"
    retry = 1500 if outcome is Outcome.UNAVAILABLE and seconds < 2 else None
    return Sample(phase, kind, at, seconds, outcome, assurance=assurance, retry_after_ms=retry)


def crowd(outcome: Outcome, seconds: float, *, number: int = CROWD, step: float = 0.0) -> list[Sample]:
    """All at once, each a little later than the one before; and one more after the repair."""
    during = [told(outcome, round(seconds + step * each, 4)) for each in range(number)]
    return [*during, told(Outcome.ALLOW, 0.02, at=23.0, phase=Phase.REPAIR)]


def doors(*, old_way: float = 30.0, tried: bool = True) -> list[Column]:
    """What six doors made of one trouble."""
    curve = [CurvePoint(float(second), CROWD if second % 5 == 4 else 0) for second in range(20)]
    columns = [
        Column(OURS, crowd(Outcome.ALLOW, 0.5), 0.2, 90.0, marks=MARKS),
        Column("post-mortem", crowd(Outcome.DENY, 0.3, step=old_way / CROWD), 1.3, 90.0, curve, marks=MARKS),
        Column("post-mortem fix", crowd(Outcome.DENY, 0.5), None, 90.0, curve, marks=MARKS),
        Column("nginx", crowd(Outcome.SILENT, 90.004), 0.1, 90.0, curve[:5], marks=MARKS),
        Column("nginx 500 ms", crowd(Outcome.UNAVAILABLE, 3.0), 0.1, 90.0, curve, marks=MARKS),
        Column("Envoy 500 ms", crowd(Outcome.BROKEN, 0.5), 27.0, 90.0, curve, marks=MARKS),
    ]
    if not tried:
        columns[1] = Column("post-mortem", why_not="it asks the resolver of the system")
    return [
        Column(
            each.name, each.samples, each.recovery_seconds, 90.0, each.curve, NOTES[each.name], each.why_not, each.marks
        )
        for each in columns
    ]


def own(name: str, family: str, *findings: Finding, samples: Sequence[Sample] = (), **more: float) -> ScenarioResult:
    """A scenario of our own door alone."""
    return ScenarioResult(
        name=name,
        family=family,
        title=f"what happens in {name}",
        held=all(finding.held for finding in findings),
        findings=findings,
        factors={"fault": name.partition("/")[0], "cache": "cold"} if family == "matrix" else {},
        seconds=12.0,
        slowest_ms=more.get("slowest_ms"),
        overrun_ms=more.get("overrun_ms"),
        lag_ms=more.get("lag_ms"),
        recovery_seconds=more.get("recovery_seconds"),
        expected_rate_per_second=more.get("rate"),
        samples=samples,
        curve=[CurvePoint(float(second), 90 + second % 20) for second in range(22)] if "rate" in more else (),
        marks=MARKS,
    )


def a_drill(*scenarios: ScenarioResult) -> DrillResult:
    """These scenarios, on a machine that does not exist."""
    machine = Machine("Linux 6.1 x86_64", 2, "3.11.7", {"doorward": "0.1.0", "httpx": "0.28.1", "Envoy": "1.40.0"})
    return DrillResult(
        command="doorward drill --baseline --html drill.html",
        began_at="2026-11-28T14:00:00+00:00",
        seconds=251.3,
        seed=1,
        held=all(scenario.held for scenario in scenarios),
        machine=machine,
        scenarios=scenarios,
        pairs=sum(scenario.family == "matrix" for scenario in scenarios),
    )


def beside(faults: Sequence[str] = FAULTS) -> list[ScenarioResult]:
    """These faults on every door; names are nothing to the old way."""
    return as_scenarios({fault: doors(tried=not fault.startswith("dns")) for fault in faults})


def a_whole_drill() -> DrillResult:
    """Our own door alone, with one scenario that failed, a storm, and all the faults on other doors."""
    mixed = [
        *crowd(Outcome.ALLOW, 0.5),
        *(told(Outcome.UNAVAILABLE, 1.95, kind=Kind.OPAQUE) for _ in range(4)),
        *(told(Outcome.DENY, 0.004, kind=Kind.FORGED) for _ in range(4)),
    ]
    numbers = {"slowest_ms": 1951.2, "overrun_ms": 1.7, "lag_ms": 12.5, "recovery_seconds": 1.1}
    return a_drill(
        own("silence/cold/with-keys/breaker-closed", "matrix", HELD, samples=mixed, **numbers),
        own("drip/warm/without-keys/breaker-open", "matrix", HELD, BROKEN, samples=mixed, **numbers),
        own("big-cookie", "clients", HELD, samples=[told(Outcome.ALLOW, 0.01, phase=Phase.HEALTHY)]),
        own("reconnect-storm", "crowds", HELD, samples=mixed, rate=100.0, **numbers),
        *beside(),
    )
