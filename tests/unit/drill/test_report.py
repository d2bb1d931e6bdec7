"""The report: everything that was measured is on the page, escaped, and like stands beside like."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.drill_support import BROKEN, HELD, a_drill, a_whole_drill, beside, crowd, own, told

from doorward.drill.report import page
from doorward.drill.results import DrillResult, Finding, Kind, Outcome, Phase

VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Complains of tags that do not match; keeps what is named and what is linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        named = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if named.get("href"):
            self.links.append(named["href"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing was opened."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + " "


def read(drill: DrillResult) -> Reader:
    reader = Reader()
    reader.feed(page(drill))
    assert reader.open in ([], ["html"])
    reader.text = " ".join(reader.text.split())
    return reader


def test_the_whole_page_is_well_formed_and_every_link_leads_somewhere() -> None:
    reader = read(a_whole_drill())

    assert len(set(reader.ids)) == len(reader.ids)
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)


def test_the_page_needs_nothing_from_anywhere() -> None:
    text = page(a_whole_drill())

    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=[\"']?(https?:|//)|@import|url\(|<script", text)


def test_every_scenario_and_every_rule_is_on_the_page_escaped() -> None:
    drill = a_whole_drill()
    reader, text = read(drill), page(drill)

    for scenario in drill.scenarios:
        assert scenario.name in reader.text
        for finding in scenario.findings:
            assert " ".join(finding.text.split()) in reader.text
    assert "<3.000>" not in text
    assert "&lt;3.000&gt; s &amp; more" in text


@pytest.mark.parametrize(
    ("drill", "words"),
    [
        (a_drill(own("silence", "crowds", HELD)), "every rule held in 1 scenario"),
        (a_drill(own("silence", "crowds", HELD), own("drip", "crowds", BROKEN)), "1 of 2 scenarios failed"),
    ],
)
def test_the_first_line_says_whether_it_held(drill: DrillResult, words: str) -> None:
    assert words in read(drill).text


def test_what_failed_stands_before_all_else_with_its_rules_and_a_link_to_them() -> None:
    late = Finding("decision", held=False, text="the slowest decision took 3.000 s")
    drill = a_drill(
        own("silence", "crowds", HELD), own("drip", "crowds", HELD, BROKEN, late), own("refused", "crowds", late)
    )
    reader, text = read(drill), page(drill)
    top = text[: text.index("handshakes opened")]

    assert reader.links[:2] == ["#rules/drip", "#rules/refused"]
    assert "in-time</b> (and decision): the slowest client waited &lt;3.000&gt; s &amp; more, of at most 2.1 s" in top
    assert "decision</b>: the slowest decision took 3.000 s" in top
    assert "silence" not in top
    assert re.findall(r'<details id="([^"]*)" open>', text) == ["rules/drip", "rules/refused"]


def test_where_all_held_nothing_speaks_of_failing() -> None:
    drill = a_drill(own("silence", "crowds", HELD), *beside(["drip"]))

    assert "failed" not in read(drill).ids
    assert not re.search("failed", read(drill).text, re.IGNORECASE)
    assert " open>" not in page(drill)


def test_the_legend_has_only_what_people_with_good_tokens_saw() -> None:
    forged = told(Outcome.DENY, 0.004, kind=Kind.FORGED)
    text = read(a_drill(own("silence/cold", "matrix", HELD, samples=[*crowd(Outcome.ALLOW, 0.5), forged]))).text

    assert "let in on what is proven" in text
    assert text.count("told that the token is bad") == 1, "as words of the section, not in its legend"


def test_environment_versions_and_the_exact_command_are_told() -> None:
    text = read(a_whole_drill()).text

    for words in (
        "doorward drill --baseline --html drill.html",
        "Linux 6.1 x86_64, 2 processors",
        "Python 3.11.7",
        "Seed 1",
    ):
        assert words in text
    for package in ("doorward 0.1.0", "httpx 0.28.1", "Envoy 1.40.0"):
        assert package in text


def test_a_drill_of_our_own_door_alone_speaks_of_no_other() -> None:
    reader = read(a_drill(own("silence", "crowds", HELD, samples=crowd(Outcome.ALLOW, 0.5))))

    assert "doors" not in reader.ids
    assert "crowd" not in reader.ids
    assert "wait avoided" not in reader.text
    assert "40 let in on proof" in reader.text


def test_a_drill_of_other_doors_alone_has_no_table_of_our_own() -> None:
    reader = read(a_drill(*beside(["silence"])))

    assert {"doors", "crowd", "rules", "where"} <= set(reader.ids)
    assert not {"scenarios", "waits", "seconds"} & set(reader.ids)


def test_waits_of_our_own_scenarios_are_not_mixed_with_those_beside_other_doors() -> None:
    slow = own("silence", "crowds", HELD, samples=[told(Outcome.UNAVAILABLE, 1.95, kind=Kind.OPAQUE)])
    text = read(a_drill(slow, *beside(["silence"]))).text

    assert "doorward: half within 1.95 s, the longest 1.95 s" in text
    assert "doorward: half within 500 ms, the longest 500 ms" in text


def test_the_two_crowds_stand_on_scales_of_their_own() -> None:
    text = page(a_drill(own("reconnect-storm", "crowds", HELD, rate=100.0), *beside(["silence", "drip"])))
    storms = re.findall(r'aria-label="Clients that came back[^>]*>(.*?)</svg>', text)

    assert len(storms) == 2, "ours of two thousand, and one crowd of the same size at every door"
    assert "told to come at 100 /s" in storms[0]
    assert "post-mortem" not in storms[0]
    assert "doorward: nobody had to come back" in storms[1]
    assert "post-mortem: 160 returns, 40 in the busiest second" in storms[1]
    assert "The same crowd at each door, in the fault: accepted, then silent" in text


def test_tiles_count_what_our_door_did_alone() -> None:
    bad = own(
        "silence", "crowds", BROKEN, samples=[told(Outcome.ALLOW, 0.1, kind=Kind.FORGED), told(Outcome.SILENT, 8.0)]
    )
    text = read(a_drill(bad, *beside(["silence"]))).text

    assert "handshakes opened 43" in text
    assert "without any answer 1" in text
    assert "let in without proof 1" in text
    assert "longest wait avoided, to the old way 29.1 s" in text


def test_who_never_healed_or_was_never_in_a_fault_is_no_zero() -> None:
    healthy = own("big-cookie", "clients", HELD, samples=[told(Outcome.ALLOW, 0.01, phase=Phase.HEALTHY)])
    reader = read(a_drill(replace(healthy, marks={})))

    assert "slowest to heal" not in reader.text
    assert "waits" not in reader.ids
