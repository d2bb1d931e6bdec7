"""The small pictures of one fault: a row for each door, on scales that are the same in every picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from tests.drill_support import MARKS, doors, told

from doorward.drill.panels import AROUND, LOG, WIDTH, timeline, waits
from doorward.drill.results import OURS, Column, Outcome, Phase


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def test_every_door_has_a_row_and_ours_is_told_from_the_others() -> None:
    svg = parsed(waits(doors(), deadline_seconds=2.0))
    names = [each.text for each in svg.iter("text")]
    styles = [each.get("class") for each in svg.iter("rect")]

    assert {column.name for column in doors()} <= set(names)
    assert styles.count("bar ours") == 1
    assert styles.count("bar") > 5


def test_doors_are_held_against_each_other_on_one_log_scale() -> None:
    svg = parsed(
        waits([Column(OURS, [told(Outcome.ALLOW, 0.5)]), Column("x", [told(Outcome.DENY, 30.0)])], deadline_seconds=2)
    )
    ours, other = (float(each.get("x", "")) for each in svg.iter("rect"))

    assert ours <= LOG.x(0.5) <= ours + 10
    assert other <= LOG.x(30.0) <= other + 10


def test_only_the_fault_is_in_the_waits() -> None:
    healthy = told(Outcome.ALLOW, 9.0, phase=Phase.HEALTHY)
    svg = parsed(waits([Column(OURS, [told(Outcome.ALLOW, 0.5), healthy])], deadline_seconds=2.0))

    assert len(list(svg.iter("rect"))) == 1


def test_the_timeline_is_laid_by_each_doors_own_repair() -> None:
    late = Column("x", [told(Outcome.ALLOW, 0.5, at=91.5)], 4.0, marks={"fault": 3.0, "repair": 82.0})
    svg = parsed(timeline([late]))
    (mark,) = svg.iter("path")
    well = next(each for each in svg.iter("line") if each.get("class") == "well")

    assert float(re.match(r"M([\d.]+)", mark.get("d", ""))[1]) == pytest.approx(AROUND.x(10.0), abs=0.5)  # type: ignore[index]
    assert float(well.get("x1", "")) == pytest.approx(AROUND.x(4.0), abs=0.1)


def test_who_was_not_well_again_has_no_line_that_says_so() -> None:
    sick = Column("x", [told(Outcome.DENY, 0.5)], None, marks=MARKS)

    assert "well" not in {each.get("class") for each in parsed(timeline([sick])).iter("line")}


def test_nothing_is_drawn_outside_of_a_picture() -> None:
    for picture in (waits(doors(), deadline_seconds=2.0), timeline(doors())):
        svg = parsed(picture)
        height = float(svg.get("viewBox", "").split()[3])
        for each in svg.iter():
            for name, most in (
                ("x", WIDTH),
                ("x1", WIDTH),
                ("x2", WIDTH),
                ("y", height),
                ("y1", height),
                ("y2", height),
            ):
                assert -1 <= float(each.get(name, 0)) <= most, ET.tostring(each)
