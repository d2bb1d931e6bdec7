"""A real Prometheus scrapes a real door and the old way through the same fault: the alarm is for the old way alone."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.monitoring_support import DEPLOY, RULE_FILES

from doorward.drill.clients import Dialer
from doorward.drill.peers import OURS_TOO, RIVALS, Rival, free_port
from doorward.drill.results import Kind, Outcome, Phase, Sample
from doorward.drill.stand_ins import StandIns, stand_ins
from doorward.testing import Fault, FaultProxy

CROWD = 8
OVER_5S = "DoorwardDecisionOver5s"
RARE = {"Turned away before a decision", "Closed and forwarded", "Runs", "Why not", "Answers not waited for"}
"""Panels whose series begin with the first such event."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str
    session: aiohttp.ClientSession

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query; none while it still starts."""
        try:
            async with self.session.get(f"{self.url}/api/v1/query", params={"query": query}) as answer:
                if answer.status == 503:
                    return []
                content = await answer.json()
        except aiohttp.ClientConnectionError:
            return []
        assert content["status"] == "success", (query, content.get("error"))
        series: list[dict[str, Any]] = content["data"]["result"]
        return series

    async def until(self, query: str, *, within_seconds: float) -> list[dict[str, Any]]:
        """Ask until there is an answer."""
        ends_at = time.monotonic() + within_seconds
        while not (series := await self.ask(query)):
            assert time.monotonic() < ends_at, f"nothing came of {query}"
            await asyncio.sleep(0.2)
        return series


@asynccontextmanager
async def prometheus(folder: Path, targets: dict[str, str]) -> AsyncIterator[Prometheus]:
    """It scrapes each second. `targets`: job to HOST:PORT."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(file) for file in RULE_FILES],
        "scrape_configs": jobs,
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    port = free_port()
    child = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            yield Prometheus(f"http://127.0.0.1:{port}", session)
    finally:
        child.terminate()
        await asyncio.wait_for(child.wait(), 15)


@dataclass(frozen=True, slots=True)
class Watched:
    """A door with its own fault proxy."""

    proxy: FaultProxy
    dialer: Dialer

    async def crowd(self, services: StandIns, phase: Phase) -> list[Sample]:
        asked = (self.dialer.ask(phase, Kind.JWT, services.auth.issue()) for _ in range(CROWD))
        return await asyncio.gather(*asked)


async def start(rival: Rival, services: StandIns, folder: Path, stack: AsyncExitStack) -> Watched:
    await asyncio.to_thread(folder.mkdir)
    proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", services.auth.port))
    url = await stack.enter_async_context(rival.start(services.upstream(proxy.url), folder))
    return Watched(proxy, Dialer(url, began=asyncio.get_running_loop().time(), give_up_seconds=40.0))


@pytest.mark.prometheus
@pytest.mark.slow
async def test_the_alarm_rings_for_the_old_way_and_not_for_ours(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(stand_ins())
        ours = await start(OURS_TOO, services, tmp_path / "ours", stack)
        old = await start(RIVALS[0], services, tmp_path / "old", stack)
        targets = {"doorward": ours.dialer.url.split("/")[2], "old": old.dialer.url.split("/")[2]}
        seen = await stack.enter_async_context(prometheus(tmp_path, targets))

        for door in (ours, old):
            healthy = await door.crowd(services, Phase.HEALTHY)
            assert {sample.outcome for sample in healthy} == {Outcome.ALLOW}
        for job in targets:
            await seen.until(f'doorward:decisions_over_5s{{job="{job}"}} == 0', within_seconds=20)

        ours.proxy.fault = old.proxy.fault = Fault.SILENCE
        in_ours, in_old = await asyncio.gather(*(door.crowd(services, Phase.FAULT) for door in (ours, old)))
        assert max(sample.seconds for sample in in_ours) < 5.0 < max(sample.seconds for sample in in_old)

        firing = await seen.until(f'ALERTS{{alertname="{OVER_5S}", alertstate="firing"}}', within_seconds=20)
        assert [series["metric"]["job"] for series in firing] == ["old"]
        await seen.until(
            f'sum(doorward_decision_duration_seconds_count{{job="doorward"}}) >= {2 * CROWD}', within_seconds=20
        )
        assert await seen.ask('doorward:decisions_over_5s{job="doorward"} > 0') == []
        assert await seen.ask(f'ALERTS{{alertname="{OVER_5S}", job="doorward"}}') == []
        assert await seen.ask('doorward:overruns_over_100ms{job="doorward"} > 0') == []
        pending = 'ALERTS{alertname="DoorwardBreakerOpen", alertstate="pending", job="doorward"}'
        assert await seen.until(pending, within_seconds=10), "what does ring for ours: it has stopped asking"
        assert await empty_panels(seen) <= RARE


async def empty_panels(seen: Prometheus) -> set[str]:
    """Panels of the board for which nothing at all comes back from the real door."""
    board = json.loads((DEPLOY / "grafana" / "doorward.json").read_text(encoding="utf-8"))
    empty = set()
    for panel in board["panels"]:
        answers = [await seen.ask(filled(target["expr"])) for target in panel.get("targets", [])]
        if answers and not any(answers):
            empty.add(panel["title"])
    return empty


def filled(query: str) -> str:
    """As Grafana would send it."""
    return re.sub(r"\$__\w+", "1m", query).replace("$job", "doorward").replace("$instance", ".+")
