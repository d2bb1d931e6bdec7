"""What `doorward drill` prints: for every fault what people saw, how long it took and how fast it healed, at every door."""

from __future__ import annotations

import re

import pytest
from tests.drill_support import BROKEN, HELD, a_drill, a_whole_drill, beside, crowd, own, told

from doorward.cli.drill_tables import print_comparison, print_list, tell
from doorward.drill.beside import FAULTS
from doorward.drill.catalogue import every_scenario
from doorward.drill.compare import compared
from doorward.drill.results import DrillResult, Outcome, Phase


def printed(drill: DrillResult, capsys: pytest.CaptureFixture[str]) -> str:
    tell(drill)
    return capsys.readouterr().out


def row(name: str, text: str) -> str:
    """The first line of a row."""
    return next(line for line in text.splitlines() if line.startswith(name))


def test_a_fault_is_shown_at_every_door(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(a_drill(*beside(["silence"])), capsys)
    longest = re.split(r"\s{2,}", row("silence", text).strip())

    assert longest == ["silence", "yes", "500 ms", "29.6 s", "500 ms", "> 90 s", "3.00 s", "500 ms", "29.1 s"]
    assert "all 40 let in" in text
    assert "healed 1.30 s" in text
    assert "not healed" in text
    assert "wait avoided: the longest wait at post-mortem less the longest at doorward" in text


def test_no_number_of_a_fault_on_other_doors_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(a_drill(*beside()), capsys)

    assert not re.search(r"\s-(\s|$)", text)
    assert "not measured" in row("dns-stall", text), "the old way could not be tried in it"
    assert "not tried" in row("dns-stall", text)


def test_our_own_scenarios_say_what_good_tokens_saw(capsys: pytest.CaptureFixture[str]) -> None:
    people = [*crowd(Outcome.ALLOW, 0.5, number=3), told(Outcome.UNAVAILABLE, 1.9)]
    text = printed(
        a_drill(own("drip", "crowds", HELD, samples=people, slowest_ms=1951.2, recovery_seconds=1.1)), capsys
    )

    assert re.search(r"drip\s+yes\s+3 let in on proof, 1 told when to return\s+1.95 s", text)
    assert "1.10 s" in row("drip", text)


def test_without_the_doors_own_clock_the_clients_count(capsys: pytest.CaptureFixture[str]) -> None:
    healthy = [told(Outcome.ALLOW, 0.25, phase=Phase.HEALTHY)]

    assert "250 ms" in row("big-cookie", printed(a_drill(own("big-cookie", "clients", HELD, samples=healthy)), capsys))


def test_no_name_of_a_scenario_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = max((each.name for each in every_scenario()), key=len)
    people = [*crowd(Outcome.ALLOW, 0.5, number=300), *(told(Outcome.UNAVAILABLE, 1.9) for _ in range(100))]

    assert row(name, printed(a_drill(own(name, "matrix", HELD, samples=people)), capsys))


def test_what_did_not_hold_is_told_last_with_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(a_drill(own("drip", "crowds", HELD, BROKEN)), capsys)

    assert re.search(r"drip\s+NO", text)
    assert text.splitlines()[-3:] == [
        f"drip: in-time: {BROKEN.text}",
        "",
        "1 scenario: 1 scenario failed. 251 s, seed 1.",
    ]


def test_the_whole_of_it_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "25 scenarios, 2 of them pairs of the matrix: 1 scenario failed" in printed(a_whole_drill(), capsys)


def test_the_list_has_every_scenario_and_the_faults_of_other_doors(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(every_scenario())
    text = capsys.readouterr().out

    names = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert {each.name for each in every_scenario()} <= names
    assert {f"beside/{fault}" for fault in FAULTS} <= names
    assert re.search(r"^\S+/\S+\s+matrix \*", text, re.MULTILINE)
    assert f"{len(FAULTS)} more, marked +, are played on other doors too, with --baseline" in text


def test_a_comparison_says_how_many_are_worse_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    before = a_drill(own("silence", "crowds", HELD, samples=crowd(Outcome.ALLOW, 0.5)), own("drip", "crowds", HELD))
    after = a_drill(own("silence", "crowds", HELD, samples=crowd(Outcome.ALLOW, 1.9)))
    print_comparison(compared(before, after, max_ratio=2.0), ("a.json", "b.json"), 2.0)
    text = capsys.readouterr().out

    assert re.search(r"silence\s+longest wait, fault\s+500 ms\s+1.90 s\s+3.80", text)
    assert re.search(r"drip\s+played\s+-\s+-\s+in the first file only", text)
    assert "3 of 3 are worse, 2 of them by being more than 2 times slower" in text


def test_a_comparison_that_holds_says_what_held(capsys: pytest.CaptureFixture[str]) -> None:
    drill = a_drill(own("silence", "crowds", HELD, samples=crowd(Outcome.ALLOW, 0.5)))
    print_comparison(compared(drill, drill, max_ratio=1.5), ("a.json", "b.json"), 1.5)

    assert "no measure is more than 1.5 times slower" in capsys.readouterr().out
