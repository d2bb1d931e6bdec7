"""The wide pictures: a bar lies where its number says, and nothing is drawn outside."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from tests.drill_support import a_whole_drill, crowd, own, told

from doorward.drill.figures import LANES, LOG, WIDTH, lanes, storm, waits
from doorward.drill.results import OURS, CurvePoint, Kind, Outcome, Phase
from doorward.drill.seen import Saw


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def bars(svg: str) -> list[ET.Element]:
    return [each for each in parsed(svg).iter("rect") if "bar" in each.get("class", "")]


def words(svg: str) -> list[str]:
    return [each.text or "" for each in parsed(svg).iter("text")]


def test_a_wait_lies_where_it_belongs_on_the_log_scale() -> None:
    for seconds in (0.001, 0.01, 0.5, 2.0, 35.0, 90.0):
        (bar,) = bars(waits({OURS: [told(Outcome.ALLOW, seconds)]}, deadline_seconds=2.0))
        left = float(bar.get("x", ""))
        assert left - 0.1 <= LOG.x(seconds) <= left + float(bar.get("width", "")) + 1.2


def test_what_is_off_the_scale_is_drawn_at_its_edge() -> None:
    for seconds in (0.0, 0.0001, 150.0):
        (bar,) = bars(waits({"x": [told(Outcome.ALLOW, seconds)]}, deadline_seconds=2.0))
        assert LOG.left <= float(bar.get("x", "")) <= LOG.right


def test_every_door_has_its_row_with_its_numbers() -> None:
    svg = waits({OURS: crowd(Outcome.ALLOW, 0.5), "a & b": crowd(Outcome.SILENT, 90.004)}, deadline_seconds=2.0)

    assert "doorward: half within 500 ms, the longest 500 ms" in words(svg)
    assert "a & b: half within > 90 s, the longest > 90 s" in words(svg)
    assert "deadline 2 s" in words(svg)
    assert "bar ours" in {each.get("class") for each in bars(svg)}


def test_the_storm_has_one_scale_for_all_its_rows() -> None:
    curves = {OURS: [], "old": [CurvePoint(0.0, 0), CurvePoint(1.0, 40)], "new": [CurvePoint(0.0, 10)]}
    svg = storm(curves)

    tall, short = sorted((float(each.get("height", "")) for each in bars(svg)), reverse=True)
    assert tall == pytest.approx(4 * short, rel=0.01)
    assert "doorward: nobody had to come back" in words(svg)
    assert "old: 40 returns, 40 in the busiest second" in words(svg)
    assert not any("told to come" in each for each in words(svg))


def test_the_rate_that_was_asked_for_is_a_line_at_its_height() -> None:
    svg = storm({OURS: [CurvePoint(0.0, 50), CurvePoint(1.0, 200)]}, rate=100.0)
    line = next(each for each in parsed(svg).iter("line") if each.get("class") == "limit")
    lower, higher = sorted(float(each.get("y", "")) for each in bars(svg))[::-1]

    assert higher < float(line.get("y1", "")) < lower
    assert "told to come at 100 /s" in words(svg)


def test_a_lane_shows_good_tokens_around_the_repair_alone() -> None:
    shown = [told(Outcome.DENY, 0.5, at=22.0), told(Outcome.ALLOW, 0.1, at=23.0, phase=Phase.REPAIR)]
    hidden = [told(Outcome.DENY, 0.5, kind=Kind.FORGED), told(Outcome.ALLOW, 0.1, at=60.0)]
    svg = lanes([own("silence/cold/with-keys/breaker-open", "matrix", samples=[*shown, *hidden])])
    marks = list(parsed(svg).iter("path"))

    assert {each.get("class") for each in marks} == {"no", "live"}
    where = {each.get("class"): float(re.match(r"M([\d.]+)", each.get("d", ""))[1]) for each in marks}  # type: ignore[index]
    assert where["no"] == pytest.approx(LANES.x(0.0), abs=0.5)
    assert where["live"] == pytest.approx(LANES.x(0.6), abs=0.5)
    assert "silence, cold, keys, open" in words(svg)


def test_nothing_is_drawn_outside_of_a_picture() -> None:
    drill = a_whole_drill()
    pictures = [
        waits({"x": [sample for each in drill.scenarios for sample in each.samples]}, deadline_seconds=2.0),
        storm({"x": drill.scenarios[3].curve}, rate=100.0),
        lanes(drill.scenarios[:2]),
    ]
    for svg in pictures:
        height = float(parsed(svg).get("viewBox", "").split()[3])
        for each in parsed(svg).iter():
            for name, most in (
                ("x", WIDTH),
                ("x1", WIDTH),
                ("x2", WIDTH),
                ("y", height),
                ("y1", height),
                ("y2", height),
            ):
                assert -1 <= float(each.get(name, 0)) <= most, ET.tostring(each)


def test_every_thing_that_can_be_seen_has_a_mark() -> None:
    outcomes = list(Outcome)
    samples = [told(each, 0.5, at=22.0) for each in outcomes] + [told(Outcome.UNAVAILABLE, 3.0, at=22.0)]
    samples.append(told(Outcome.ALLOW, 0.5, at=22.0, phase=Phase.REPAIR))
    svg = lanes([own("x", "matrix", samples=samples)])

    assert len(list(parsed(svg).iter("path"))) == len(Saw)
