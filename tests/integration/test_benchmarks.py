"""The benchmark tools against real servers: what they count is what was there."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from benchmarks import fanout, gateways, load, machine, measurements, report, subjects
from benchmarks.echo_server import SERVERS
from benchmarks.machine import CannotMeasure
from benchmarks.measurements import Row
from benchmarks.subjects import AuthService, Subject
from benchmarks.tokens import Purse

Gateway = Callable[[AuthService, str], AbstractContextManager[Subject]]
CACHED_NGINX = partial(gateways.nginx, cached=True)

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None and not os.environ.get("CI"), reason="not run: the benchmark tools are built with gcc"
)


@pytest.fixture
def purse(tmp_path: Path) -> Purse:
    return Purse(tmp_path)


@pytest.fixture
def auth(purse: Purse) -> Iterator[AuthService]:
    with subjects.fast_auth(purse.key_set) as service:
        yield service


def bearer(token: str) -> list[str]:
    return ["-H", f"Authorization: Bearer {token}"]


def test_rate_and_cpu_of_the_bare_app() -> None:
    with subjects.bare() as subject:
        run = load.handshakes(subject, seconds=0.3, warm_up=0.1, concurrency=4)
    assert run.per_second > 10
    assert 0 < run.p50_ms <= run.p99_ms
    assert run.cpu_us > 0


def test_one_token_is_asked_about_once(auth: AuthService, purse: Purse) -> None:
    with subjects.door(auth) as subject:
        load.exactly(subject, 50, bearer(purse.token()), concurrency=8)
    assert auth.calls() == 1


def test_the_measurement_counts_the_calls_of_each_run(auth: AuthService, purse: Purse) -> None:
    (row,) = measurements.calls(measurements.Plan(pairs=2), auth, purse, lambda _: None)
    assert (row.value, row.samples, row.met) == (1, [1, 1], True)


def test_each_handshake_takes_the_next_header_line(auth: AuthService, purse: Purse) -> None:
    with subjects.door(auth) as subject:
        load.exactly(subject, 10, ["-F", str(purse.header_lines(10))], concurrency=2)
        load.exactly(subject, 10, ["-F", str(purse.header_lines(5))], concurrency=1)
    assert auth.calls() == 15


def test_a_browser_gets_its_notice_and_its_echo(auth: AuthService, purse: Purse) -> None:
    protocols = f"doorward.v1, base64url.bearer.authorization.doorward.{purse.carried()}"
    with subjects.door(auth) as subject:
        load.exactly(subject, 5, ["-H", f"Sec-WebSocket-Protocol: {protocols}"])


@pytest.mark.parametrize("server", SERVERS)
def test_the_app_and_the_door_on_every_server(server: str, auth: AuthService, purse: Purse) -> None:
    with subjects.bare(server) as app:
        load.exactly(app, 5, concurrency=2)
    with subjects.door(auth, server=server) as door:
        load.exactly(door, 5, bearer(purse.token()), concurrency=2)
        with pytest.raises(CannotMeasure, match="401"):
            load.exactly(door, 1)
    assert auth.calls() == 1


@pytest.mark.parametrize(("gateway", "asks"), [(gateways.nginx, 5), (gateways.envoy, 5), (CACHED_NGINX, 1)])
def test_a_gateway_asks_before_the_app(gateway: Gateway, asks: int, auth: AuthService, purse: Purse) -> None:
    with gateway(auth, "default") as subject:
        load.exactly(subject, 5, bearer(purse.token()), concurrency=1)
        assert auth.calls() == asks
        assert len(subject.pids) >= 2, "the gateway's and the app's processes count"
        assert subject.cpu_seconds() > 0


def test_a_refused_handshake_is_no_measurement(auth: AuthService) -> None:
    with subjects.door(auth) as subject, pytest.raises(CannotMeasure, match="401"):
        load.exactly(subject, 5)


def test_a_server_that_is_not_there_is_no_measurement() -> None:
    with subjects.bare() as subject:
        pass
    with pytest.raises(CannotMeasure, match="'connect': 3"):
        load.exactly(subject, 3)


def test_idle_connections_are_held(auth: AuthService, purse: Purse) -> None:
    with subjects.door(auth) as subject:
        before = subject.memory_bytes()
        with load.idle(subject, 200, bearer(purse.token())):
            assert subject.memory_bytes() > before


def test_chat_sockets_are_held(auth: AuthService, purse: Purse) -> None:
    with subjects.chat(auth) as subject:
        before = subject.memory_bytes()
        with load.held(subject, purse.header_lines(50)):
            assert subject.memory_bytes() > before
        with pytest.raises(CannotMeasure, match="401"):
            load._accepted(subject, "X-No-Token: 1")


def test_timelines_come_from_the_decision_log(auth: AuthService, purse: Purse) -> None:
    with subjects.door(auth, verify="local") as subject:
        load.exactly(subject, 3, ["-F", str(purse.header_lines(3))], concurrency=1)
        timelines = subject.timelines_of(3)
    assert all({"extract", "local"} <= set(line) for line in timelines)
    assert auth.calls() == 0


def test_no_compiler_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="apt-get install gcc"):
        machine.tool("wsload")


def test_the_table_says_what_was_missed() -> None:
    step = Row("step admit, cached", 7.4, "us", details={"step": "admit", "kind": "cached"})
    shown = report.table(machine.description(), [Row("rate", 0.5, "ratio", ">= 0.85", False, (0.4, 0.6)), step])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    assert ["rate", "0.50 ratio", "0.40 - 0.60", ">= 0.85", "missed", "", ""] in cells
    assert ["admit", "7"] in cells


def test_every_part_of_a_handshake_is_timed() -> None:
    """In a process of its own, because it takes over the logs."""
    command = [sys.executable, "-m", "benchmarks.steps"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=machine.ROOT)
    rows = dict(line.strip("| ").rsplit("|", 1) for line in done.stdout.splitlines()[2:])
    micros = {name.strip(): float(value) for name, value in rows.items()}
    assert micros["the whole"] > 0
    assert {"the credential", "the log line", "a new ES256 token: signature and JSON"} <= micros.keys()


def test_a_stalled_tab_is_measured_against_none() -> None:
    options = ["--pairs", "1", "--seconds", "3", "--warm-up", "0.3"]
    command = [sys.executable, "-m", "benchmarks.chat_stall", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=machine.ROOT)
    row = next(line for line in done.stdout.splitlines() if "one tab stalled over none" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert float(cells[1].removesuffix(" ratio")) > 0
    assert [cell[:4] for cell in cells[-2:]] == ["p99 ", "p99 "]


@pytest.mark.parametrize("kind", fanout.WAYS)
def test_every_listener_gets_every_event(kind: str) -> None:
    with fanout.server(kind) as subject:
        cost = asyncio.run(fanout.run(subject, fanout.WAYS[kind], fanout.Plan(events=20, listeners=3), 1))
    assert cost.per_second > 0
