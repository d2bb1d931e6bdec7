"""The old way and the peers, for real: they have the disease that ours has not, and they are doors when all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from doorward.drill.clients import Dialer
from doorward.drill.peers import OURS_TOO, RIVALS, Rival
from doorward.drill.results import OURS, Column, Kind, Outcome, Phase, Sample
from doorward.drill.seen import in_trouble, longest, waited
from doorward.drill.stand_ins import NAME, StandIns, secure_stand_ins, stand_ins
from doorward.drill.versus import Play, measure_all
from doorward.testing import FaultDns

SHORT = Play(clients=12, batch_seconds=2.0, fault_seconds=3.5, give_up_seconds=25.0, watch_seconds=8.0)
"""Those who come back in step, each 2 s, come in the middle of a second that is counted from the repair, not at its edge."""

BY_NAME = {rival.name: rival for rival in (*RIVALS, OURS_TOO)}
DISEASES = ("silence", "drip")
POST_MORTEM_SECONDS = 15.0
"""Three attempts of five seconds each, at the least."""


@pytest.mark.slow
async def test_silence_and_drip_keep_the_old_way_waiting_and_not_ours() -> None:
    seen: list[str] = []
    rivals = (*RIVALS, OURS_TOO)
    measured = await measure_all(
        faults=DISEASES,
        rivals=rivals,
        play=SHORT,
        at_once=len(DISEASES) * len(rivals),
        progress=lambda fault, column: seen.append(f"{fault} {column.name}"),
    )

    assert list(measured) == list(DISEASES)
    assert sorted(seen) == sorted(f"{fault} {rival.name}" for fault in DISEASES for rival in rivals)
    for columns in measured.values():
        assert [column.name for column in columns] == [rival.name for rival in rivals]
        _is_sick(_named(columns, "post-mortem"))
        _is_well(_named(columns, OURS))
        for name in ("nginx 500 ms", "Envoy 500 ms"):
            refused = in_trouble(_named(columns, name).samples)
            assert longest(refused).seconds < 3.0
            assert Outcome.ALLOW not in {sample.outcome for sample in refused}
    _is_no_cure(_named(measured["silence"], "post-mortem fix"))
    waiting = in_trouble(_named(measured["silence"], "nginx").samples)
    assert waited(longest(waiting)) == "> 25 s"
    assert all(sample.censored for sample in waiting)


def _named(columns: Sequence[Column], name: str) -> Column:
    return next(column for column in columns if column.name == name)


def _is_sick(old: Column) -> None:
    """Tens of seconds, and in the end a good token is called bad, because nobody could be asked."""
    people = in_trouble(old.samples)
    last = max(people[: SHORT.clients], key=lambda sample: sample.at_seconds + sample.seconds)
    assert last.seconds > POST_MORTEM_SECONDS
    assert Outcome.ALLOW not in {sample.outcome for sample in people if _ended(sample) < old.marks["repair"]}
    assert Outcome.DENY in {sample.outcome for sample in people} or all(sample.censored for sample in people)


def _ended(sample: Sample) -> float:
    return sample.at_seconds + sample.seconds


def _is_no_cure(fixed: Column) -> None:
    assert longest(in_trouble(fixed.samples)).seconds < POST_MORTEM_SECONDS
    assert fixed.recovery_seconds is None, "its breaker stays open for 30 s, however well the service is"
    came_back = [point.count for point in fixed.curve]
    assert max(came_back) >= SHORT.clients - 2, "the whole crowd comes at the same moment"
    assert min(came_back[1:-1]) <= 2, "and nobody in between"


def _is_well(ours: Column) -> None:
    people = in_trouble(ours.samples)
    assert {sample.outcome for sample in people} == {Outcome.ALLOW}, "a proven token"
    assert longest(people).seconds < 3.0
    assert ours.recovery_seconds is not None
    assert ours.recovery_seconds < 5.0


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("name", BY_NAME)
async def test_each_of_them_is_a_door_when_all_is_well(name: str, secure: bool, tmp_path: Path) -> None:
    async with secure_stand_ins() if secure else stand_ins() as services:
        assert await outcomes(BY_NAME[name], services, tmp_path) == [Outcome.ALLOW, Outcome.DENY, Outcome.DENY]


@pytest.mark.parametrize("name", [rival.name for rival in BY_NAME.values() if rival.resolves])
async def test_who_can_be_told_a_name_server_asks_it(name: str, tmp_path: Path) -> None:
    async with stand_ins() as services, FaultDns({NAME: ["127.0.0.1"]}, ttl_seconds=1) as dns:
        assert await outcomes(BY_NAME[name], services, tmp_path, dns) == [Outcome.ALLOW, Outcome.DENY, Outcome.DENY]
        assert dns.queries[NAME] > 0


async def outcomes(rival: Rival, services: StandIns, folder: Path, dns: FaultDns | None = None) -> list[Outcome]:
    """What a good token, a rejected one and none are told."""
    port = services.forward_port if rival.forward else services.auth.port
    upstream = services.upstream(f"http://127.0.0.1:{port}", dns)
    good, bad = services.auth.issue(), services.auth.issue()
    services.auth.reject(bad)
    async with rival.start(upstream, folder) as url:
        dialer = Dialer(url, began=asyncio.get_running_loop().time(), give_up_seconds=10.0)
        return [(await dialer.ask(Phase.HEALTHY, Kind.JWT, token)).outcome for token in (good, bad, None)]


async def test_a_trouble_that_says_nothing_about_a_door_is_not_played_on_it() -> None:
    told: list[str] = []
    measured = await measure_all(
        faults=["dns-nxdomain", "wrong-json"],
        rivals=[BY_NAME["post-mortem"], BY_NAME["nginx"]],
        play=replace(SHORT, clients=2, fault_seconds=0.5, watch_seconds=4.0),
        progress=lambda fault, column: told.append(f"{fault}: {column.why_not}"),
    )
    why_not = {fault: [column.why_not for column in columns] for fault, columns in measured.items()}

    assert "resolver of the system" in str(why_not["dns-nxdomain"][0])
    assert why_not["dns-nxdomain"][1] is None
    assert "reads the status alone" in str(why_not["wrong-json"][1])
    assert why_not["wrong-json"][0] is None
    assert len(told) == 4


async def test_who_is_not_installed_or_does_not_start_is_a_column_that_says_so() -> None:
    absent = replace(RIVALS[0], name="absent", needs="doorward_made_up")

    def fails(*_: object) -> object:
        raise OSError("cannot be run")

    broken = Rival("broken", "made up", "doorward", fails)  # type: ignore[arg-type]  # never gets that far
    measured = await measure_all(faults=["refused"], rivals=[absent, broken], play=SHORT)

    assert [(column.name, column.samples) for column in measured["refused"]] == [("absent", ()), ("broken", ())]
    assert measured["refused"][0].why_not == "not installed: doorward_made_up"
    assert measured["refused"][1].why_not == "did not start: OSError"


async def test_a_fault_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="locusts"):
        await measure_all(faults=["locusts"])
