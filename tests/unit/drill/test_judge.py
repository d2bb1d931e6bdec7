"""The judge finds what is planted, and nothing where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doorward.drill.evidence import Evidence, Stray
from doorward.drill.judge import judge
from doorward.drill.results import Decision, Finding, Kind, Outcome, Phase, Reading, Sample
from doorward.drill.scenarios import CUT, Behaviour, Rules, StormRule, StrayRule, answered, closed

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
        (replace(GOOD, samples=(replace(LET_IN, phase=Phase.HEALED), TOLD_WHY)), "verdict"),
        (replace(GOOD, samples=(replace(LET_IN, assurance=None, kind=Kind.OPAQUE), TOLD_WHY)), "verdict"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, status=401))), "wire"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, retry_after_ms=999))), "wire"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, retry_after_ms=None))), "wire"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, seconds=3.0))), "in-time"),
        (replace(GOOD, samples=(LET_IN, replace(TOLD_WHY, outcome=Outcome.SILENT, code=None))), "in-time"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], overrun_ms=60.0))), "overrun"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], ms=2500.0))), "decision"),
        (replace(GOOD, decisions=()), "decision"),
        (replace(GOOD, samples=(replace(LET_IN, seconds=0.7), TOLD_WHY)), "unlogged"),
        (replace(GOOD, decisions=LOGGED[:1]), "log"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], verdict="deny"))), "log"),
        (replace(GOOD, decisions=(LOGGED[0], replace(LOGGED[1], code="OVERLOADED"))), "log"),
        (replace(GOOD, samples=(replace(LET_IN, decision_id=None), TOLD_WHY)), "log"),
        (replace(GOOD, lost_lines=1), "log"),
        (replace(GOOD, final=None), "leaks"),
        (replace(GOOD, baseline=None), "leaks"),
        (replace(GOOD, final=replace(LOOK, tasks=11)), "leaks: tasks"),
        (replace(GOOD, final=replace(LOOK, connections=1)), "leaks: sockets"),
        (replace(GOOD, final=replace(LOOK, admitted=1)), "leaks: admitted sockets"),
        (replace(GOOD, baseline=replace(LOOK, admitted=1), final=replace(LOOK, admitted=1)), "leaks: admitted sockets"),
        (replace(GOOD, final=replace(LOOK, abandoned=1)), "leaks: abandoned calls"),
        (replace(GOOD, baseline=replace(LOOK, abandoned=2), final=replace(LOOK, abandoned=1)), "leaks: abandoned calls"),
        (replace(GOOD, final=replace(LOOK, files=31)), "leaks: open files"),
        (replace(GOOD, final=replace(LOOK, files=30, upstream=-1)), "leaks: open files"),
        (replace(GOOD, final=replace(LOOK, files=None)), "leaks: open files"),
        (replace(GOOD, baseline=replace(LOOK, admitted=None), final=replace(LOOK, admitted=None)), "leaks: admitted sockets"),
        (replace(GOOD, final=replace(LOOK, tasks=None)), "leaks: tasks"),
    ],
)  # fmt: skip
def test_what_is_planted_is_found(evidence: Evidence, rule: str) -> None:
    assert rule in broken_rules(evidence)


def test_an_outage_told_as_a_refusal_is_named_as_such() -> None:
    confused = replace(LET_IN, outcome=Outcome.DENY, code="TOKEN_INVALID", status=401)
    texts = [finding.text for finding in judge(RULES, replace(GOOD, samples=(confused, TOLD_WHY)))]
    assert any("an outage was told as a refusal" in text for text in texts)


def test_connections_kept_to_the_auth_service_are_no_leak() -> None:
    assert broken_rules(replace(GOOD, final=replace(LOOK, files=33, upstream=3))) == set()


def test_where_there_is_no_process_table_open_files_are_not_counted() -> None:
    unseen = replace(LOOK, files=None)
    assert broken_rules(replace(GOOD, baseline=unseen, final=unseen)) == set()


def test_of_a_door_that_is_not_ours_only_what_clients_see_is_judged() -> None:
    outside = replace(RULES, inside=False)
    assert broken_rules(Evidence(samples=(LET_IN,), recovery_seconds=1.0), outside) == set()
    assert broken_rules(Evidence(samples=(replace(LET_IN, seconds=2.5),), recovery_seconds=1.0), outside) == {"in-time"}


def test_a_fault_that_nothing_has_met_proves_nothing() -> None:
    rules = replace(RULES, felt=True)
    assert broken_rules(GOOD, rules) == {"felt"}
    assert broken_rules(replace(GOOD, felt=3), rules) == set()


def test_the_lag_of_the_loop_is_allowed_for() -> None:
    late = (LOGGED[0], replace(LOGGED[1], overrun_ms=140.0))
    assert "overrun" in broken_rules(replace(GOOD, decisions=late))
    assert "overrun" not in broken_rules(replace(GOOD, decisions=late, readings=(replace(LOOK, lag_seconds=0.1),)))


def test_a_client_may_wait_as_long_as_at_a_null_server() -> None:
    late = replace(GOOD, samples=(replace(LET_IN, seconds=0.85), replace(TOLD_WHY, seconds=2.1)))
    assert broken_rules(late) == {"in-time", "unlogged"}
    assert broken_rules(replace(late, null_seconds=0.17)) == set()
    assert broken_rules(replace(late, client_lag_seconds=0.16)) == set()
    assert broken_rules(replace(late, readings=(replace(LOOK, lag_seconds=0.16),))) == set()


@pytest.mark.parametrize(("seconds", "held"), [(4.9, True), (5.1, False), (None, False)])
def test_recovery_has_five_seconds(seconds: float | None, held: bool) -> None:
    rules = replace(RULES, recovery_seconds=5.0)
    assert ("recovery" in broken_rules(replace(GOOD, recovery_seconds=seconds), rules)) is not held


# --- clients at fault -------------------------------------------------------------------------------------------------

SILENT = Behaviour.SAYS_NOTHING
UNSPOKEN = Behaviour.NO_AUTH_FRAME
TOO_LATE = closed(3008, "AUTH_TIMEOUT")


def stray_findings(behaviour: Behaviour, rule: StrayRule, *strays: Stray, connections: int = 0) -> dict[str, Finding]:
    seen = replace(GOOD, strays=strays, readings=(replace(LOOK, connections=connections),))
    found = judge(replace(RULES, strays={behaviour: rule}), seen)
    return {finding.rule: finding for finding in found if str(behaviour) in finding.rule}


@pytest.mark.parametrize(
    ("rule", "stray", "held"),
    [
        (StrayRule(1, 3.0), Stray(SILENT, 2.9, CUT), True),
        (StrayRule(1, 3.0), Stray(SILENT, 3.2, CUT), False),
        (StrayRule(1, 3.0), Stray(SILENT, 2.9, None), False),
        (StrayRule(1, 3.0), Stray(SILENT, 2.9, answered(408)), False),
        (StrayRule(1, 0.1, frozenset({answered(431)})), Stray(SILENT, 0.05, answered(431)), True),
        (StrayRule(1, 0.1, frozenset({answered(431)})), Stray(SILENT, 0.05, CUT), False),
        (StrayRule(1, 1.6, frozenset({TOO_LATE})), Stray(SILENT, 1.5, TOO_LATE), True),
        (StrayRule(1, 1.6, frozenset({TOO_LATE})), Stray(SILENT, 1.5, closed(3008)), False),
        (StrayRule(1, 1.6, frozenset({TOO_LATE})), Stray(SILENT, 1.5, closed(3000, "AUTH_REQUIRED")), False),
        (StrayRule(1, 1.6, frozenset({TOO_LATE})), Stray(SILENT, 1.5, CUT), False),
        (StrayRule(1, 9.0, frozenset({CUT, closed(1013)})), Stray(SILENT, 1.5, closed(1013)), True),
        (StrayRule(1, 9.0, frozenset({CUT, closed(1013)})), Stray(SILENT, 1.5, closed(1011)), False),
        (StrayRule(2, 3.0), Stray(SILENT, 2.9, CUT), False),  # one of two is missing: it could not even be opened
        (StrayRule(1, 3.0), Stray(UNSPOKEN, 2.9, CUT), False),  # somebody else's end
    ],
)
def test_how_a_client_at_fault_must_end(rule: StrayRule, stray: Stray, held: bool) -> None:
    assert stray_findings(SILENT, rule, stray)["stray: says-nothing"].held is held


def test_clients_at_fault_of_whom_nothing_was_seen_prove_nothing() -> None:
    assert not stray_findings(SILENT, StrayRule(3, 3.0))["stray: says-nothing"].held


def test_those_who_ended_otherwise_are_named() -> None:
    finding = stray_findings(SILENT, StrayRule(3, 3.0), Stray(SILENT, 1.0, CUT), Stray(SILENT, 8.0, None))[
        "stray: says-nothing"
    ]
    assert "1 of 3 clients were cut" in finding.text
    assert "left open (1)" in finding.text


@pytest.mark.parametrize(("connections", "held"), [(100, True), (101, False), (0, False)])
def test_a_siege_must_be_seen_and_may_not_fill_the_door(connections: int, held: bool) -> None:
    rule = StrayRule(1, 3.0, at_once=100)
    found = stray_findings(SILENT, rule, Stray(SILENT, 1.0, CUT), connections=connections)
    assert found["bounded: says-nothing"].held is held


@pytest.mark.parametrize(
    ("echoes", "held"),
    [((0.1, 0.2), True), ((0.1, None), False), ((0.1, 2.5), False), ((), False)],
)
def test_a_neighbour_must_be_served(echoes: tuple[float | None, ...], held: bool) -> None:
    rules = replace(RULES, neighbour=True)
    assert ("neighbour" in broken_rules(replace(GOOD, echoes=echoes), rules)) is not held


# --- a storm ----------------------------------------------------------------------------------------------------------

STORM = replace(RULES, storm=StormRule(10.0, 40, within_seconds=20.0))
SENT_AWAY = tuple(replace(TOLD_WHY, at_seconds=number / 100, seconds=0.01, decision_id="d2") for number in range(40))
SPREAD = tuple(1.0 + number / 10 for number in range(40))


def storm(**seen: object) -> Evidence:
    """40 clients are told to wait, come back over four seconds, and are in."""
    good = replace(GOOD, samples=SENT_AWAY, returns=SPREAD, returned=40, returned_within_seconds=6.0, repaired_at=1.0)
    return replace(good, **seen)  # type: ignore[arg-type]


def test_a_crowd_that_comes_back_spread_out_is_right() -> None:
    assert broken_rules(storm(), STORM) == set()


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        ({"returned": 39}, "storm: all back"),
        ({"returned_within_seconds": 20.5}, "storm: all back"),
        ({"returned_within_seconds": None}, "storm: all back"),
        ({"returns": SPREAD[:39]}, "storm: all back"),  # somebody was never sent away: that was no storm
        ({"returns": (2.0,) * 40}, "storm: spread out"),
        ({"returns": ()}, "storm: spread out"),
        ({"samples": tuple(replace(each, retry_after_ms=None) for each in SENT_AWAY)}, "wire"),
    ],
)
def test_a_storm_that_went_wrong_is_found(seen: dict[str, object], rule: str) -> None:
    assert rule in broken_rules(storm(**seen), STORM)


def test_the_second_that_saw_too_many_is_named() -> None:
    (finding,) = (each for each in judge(STORM, storm(returns=(2.5,) * 40)) if each.rule == "storm: spread out")
    assert "40 came in the second that ended 2 s after the repair" in finding.text
    assert finding.limit is not None
    assert finding.limit < 40
