"""Doors side by side: our column is judged, the others are shown, and who gave up is told as such."""

from __future__ import annotations

from dataclasses import replace

import pytest

from doorward.drill.beside import FAULTS, STORM_FAULT, as_scenarios, columns_of, judged, old_way_avoided, split
from doorward.drill.faults import TROUBLES
from doorward.drill.results import OURS, Column, CurvePoint, Kind, Outcome, Phase, Sample, WaitAvoided
from doorward.errors import UsageError

CURVE = [CurvePoint(0.0, 40)]


def waited(*seconds: float, outcome: Outcome = Outcome.ALLOW) -> list[Sample]:
    healthy = Sample(Phase.HEALTHY, Kind.JWT, 0.0, 99.0, Outcome.ALLOW)
    return [healthy, *(Sample(Phase.FAULT, Kind.JWT, 1.0, each, outcome) for each in seconds)]


def ours(*seconds: float, outcome: Outcome = Outcome.ALLOW, recovery: float | None = 0.5) -> Column:
    return Column(OURS, waited(*seconds, outcome=outcome), recovery, 90.0, CURVE)


OLD = Column("post-mortem", waited(36.0, outcome=Outcome.DENY), 1.3, 90.0, CURVE)


def test_ours_stands_in_the_scenario_and_the_others_beside_it() -> None:
    silence, refused = as_scenarios({STORM_FAULT: [ours(0.5), OLD], "refused": [ours(0.1), OLD]})

    assert (silence.name, silence.family, silence.held) == ("beside/silence", "other doors", True)
    assert silence.samples == ours(0.5).samples
    assert silence.recovery_seconds == 0.5
    assert silence.seconds == 99.0
    assert silence.columns == [replace(OLD, wait_avoided=WaitAvoided(35.5, 35.5))]
    assert silence.curve == CURVE
    assert (refused.curve, refused.columns[0].curve) == ((), ()), "one picture of each door is enough"


def test_every_trouble_there_is_is_played_on_other_doors() -> None:
    assert set(FAULTS) == set(TROUBLES)


def test_the_columns_of_such_a_scenario_are_all_doors_with_ours_first() -> None:
    (scenario,) = as_scenarios({"silence": [OLD, ours(0.5)]})
    first, second = columns_of(scenario)

    assert (first.name, first.samples, first.recovery_seconds) == (OURS, ours(0.5).samples, 0.5)
    assert second.name == OLD.name
    assert old_way_avoided(scenario) == WaitAvoided(35.5, 35.5)


def test_where_ours_was_not_tried_its_column_says_why() -> None:
    (scenario,) = as_scenarios({"silence": [Column(OURS, why_not="did not start"), OLD]})

    assert columns_of(scenario)[0].why_not == "did not start"
    assert old_way_avoided(scenario) is None


def test_a_scenario_of_our_own_door_alone_has_no_columns() -> None:
    (scenario,) = as_scenarios({"silence": [ours(0.5)]})

    assert columns_of(scenario) == ()
    assert old_way_avoided(scenario) is None


def test_what_others_do_is_not_held_against_us() -> None:
    assert as_scenarios({"refused": [OLD, ours(0.1)]})[0].held


@pytest.mark.parametrize(
    ("column", "broken"),
    [
        (ours(0.5, 2.4), set()),
        (ours(0.5, 2.6), {"answered in time"}),
        (ours(0.5, outcome=Outcome.DENY), {"who is proven gets in"}),
        (ours(90.0, outcome=Outcome.SILENT), {"answered in time", "who is proven gets in"}),
        (ours(0.5, recovery=5.1), {"well again"}),
        (ours(0.5, recovery=None), {"well again"}),
        (Column(OURS, why_not="did not start"), {"played"}),
    ],
)
def test_each_rule_for_ours_can_be_broken(column: Column, broken: set[str]) -> None:
    assert {finding.rule for finding in judged(column) if not finding.held} == broken


def test_a_drill_without_our_own_door_does_not_hold() -> None:
    assert not as_scenarios({"refused": [OLD]})[0].held


@pytest.mark.parametrize(
    ("only", "own", "faults"),
    [
        ([], [], FAULTS),
        (["silence"], ["silence"], ["silence"]),
        (["beside/dr*"], [], ["drip"]),
        (["beside"], [], list(FAULTS)),
        (["key-rotation"], ["key-rotation"], []),
    ],
)
def test_a_pattern_means_ours_or_a_fault_of_the_others(only: list[str], own: list[str], faults: list[str]) -> None:
    assert split(only) == (own, faults)


def test_a_pattern_of_other_doors_that_means_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="beside/locusts"):
        split(["silence", "beside/locusts"])
