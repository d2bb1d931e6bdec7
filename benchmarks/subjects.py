"""What is measured, and what measures it: each a process, started for one run and ended after it.

A peer of another make (`gateways.py`) is a function that yields a `Subject` too: `pids` are all the processes whose CPU and memory
count as its cost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks import machine
from benchmarks.tokens import ISSUER, USER_ID

READY_LINE = re.compile(r"ready (?:http://127\.0\.0\.1:)?(?P<port>\d+)")
START_SECONDS = 20
END_SECONDS = 10
WRITTEN_SECONDS = 5
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Subject:
    """A server that runs. `log`: what it wrote to stderr, its decisions among it."""

    name: str
    port: int
    pids: Sequence[int]
    log: Path

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its processes."""
        return sum(_cpu_ticks(pid) for pid in self.pids) / TICKS_PER_SECOND

    def memory_bytes(self) -> int:
        """Resident and private: what goes away with the processes."""
        return sum(_private_bytes(pid) for pid in self.pids)

    def timelines_of(self, count: int) -> list[dict[str, float]]:
        """Step -> milliseconds of so many decisions that let somebody in, once the log's own thread has written them.

        Raises:
            CannotMeasure: they do not come.
        """
        ends_at = time.monotonic() + WRITTEN_SECONDS
        while len(timelines := self._timelines()) < count:
            if time.monotonic() > ends_at:
                raise machine.CannotMeasure(f"the log holds {len(timelines)} decisions instead of {count}")
            time.sleep(0.05)
        return timelines

    def _timelines(self) -> list[dict[str, float]]:
        lines = (json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
        return [line["timeline"] for line in lines if line["event"] == "decision" and line["verdict"] == "allow"]


@dataclass(frozen=True, slots=True)
class AuthService:
    url: str

    def calls(self) -> int:
        """How often it was asked about a user's token so far; the canary does not count."""
        with urllib.request.urlopen(f"{self.url}/count", timeout=5) as answer:
            return int(json.load(answer)["calls"])


@contextlib.contextmanager
def fast_auth(key_set: Path) -> Iterator[AuthService]:
    """The auth service that costs nothing, on the generator's core."""
    command = [str(machine.tool("fastauth")), "-k", str(key_set), "-u", USER_ID]
    with running(machine.on_generator_core(command)) as (_, port):
        yield AuthService(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def bare(server: str = "default") -> Iterator[Subject]:
    """The app without the door, on one of `echo_server.SERVERS`."""
    with _echo_server("bare", "--server", server) as subject:
        yield subject


@contextlib.contextmanager
def door(auth: AuthService, *, verify: str = "remote", server: str = "default") -> Iterator[Subject]:
    """The same app behind the door."""
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        settings = ["--auth-url", auth.url, "--issuer", ISSUER, "--verify", verify, "--data-dir", f"{folder}/data"]
        with _echo_server("door", "--server", server, *settings) as subject:
            yield subject


@contextlib.contextmanager
def chat(auth: AuthService, *, agent: str = "warden") -> Iterator[Subject]:
    """`doorward serve` with its log in a file, and this agent (`module:name`). Tokens are proven locally: every user is let in."""
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        settings = Path(folder) / "doorward.toml"
        settings.write_text(
            f"""
            verify = "local"
            data_dir = "{folder}/data"
            [auth]
            url = "{auth.url}"
            issuer = "{ISSUER}"
            service_secret = "unused"
            [chat]
            agent = "{agent}"
            [limits]
            address_rate_per_second = 100000
            address_burst = 100000
            """
        )
        command = [sys.executable, "-m", "doorward", "serve", "--port", "0", "--config", str(settings)]
        log_name = Path(folder) / "serve.log"
        with log_name.open("w") as log, running(machine.on_server_core(command), stderr=log) as (process, port):
            yield Subject("chat", port, family(process.pid), log_name)


@contextlib.contextmanager
def started(name: str, command: Sequence[str], port: int) -> Iterator[Subject]:
    """A program on the server's core that listens on `port` in a moment, with the processes that it has started by then."""
    with (
        tempfile.NamedTemporaryFile("w", prefix="doorward-bench-", suffix=".log") as log,
        _ended_after(machine.on_server_core(command), stderr=log, stdout=log) as process,
    ):
        ends_at = time.monotonic() + START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > ends_at:
                raise machine.CannotMeasure(f"{name} did not start: {Path(log.name).read_text().strip()[-500:]}")
            time.sleep(0.05)
        yield Subject(name, port, family(process.pid), Path(log.name))


def together(name: str, gateway: Subject, app: Subject) -> Subject:
    """What both cost; the clients see the gateway."""
    return Subject(name, gateway.port, [*gateway.pids, *app.pids], app.log)


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    return [pid, *(descendant for child in _children(pid) for descendant in family(child))]


def _kill_family(pid: int) -> None:
    for each in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _children(pid: int) -> Iterator[int]:
    """Of each of its threads; none, if that has ended meanwhile."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                yield from map(int, (thread / "children").read_text().split())


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _echo_server(name: str, *options: str) -> Iterator[Subject]:
    command = machine.on_server_core([sys.executable, "-m", "benchmarks.echo_server", *options])
    with (
        tempfile.NamedTemporaryFile("w", prefix="doorward-bench-", suffix=".log") as log,
        running(command, stderr=log) as (process, port),
    ):
        yield Subject(name, port, family(process.pid), Path(log.name))


@contextlib.contextmanager
def running(command: Sequence[str], *, stderr: IO[Any] | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that has printed its ready line, and its port."""
    with _ended_after(command, stderr=stderr, stdout=subprocess.PIPE) as process:
        too_late = threading.Timer(START_SECONDS, _kill_family, (process.pid,))
        too_late.start()
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
        finally:
            too_late.cancel()
        ready = READY_LINE.search(line)
        if ready is None:
            raise machine.CannotMeasure(f"{command[-1]} was not ready within {START_SECONDS} s; it said {line!r}")
        yield process, int(ready["port"])


@contextlib.contextmanager
def _ended_after(
    command: Sequence[str], *, stderr: IO[Any] | None, stdout: IO[Any] | int
) -> Iterator[subprocess.Popen[str]]:
    """SIGTERM at the end, and SIGKILL to its family if that is not enough: a worker of granian may hang in its own shutdown."""
    with subprocess.Popen(
        command, stdout=stdout, stderr=stderr, text=True, env=machine.environment(), cwd=machine.ROOT
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                _kill_family(process.pid)


def _cpu_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def _private_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) * 1024 for size in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.MULTILINE))
