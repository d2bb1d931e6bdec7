"""The door breaks no WebSocket: case by case a server does as well with it as without, and the page says how well that is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.cases import Case, every_case
from tests.conformance.page import PAGE, table, with_table
from tests.conformance.play import Seen, Verdict, judge, play
from tests.conformance.subjects import ALONE, sites, verdicts, worse

GOOD = Case("1", "a text", messages=("Hello",))
BAD = Case("2", "a text, then nonsense", messages=("Hello",), tolerated=("nonsense",), codes=frozenset({1002}))


async def test_no_worse_than_the_server_alone(tmp_path: Path) -> None:
    async with sites(tmp_path) as running:
        seen = await verdicts(every_case(), running)
        (offer,) = (case for case in every_case() if case.name == "12.4.1")
        taken = {subject: (await play(offer, site)).deflate for subject, site in running.items()}
    assert taken == {"`doorward serve`": False, "uvicorn, with the door": True, ALONE: True}
    assert worse(seen) == []
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page, table(seen)), "run `python -m tests.conformance --write`"


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in every_case()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("case", "seen", "verdict"),
    [
        (GOOD, Seen(["Hello"], code=1000, ended=True), Verdict.OK),
        (GOOD, Seen(["Hello"], code=1000), Verdict.HANG),
        (GOOD, Seen(["Hello"], code=1002, ended=True), Verdict.FAILED),
        (GOOD, Seen([b"Hello"], code=1000, ended=True), Verdict.FAILED),
        (GOOD, Seen(["Hello"], [b""], code=1000, ended=True), Verdict.FAILED),
        (GOOD, Seen(code=1000, ended=True), Verdict.FAILED),
        (GOOD, Seen(["Hello"], code=1000, ended=True, fault="a frame after the close"), Verdict.FAILED),
        (BAD, Seen(["Hello"], code=1002, ended=True), Verdict.OK),
        (BAD, Seen(["Hello"], code=1002, ended=True, late=True), Verdict.NON_STRICT),
        (BAD, Seen(["Hello"], ended=True), Verdict.NON_STRICT),
        (BAD, Seen(code=1002, ended=True), Verdict.NON_STRICT),
        (BAD, Seen(["Hello", "nonsense"], code=1000, ended=True), Verdict.NON_STRICT),
        (BAD, Seen(["Hello", "Hello"], code=1002, ended=True), Verdict.FAILED),
        (BAD, Seen(["Hello"]), Verdict.HANG),
    ],
)
def test_what_came_back_is_judged(case: Case, seen: Seen, verdict: Verdict) -> None:
    assert judge(case, seen) is verdict


def test_only_what_the_door_made_worse_is_told() -> None:
    alone = {"1": Verdict.NON_STRICT, "2": Verdict.OK}
    as_well = {"1": Verdict.OK, "2": Verdict.OK}
    worse_once = {"1": Verdict.NON_STRICT, "2": Verdict.HANG}
    assert worse({"a": as_well, "b": worse_once, ALONE: alone}) == ["2 on b: HANG, alone OK"]
