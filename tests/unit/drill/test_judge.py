"""The judge finds what is planted, and nothing where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doorward.drill.judge import Evidence, judge
from doorward.drill.results import Decision, Kind, Outcome, Phase, Reading, Sample
from doorward.drill.scenarios import Rules

RULES = Rules(
    expect={(Phase.FAULT, Kind.JWT): frozenset({"allow:*"}), (Phase.FAULT, Kind.OPAQUE): frozenset({"unavailable:*"})}
)
LET_IN = Sample(Phase.FAULT, Kind.JWT, 1.0, 0.5, Outcome.ALLOW, status=101, assurance="local", decision_id="d1")
TOLD_WHY = Sample(
    Phase.FAULT, Kind.OPAQUE, 1.0, 1.9, Outcome.UNAVAILABLE, status=503, code="SERVICE_UNAVAILABLE", cause="deadline",
    retry_after_ms=1500, decision_id="d2",
)  # fmt: skip
LOGGED = (
    Decision("d1", 1.0, "allow", "patience", "local", ms=500.0, overrun_ms=0.0, assurance="local"),
    Decision("d2", 1.0, "unavailable", "fallback", "deadline", ms=1900.0, overrun_ms=0.0, code="SERVICE_UNAVAILABLE"),
)
LOOK = Reading(0.0, 0.001, tasks=10, connections=0, admitted=0, abandoned=0, files=30)
GOOD = Evidence(
    samples=(LET_IN, TOLD_WHY), decisions=LOGGED, readings=(LOOK,), baseline=LOOK, final=LOOK, recovery_seconds=1.2
)


def broken_rules(evidence: Evidence, rules: Rules = RULES) -> set[str]:
    return {finding.rule for finding in judge(rules, evidence) if not finding.held}


def test_where_nothing_is_wrong_nothing_is_found() -> None:
    assert broken_rules(GOOD) == set()


@pytest.mark.parametrize(
    ("evidence", "rule"),
    [
        (replace(GOOD, troubles=("the door did not start",)), "played"),
        (replace(GOOD, samples=()), "played"),
        (replace(GOOD, samples=(*GOOD.samples, replace(LET_IN, kind=Kind.FORGED))), "proof"),
        (replace(GOOD, samples=(*GOOD.samples, replace(LET_IN, kind=Kind.REJECTED))), "proof"),
        (replace(GOOD, samples=(*GOOD.samples, replace(LET_IN, kind=Kind.OPAQUE))), "proof"),
        (replace(GOOD, unasked=("d1",)), "proof"),
        (replace(GOOD, asked_in_vain=1), "asked-in-vain"),
        (replace(GOOD, samples=(replace(LET_IN, outcome=Outcome.DENY, code="TOKEN_INVALID", status=401), TOLD_WHY)), "verdict"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, status=401))), "wire"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, retry_after_ms=None))), "wire"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, seconds=3.0))), "in-time"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, outcome=Outcome.SILENT, code=None))), "in-time"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], overrun_ms=60.0))), "overrun"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], ms=2500.0))), "decision"),
        (replace(GOOD, decisions=LOGGED[:1]), "log"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], verdict="deny"))), "log"),
        (replace(GOOD, lost_lines=1), "log"),
        (replace(GOOD, final=None), "leaks"),
        (replace(GOOD, final=replace(LOOK, tasks=11)), "leaks: tasks"),
        (replace(GOOD, final=replace(LOOK, connections=1)), "leaks: sockets"),
        (replace(GOOD, final=replace(LOOK, files=31)), "leaks: open files"),
    ],
)  # fmt: skip
def test_what_is_planted_is_found(evidence: Evidence, rule: str) -> None:
    assert rule in broken_rules(evidence)


def test_an_outage_told_as_a_refusal_is_named_as_such() -> None:
    confused = replace(LET_IN, outcome=Outcome.DENY, code="TOKEN_INVALID", status=401)
    texts = [finding.text for finding in judge(RULES, replace(GOOD, samples=(confused, TOLD_WHY)))]
    assert any("an outage was told as a refusal" in text for text in texts)


def test_the_lag_of_the_loop_is_allowed_for() -> None:
    late = (LOGGED[0], replace(LOGGED[1], overrun_ms=140.0))
    assert "overrun" in broken_rules(replace(GOOD, decisions=late))
    assert "overrun" not in broken_rules(replace(GOOD, decisions=late, readings=(replace(LOOK, lag_seconds=0.1),)))


@pytest.mark.parametrize(("seconds", "held"), [(4.9, True), (5.1, False), (None, False)])
def test_recovery_has_five_seconds(seconds: float | None, held: bool) -> None:
    rules = replace(RULES, recovery_seconds=5.0)
    assert ("recovery" in broken_rules(replace(GOOD, recovery_seconds=seconds), rules)) is not held
