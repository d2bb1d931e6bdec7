"""The door under test: a process of its own, known by its sockets, its log and the process table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from doorward.config import child_environment
from doorward.drill.clients import http_address
from doorward.drill.results import Decision, Reading
from doorward.drill.warm import Order, WarmProcess, started
from doorward.errors import DoorwardError

COMMAND = (sys.executable, "-m", "doorward")
READY = re.compile(r"doorward serve ready http://(?P<address>\S+) pid=(?P<pid>\d+)")
START_SECONDS = 60.0
STOP_SECONDS = 8.0
SCRAPE_SECONDS = 5.0
SHOWN_BYTES = 600


class DoorTrouble(DoorwardError):
    """The door under test did not start, stop or answer."""


@dataclass(frozen=True, slots=True)
class _Lag:
    """The histogram of the loop lag, as it stands."""

    total_seconds: float
    counts: Mapping[float, float]
    """How many were at most so late, by bucket edge."""

    def largest_since(self, before: _Lag | None) -> float:
        """The largest lag since then cannot have been larger than this: the edge of its bucket, or all lags together."""
        was = before or _Lag(0.0, {})
        edges = sorted(self.counts)
        grown = [self.counts[edge] - was.counts.get(edge, 0.0) for edge in edges]
        new = [edge for edge, (lower, here) in zip(edges, pairwise([0.0, *grown]), strict=True) if here > lower]
        return min(self.total_seconds - was.total_seconds, new[-1]) if new else 0.0


_Process = asyncio.subprocess.Process | WarmProcess


class DoorProcess:
    """Starts `doorward serve` (or what stands in for it) in a folder; again, after a stop, on the same data.

    Args:
        folder: for its data and its logs.
        settings: dotted setting to value.
        command: run as `command serve`.
        warm: where a process listens that starts our own door at once (`drill.warm`), instead of by `command`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        command: Sequence[str] = COMMAND,
        warm: Path | None = None,
    ) -> None:
        self.url = ""
        self.pid = 0
        self._folder = folder
        self._settings = settings
        self._command = command
        self._warm = warm
        self._process: _Process | None = None
        self._logs: list[Path] = []
        self._lag: _Lag | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            DoorTrouble: it was not started, or did not say so in time.

        Cancellation: the process is killed by `stop`.
        """
        log = self._folder / f"door-{len(self._logs) + 1}.log"
        self._logs.append(log)
        self._lag = None
        values = {
            "data_dir": self._folder / "data",
            "log_format": "json",
            "serve.port": 0,
            "serve.drain_delay_seconds": 0,
            "serve.drain_spread_seconds": 0,
            **self._settings,
        }
        self._process = await self._started(child_environment({key: str(value) for key, value in values.items()}), log)
        self.url, self.pid = await self._ready(self._process, log)

    async def _started(self, environment: Mapping[str, str], log: Path) -> _Process:
        if self._warm is not None:
            try:
                return await started(self._warm, Order(("serve",), str(self._folder), environment, str(log)))
            except OSError as error:
                raise DoorTrouble(f"the door was not started: {error}") from error
        with log.open("wb") as stream:
            return await asyncio.create_subprocess_exec(
                *self._command,
                "serve",
                cwd=self._folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stream,
            )

    async def _ready(self, process: _Process, log: Path) -> tuple[str, int]:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        match = READY.search(line.decode("utf-8", "replace"))
        if match is None:
            raise DoorTrouble(f"the door did not start within {START_SECONDS:g} s: {_end_of(log)}")
        return f"ws://{match['address']}/ws", int(match["pid"])

    async def stop(self, *, kill: bool = False) -> str | None:
        """End it: SIGTERM, and SIGKILL if that is not enough or wanted.

        Returns:
            What went wrong, if something did.

        Cancellation: it may still run; call again.
        """
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return None if process is None else f"the door ended by itself, with code {process.returncode}"
        self._signal(process, signal.SIGKILL if kill else signal.SIGTERM)
        if await _ended(process):
            return None
        self._signal(process, signal.SIGKILL)
        await _ended(process)
        return f"the door did not end within {STOP_SECONDS:g} s of SIGTERM"

    def _signal(self, process: _Process, number: signal.Signals) -> None:
        """To the door itself, and to what started it where that is another process."""
        for pid in {self.pid or process.pid, process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def has_logged(self, decision_id: str) -> bool:
        """Has the line of this decision reached the log of the door that runs now?"""
        return decision_id.encode() in self._logs[-1].read_bytes()

    def decisions(self, wall_began: float) -> tuple[list[Decision], int]:
        """Every decision in its logs, and how many lines could not be read. Call it when the door has ended.

        Args:
            wall_began: wall-clock second from which `at_seconds` counts.
        """
        found: list[Decision] = []
        lost = 0
        for line in self._lines():
            try:
                entry = json.loads(line)
                if entry.get("event") == "decision":
                    found.append(_decision(entry, wall_began))
            except (ValueError, KeyError, AttributeError):
                lost += not line.startswith("doorward:")
        return found, lost

    def _lines(self) -> Iterator[str]:
        for log in self._logs:
            yield from log.read_text("utf-8", "replace").splitlines()

    async def reading(self, at_seconds: float, *, upstream: int) -> Reading | None:
        """Look at it from outside. `None`: it does not answer."""
        try:
            async with asyncio.timeout(SCRAPE_SECONDS):
                text = await _get(self.url, "/metrics")
        except (OSError, ValueError):  # TimeoutError is an OSError
            return None
        numbers = _Numbers(text)
        lag, before = numbers.lag(), self._lag
        self._lag = lag
        return Reading(
            at_seconds=round(at_seconds, 3),
            lag_seconds=round(lag.largest_since(before), 5),
            breaker=numbers.state("doorward_breaker_state"),
            tasks=numbers.whole("doorward_tasks"),
            connections=numbers.whole("doorward_server_connections"),
            admitted=numbers.whole("doorward_connections"),
            abandoned=numbers.whole("doorward_abandoned_tasks"),
            files=_open_files(self.pid),
            upstream=upstream,
        )


class _Numbers:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def whole(self, name: str) -> int | None:
        return next((int(sample.value) for sample in self._samples if sample.name == name), None)

    def state(self, name: str) -> str | None:
        return next((each.labels["state"] for each in self._samples if each.name == name and each.value == 1), None)

    def lag(self) -> _Lag:
        name = "doorward_event_loop_lag_seconds"
        total = sum(sample.value for sample in self._samples if sample.name == f"{name}_sum")
        buckets = [sample for sample in self._samples if sample.name == f"{name}_bucket"]
        return _Lag(total, {float(sample.labels["le"]): sample.value for sample in buckets})


def _decision(entry: Mapping[str, Any], wall_began: float) -> Decision:
    return Decision(
        id=entry["id"],
        at_seconds=round(datetime.fromisoformat(entry["timestamp"]).timestamp() - wall_began, 3),
        verdict=entry["verdict"],
        source=entry["source"],
        reason=entry["reason"],
        ms=entry["ms"],
        overrun_ms=entry["overrun_ms"],
        code=entry["code"],
        assurance=entry["assurance"],
        degraded=entry["degraded"],
        provisional=entry["provisional"],
    )


async def _ended(process: _Process) -> bool:
    """Wait for it, and for whoever else holds its output, a while."""
    waiting = asyncio.create_task(process.wait())
    await asyncio.wait({waiting}, timeout=STOP_SECONDS)
    waiting.cancel()
    return process.returncode is not None


def _end_of(log: Path) -> str:
    return log.read_bytes()[-SHOWN_BYTES:].decode("utf-8", "replace").strip() or "it said nothing"


def _open_files(pid: int) -> int | None:
    """From the process table, where there is one (Linux)."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


async def _get(url: str, path: str) -> str:
    """The body of one plain GET, on a connection of its own."""
    host, port = http_address(url)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(f"{path} was answered {head[:40]!r}")
    return body.decode()
