"""`--target`: doors that are up already, judged from outside. One that is well holds; the old way does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.drill_process import drill, result_in

from doorward.drill.outside import Target, judged
from doorward.drill.outside_trial import Door
from doorward.drill.peers import OURS_TOO, RIVALS, Rival, free_port
from doorward.drill.stand_ins import StandIns, secure_stand_ins, stand_ins
from doorward.errors import UsageError
from doorward.testing import FaultProxy

FIX = next(rival for rival in RIVALS if rival.name == "post-mortem fix")
TOKENS = 60


@asynccontextmanager
async def up(rival: Rival, services: StandIns, port: int, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """A door that asks, without TLS, at this port, where nobody listens yet; its URL, and a file of good tokens."""
    tokens = folder / "tokens"
    await asyncio.to_thread(tokens.write_text, "\n".join(services.auth.issue() for _ in range(TOKENS)))
    upstream = replace(services.upstream("http://127.0.0.1:1"), url=f"http://127.0.0.1:{port}", ca_file=None)
    async with rival.start(upstream, folder) as url:
        yield url, tokens


def only(*names: str) -> list[str]:
    return [word for name in names for word in ("--only", name)]


@pytest.mark.slow
async def test_our_door_holds_from_outside_before_a_service_that_speaks_tls(tmp_path: Path) -> None:
    report, page, port = tmp_path / "target.json", tmp_path / "target.html", free_port()
    played = ("silence", "half-sent", "silent-siege", "reconnect-storm")
    async with secure_stand_ins() as services, up(OURS_TOO, services, port, tmp_path) as (url, tokens):
        code, output = await drill(
            "--target", url, "--auth-upstream", services.auth.url.replace("127.0.0.1", "localhost"),
            "--listen-port", str(port), "--token-file", tokens, *only(*played), "--json", report, "--html", page,
            SSL_CERT_FILE=str(services.ca_file),
        )  # fmt: skip

    assert code == 0, output
    result = result_in(report)
    assert result["target"] == url
    scenarios = {each["name"]: each for each in result["scenarios"]}
    assert set(scenarios) == set(played)
    assert {each["family"] for each in scenarios.values()} == {"outside", "clients", "crowds"}
    rules = {name: {finding["rule"] for finding in each["findings"]} for name, each in scenarios.items()}
    assert "recovery" in rules["silence"]
    assert "stray: half-sent" in rules["half-sent"]
    assert "storm: all back" in rules["reconnect-storm"]
    assert all("in-time" in found and "verdict" in found for found in rules.values())
    assert url in page.read_text()


@pytest.mark.slow
async def test_a_door_that_calls_an_outage_a_refusal_is_caught_from_outside(tmp_path: Path) -> None:
    report, port = tmp_path / "target.json", free_port()
    async with stand_ins() as services, up(FIX, services, port, tmp_path) as (url, tokens):
        code, output = await drill(
            "--target", url, "--auth-upstream", services.auth.url, "--listen-port", str(port),
            "--token-file", tokens, *only("refused"), "--json", report,
        )  # fmt: skip

    assert code == 1, output
    (scenario,) = result_in(report)["scenarios"]
    broken = {finding["rule"]: finding["text"] for finding in scenario["findings"] if not finding["held"]}
    assert "an outage was told as a refusal" in broken["verdict"]
    assert "recovery" in broken, "its breaker stays open for half a minute"


async def refusal(target: Target) -> str:
    with pytest.raises(UsageError) as refused:
        await judged(target, lambda *_: None)
    return str(refused.value)


async def test_what_keeps_a_target_from_being_judged_is_told(tmp_path: Path) -> None:
    port = free_port()
    async with stand_ins() as services, up(FIX, services, port, tmp_path) as (url, _):
        strangers = Target(Door(url, ["no such token"]), services.auth.url, port, comes_round_seconds=0.5)
        assert "lets none of the tokens in while all is well" in await refusal(strangers)

        good = replace(strangers, door=Door(url, [services.auth.issue()]), port=0)
        async with FaultProxy("127.0.0.1", services.auth.port, port=port):
            assert "asks nobody at http://127.0.0.1" in await refusal(good)

        with_a_listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        async with with_a_listener:
            taken = replace(good, port=with_a_listener.sockets[0].getsockname()[1])
            assert "choose another with --listen-port" in await refusal(taken)
