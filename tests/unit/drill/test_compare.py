"""Two drills beside each other: what is missing, broken or slower in the second one never passes in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.drill_support import BROKEN, HELD, a_drill, crowd, own, told

from doorward.drill.compare import Compared, compared, in_common
from doorward.drill.results import DrillResult, Finding, Outcome, Phase, ScenarioResult


def played(
    name: str = "silence", *findings: Finding, seconds: float = 0.5, healed: float | None = 1.0
) -> ScenarioResult:
    samples = [told(Outcome.ALLOW, 0.03, phase=Phase.HEALTHY), *crowd(Outcome.ALLOW, seconds)]
    return replace(own(name, "crowds", *(findings or (HELD,)), samples=samples), recovery_seconds=healed)


def rows(before: DrillResult, after: DrillResult, max_ratio: float = 2.0) -> dict[tuple[str, str], Compared]:
    return {(row.scenario, row.measure): row for row in compared(before, after, max_ratio=max_ratio)}


def bad(before: DrillResult, after: DrillResult) -> set[tuple[str, str]]:
    return {key for key, row in rows(before, after).items() if not row.held}


def test_a_drill_beside_itself_holds_in_every_measure() -> None:
    drill = a_drill(played("silence"), played("drip"))

    found = rows(drill, drill)

    assert all(row.held for row in found.values())
    assert {measure for _, measure in found} == {
        "median wait, healthy", "longest wait, healthy", "median wait, fault", "longest wait, fault", "recovery",
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "held"), [(0.9, True), (1.1, False)])
def test_slower_than_the_ratio_allows_is_worse(seconds: float, held: bool) -> None:
    found = rows(a_drill(played(seconds=0.5)), a_drill(played(seconds=seconds)))

    assert found["silence", "median wait, fault"].held is held
    assert found["silence", "median wait, fault"].ratio == pytest.approx(seconds / 0.5)


def test_noise_below_the_floor_is_no_difference() -> None:
    assert not bad(a_drill(played(seconds=0.001)), a_drill(played(seconds=0.03)))


def test_a_scenario_that_the_second_has_not_is_missed() -> None:
    before = a_drill(played("silence"), played("drip"))

    assert bad(before, a_drill(played("silence"))) == {("drip", "played")}


def test_a_scenario_that_only_the_second_has_is_told_and_must_hold_too() -> None:
    more = rows(a_drill(played("silence")), a_drill(played("silence"), played("drip")))
    assert more["drip", "played"].held
    assert more["drip", "played"].text == "in the second file only"

    assert bad(a_drill(played("silence")), a_drill(played("silence"), played("drip", BROKEN))) == {("drip", "rules")}


def test_a_broken_rule_is_worse_than_any_slowness() -> None:
    found = rows(a_drill(played()), a_drill(played("silence", HELD, BROKEN)))
    assert not found["silence", "rules"].held
    assert found["silence", "rules"].text == "broken: in-time"

    still = rows(a_drill(played("silence", BROKEN)), a_drill(played("silence", BROKEN)))
    assert not still["silence", "rules"].held
    assert "did not hold either" in still["silence", "rules"].text

    mended = rows(a_drill(played("silence", BROKEN)), a_drill(played("silence")))
    assert mended["silence", "rules"].held


def test_what_never_was_well_again_is_missed() -> None:
    before, after = a_drill(played(healed=1.0)), a_drill(played(healed=None))

    assert bad(before, after) == {("silence", "recovery")}
    assert rows(before, after)["silence", "recovery"].text == "never well again"


def test_a_phase_that_was_not_measured_is_missed() -> None:
    silent = replace(played(), samples=[told(Outcome.ALLOW, 0.03, phase=Phase.HEALTHY)])

    assert bad(a_drill(played()), a_drill(silent)) == {
        ("silence", "median wait, fault"),
        ("silence", "longest wait, fault"),
    }


def test_drills_of_different_scenarios_have_nothing_in_common() -> None:
    assert in_common(a_drill(played("silence")), a_drill(played("silence"), played("drip")))
    assert not in_common(a_drill(played("silence")), a_drill(played("drip")))
    assert not in_common(a_drill(), a_drill())
