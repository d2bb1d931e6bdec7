"""A real Prometheus watches a drill of a real door and of the old way: the alarm is for the old way alone."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest
from tests.docs.pages import ROOT

TOOL = ROOT / "tools" / "watch-drill"
LIMIT_SECONDS = 240.0
PLAYED = {"name": "beside/drip", "samples": [{}]}


@pytest.mark.prometheus
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_SECONDS + 30)
async def test_the_alarm_rings_for_the_old_way_and_not_for_ours() -> None:
    """Two faults of the drill. The whole of it: run tools/watch-drill."""
    only = ("--only", "beside/drip", "--only", "beside/error-500")
    process = await asyncio.create_subprocess_exec(
        sys.executable, TOOL, *only, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
    except BaseException:
        process.terminate()
        await process.wait()
        raise
    said = out.decode()
    assert process.returncode == 0, said
    assert "holds  2 of 2 scenarios were played" in said
    assert "holds  2 of our 2 doors were seen" in said
    assert "FAILS" not in said
    assert "doorward: DoorwardBreakerOpen was pending" in said, "what does ring for ours: it has stopped asking"


class Told:
    """In the place of Prometheus: what it would answer, by a part of the query."""

    def __init__(self, **answers: Mapping[str, float]) -> None:
        self._answers = {
            "scenario": {"beside/drip": 1.0},
            "max_over_time": {"doorward": 0.0, "post-mortem": 40.0},
            'job="doorward"': {},
            'job!="doorward"': {"post-mortem": 300.0},
            "chat_runs_active": {"": 1.0},
            "doorward_": {"": 1.0},
        } | answers

    def values(self, query: str, label: str) -> Mapping[str, float]:
        return next(answer for part, answer in self._answers.items() if part in query)

    def has_data(self, query: str, *, since: float, until: float) -> bool:
        return bool(self.values(query, ""))


@pytest.fixture(scope="module")
def tool() -> Any:
    loader = SourceFileLoader("watch_drill", str(TOOL))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # its dataclasses look there
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ({}, []),
        ({"scenario": {}}, ["0 of our 1 doors were seen by Prometheus; not beside/drip"]),
        (
            {'job="doorward"': {"DoorwardDecisionOver5s": 9.0}},
            ["our door: DoorwardDecisionOver5s; decisions over 5 s at one door: 0.0"],
        ),
        (
            {"max_over_time": {"doorward": 1.0, "post-mortem": 40.0}},
            ["our door: neither DoorwardDecisionOver5s nor DoorwardInternalError rang; decisions over 5 s at one door: 1.0"],
        ),
        (
            {'job!="doorward"': {"post-mortem fix": 3.0}},
            ["the old way: DoorwardDecisionOver5s did not ring (doorward: 0, post-mortem: 40 at one door)"],
        ),
        ({"chat_runs_active": {}}, ["all but 1 of the queries of the board had data"]),
    ],
    ids=["all holds", "not seen", "it rings for ours", "one decision over 5 s", "silent for the old way", "an empty query"],
)  # fmt: skip
def test_it_finds_what_does_not_hold(tool: Any, answers: dict[str, Mapping[str, float]], wrong: list[str]) -> None:
    findings = tool.judged(Told(**answers), [PLAYED], began=0.0)
    told = [
        re.sub(r"^(\d+) of (\d+) queries", _all_but, text.partition("\n")[0]) for held, text in findings if not held
    ]
    assert told == wrong


def _all_but(counts: re.Match[str]) -> str:
    return f"all but {int(counts[2]) - int(counts[1])} of the queries"


def test_a_door_that_did_not_start_proves_nothing(tool: Any) -> None:
    findings = tool.judged(Told(), [PLAYED, {"name": "silence", "samples": []}], began=0.0)
    wrong = [text for held, text in findings if not held]
    assert wrong == ["1 of 2 scenarios were played; the door did not start in silence"]


async def test_numbers_get_the_labels_of_their_door(tool: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert b"GET /metrics" in request
        body = b'# TYPE a counter\na_total{b="c d"} 1.0\ne NaN\n'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        text = await asyncio.to_thread(tool.numbers_of, address, {"job": "doorward", "scenario": "s"})
    mark = f'job="doorward",scenario="s",instance="{address}"'
    assert text == f'a_total{{{mark},b="c d"}} 1.0\ne{{{mark}}} NaN\n'
    assert await asyncio.to_thread(tool.numbers_of, address, {}) == "", "a door that is gone"
