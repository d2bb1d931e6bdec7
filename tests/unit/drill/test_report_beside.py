"""The part about other doors: every fault and every door, in numbers and in what people saw, like against like."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.drill_support import a_drill, beside, crowd, doors

from doorward.drill.beside import FAULTS, as_scenarios
from doorward.drill.report_beside import section
from doorward.drill.results import OURS, Column, Outcome


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [
        [re.sub(r"<[^>]+>", " ", cell).strip() for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
        for row in rows
    ]


def test_the_first_table_has_a_row_for_each_fault_and_a_column_for_each_door() -> None:
    html = section(a_drill(*beside()))
    head, *rows = cells(html[: html.index("</table>")])

    assert head == ["the auth service", *(column.name for column in doors()), "wait avoided"]
    assert len(rows) == len(FAULTS)
    assert all(len(row) == len(head) for row in rows)
    silence = next(row for row in rows if row[0].startswith("accepted, then silent"))
    assert silence[1] == "500 ms all 40 let in on proof"
    assert silence[2] == "29.6 s all 40 called bad"
    assert silence[4] == "> 90 s all 40 left waiting"
    assert silence[-1] == "29.1 s"


def test_who_got_in_in_time_is_fine_and_all_else_is_not() -> None:
    late = [Column(OURS, crowd(Outcome.ALLOW, 0.5)), Column("post-mortem", crowd(Outcome.ALLOW, 2.1)), *doors()[2:]]
    html = section(a_drill(*as_scenarios({"silence": late})))

    assert re.findall(r'<td class="(fine|ill)">', html) == ["fine", *["ill"] * 5]


def test_who_was_not_tried_says_why_in_its_own_fault_alone() -> None:
    html = section(a_drill(*beside(["silence", "dns-stall"])))

    assert html.count("not tried: it asks the resolver of the system") == 1
    assert html.index('id="dns-stall"') < html.index("not tried: it asks")
    assert html.count("httpx, timeouts 2/5/5/10 s by phase") == 1, "what a door is stands there once"


def test_pooled_are_only_the_faults_that_all_doors_were_tried_in() -> None:
    html = section(a_drill(*beside(["silence", "drip", "dns-stall"])))

    assert "over the 2 faults that all doors were tried in" in html


def test_a_door_that_is_not_installed_does_not_keep_the_others_from_being_pooled() -> None:
    absent = [*doors()[:-1], Column("Envoy 500 ms", why_not="not installed: envoy")]
    html = section(a_drill(*as_scenarios({"silence": absent})))

    assert "over the one fault that all doors were tried in" in html
    assert "not tried: not installed: envoy" in html


def test_each_fault_has_its_two_pictures_and_its_differences() -> None:
    html = section(a_drill(*beside(["silence", "drip"])))

    assert html.count("How long people waited at each door, on a log scale") == 2
    assert html.count("by the second around the repair") == 2
    rows = cells(html[html.index('id="silence"') : html.index("</article>")])
    assert rows[0] == ["door", "what people saw", "half within", "longest", "healed", "wait avoided"]
    assert rows[1] == ["doorward", "all 40 let in on proof", "500 ms", "500 ms", "200 ms", ""]
    assert rows[3][-2:] == ["not yet", "0.0 ms"]
    assert rows[4][-1] == "> 89 s"


def test_a_door_of_ours_that_did_not_start_fails_in_sight() -> None:
    dead = [Column(OURS, why_not="did not start: UsageError"), *doors()[1:]]
    html = section(a_drill(*as_scenarios({"silence": dead})))

    assert "FAILED" in html
    assert "not tried: did not start: UsageError" in html


def test_foreign_words_are_escaped() -> None:
    odd = [*doors()[:-1], replace(doors()[-1], name="<b>", samples=(), why_not="a & <i>")]
    html = section(a_drill(*as_scenarios({"silence": odd})))

    assert "<i>" not in html
    assert "&lt;b&gt;" in html
    assert "a &amp; &lt;i&gt;" in html
