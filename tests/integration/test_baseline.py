"""The old way and the peers, for real: they have the disease that ours has not, and they are doors when all is well."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from doorward.drill.beside import longest_wait
from doorward.drill.clients import Dialer
from doorward.drill.peers import OURS_TOO, RIVALS, Rival, nginx_config
from doorward.drill.results import OURS, Column, Kind, Outcome, Phase, Sample
from doorward.drill.versus import Play, measure_all, stand_ins

SHORT = Play(clients=12, batch_seconds=2.0, fault_seconds=3.0, give_up_seconds=25.0, watch_seconds=8.0)
BY_NAME = {rival.name: rival for rival in (*RIVALS, OURS_TOO)}
POST_MORTEM_SECONDS = 15.0
"""Three attempts of five seconds each, at the least."""


def in_trouble(column: Column) -> list[Sample]:
    return [sample for sample in column.samples if sample.phase is Phase.FAULT]


@pytest.mark.slow
async def test_silence_keeps_the_old_way_waiting_and_not_ours() -> None:
    seen: list[str] = []
    rivals = (*RIVALS, OURS_TOO)
    measured = await measure_all(
        faults=["silence"],
        rivals=rivals,
        play=SHORT,
        progress=lambda fault, column: seen.append(f"{fault} {column.name}"),
    )
    columns = {column.name: column for column in measured["silence"]}

    assert list(columns) == [rival.name for rival in rivals]
    assert sorted(seen) == sorted(f"silence {name}" for name in columns)
    old = in_trouble(columns["post-mortem"])
    assert max(sample.seconds for sample in old) > POST_MORTEM_SECONDS
    assert {sample.outcome for sample in old} >= {Outcome.DENY}, "it calls a good token bad, because it could not ask"

    fixed = columns["post-mortem fix"]
    assert max(sample.seconds for sample in in_trouble(fixed)) < POST_MORTEM_SECONDS
    assert fixed.recovery_seconds is None, "its breaker stays open for 30 s, however well the service is"
    came_back = [point.count for point in fixed.curve]
    assert max(came_back) >= SHORT.clients - 2, "the whole crowd comes at the same moment"
    assert min(came_back[1:-1]) <= 2, "and nobody in between"

    assert longest_wait(columns["nginx"]) == "> 25 s"
    assert all(sample.censored for sample in in_trouble(columns["nginx"]))
    for name in ("nginx 500 ms", "Envoy 500 ms"):
        assert max(sample.seconds for sample in in_trouble(columns[name])) < 3.0
        assert Outcome.ALLOW not in {sample.outcome for sample in in_trouble(columns[name])}

    ours = columns[OURS]
    assert {sample.outcome for sample in in_trouble(ours)} == {Outcome.ALLOW}, "a proven token"
    assert max(sample.seconds for sample in in_trouble(ours)) < 3.0
    assert ours.recovery_seconds is not None
    assert ours.recovery_seconds < 5.0


@pytest.mark.parametrize("name", BY_NAME)
async def test_each_of_them_is_a_door_when_all_is_well(name: str, tmp_path: Path) -> None:
    rival = BY_NAME[name]
    async with stand_ins() as services:
        port = services.forward_port if rival.forward else services.auth.port
        upstream = services.upstream(f"http://127.0.0.1:{port}")
        good, bad = services.auth.issue(), services.auth.issue()
        services.auth.reject(bad)
        async with rival.start(upstream, tmp_path) as url:
            dialer = Dialer(url, began=asyncio.get_running_loop().time(), give_up_seconds=10.0)
            outcomes = [(await dialer.ask(Phase.HEALTHY, Kind.JWT, token)).outcome for token in (good, bad, None)]

    assert outcomes == [Outcome.ALLOW, Outcome.DENY, Outcome.DENY]


async def test_who_is_not_installed_or_does_not_start_is_a_column_that_says_so() -> None:
    absent = replace(RIVALS[0], name="absent", needs="doorward_made_up")

    def fails(*_: object) -> object:
        raise OSError("cannot be run")

    broken = Rival("broken", "made up", "doorward", fails)  # type: ignore[arg-type]  # never gets that far
    measured = await measure_all(faults=["refused"], rivals=[absent, broken], play=SHORT)

    assert [(column.name, column.samples) for column in measured["refused"]] == [("absent", ()), ("broken", ())]
    assert "not installed: doorward_made_up" in str(measured["refused"][0].note)
    assert "did not start: OSError" in str(measured["refused"][1].note)
    assert longest_wait(measured["refused"][0]) is None


async def test_a_fault_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="locusts"):
        await measure_all(faults=["locusts"])


@pytest.mark.parametrize(("seconds", "timeouts"), [(None, 0), (0.5, 3)])
def test_a_proxy_has_its_own_timeouts_unless_told(seconds: float | None, timeouts: int) -> None:
    config = nginx_config("http://127.0.0.1:1", "127.0.0.1:2", 3, seconds)
    assert config.count("timeout 500ms;") == timeouts
