"""A real Prometheus scrapes a real door through a fault: what rings, and what the board shows."""

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
from doorward.drill.peers import OURS_TOO, free_port
from doorward.drill.results import Kind, Outcome, Phase, Sample
from doorward.drill.stand_ins import StandIns, stand_ins
from doorward.testing import Fault, FaultProxy

CROWD = 8
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
async def prometheus(folder: Path, target: str) -> AsyncIterator[Prometheus]:
    """It scrapes each second. `target`: HOST:PORT."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(file) for file in RULE_FILES],
        "scrape_configs": [{"job_name": "doorward", "static_configs": [{"targets": [target]}]}],
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


@pytest.mark.prometheus
async def test_an_outage_shows_on_the_board_and_not_as_slow_decisions(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(stand_ins())
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", services.auth.port))
        folder = tmp_path / "door"
        await asyncio.to_thread(folder.mkdir)
        url = await stack.enter_async_context(OURS_TOO.start(services.upstream(proxy.url), folder))
        dialer = Dialer(url, began=asyncio.get_running_loop().time(), give_up_seconds=10.0)
        seen = await stack.enter_async_context(prometheus(tmp_path, url.split("/")[2]))

        assert {sample.outcome for sample in await crowd(dialer, services, Phase.HEALTHY)} == {Outcome.ALLOW}
        await seen.until("doorward:decisions_over_5s == 0", within_seconds=20)

        proxy.fault = Fault.SILENCE
        await crowd(dialer, services, Phase.FAULT)
        await seen.until(f"sum(doorward_decision_duration_seconds_count) >= {2 * CROWD}", within_seconds=20)
        pending = 'ALERTS{alertname="DoorwardBreakerOpen", alertstate="pending"}'
        assert await seen.until(pending, within_seconds=20), "it has stopped asking"
        assert await seen.ask("doorward:decisions_over_5s > 0") == []
        assert await seen.ask("doorward:overruns_over_100ms > 0") == []
        assert await seen.ask('ALERTS{alertname="DoorwardDecisionOver5s"}') == []
        assert await empty_panels(seen) <= RARE


async def crowd(dialer: Dialer, services: StandIns, phase: Phase) -> list[Sample]:
    return await asyncio.gather(*(dialer.ask(phase, Kind.JWT, services.auth.issue()) for _ in range(CROWD)))


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
