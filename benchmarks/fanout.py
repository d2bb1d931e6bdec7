"""`make bench-chat`: what it costs to give every event of one source to many sockets, beside others who do that.

The same work everywhere, on the same server: one source, an AG-UI event of 40 characters, all sockets listen. Ours numbers each
event, stores it in a log before it is sent (in SQLite, and in memory), and lets a reader resume; the others send and forget.
Counted are events that arrived for each second of CPU of the server's process, and its private memory for each listener.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import machine, report, subjects
from benchmarks.machine import CannotMeasure
from benchmarks.subjects import Subject
from doorward.cli.process import raise_file_limit

RESULT = machine.ROOT / "build" / "chat_fanout.json"
MARK = b'"tick"'
PATIENCE_SECONDS = 120.0
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Plan:
    pairs: int = 5
    events: int = 500
    listeners: int = 100


WARM_UP = Plan(events=50, listeners=10)


@dataclass(frozen=True, slots=True)
class Way:
    """How to listen and how to begin, with EVENTS and RUN in them. `ready`: bytes that say that a listener listens."""

    name: str
    path: str = "/ws"
    listen: str | None = None
    ready: bytes = b"\r\n\r\n"
    begin: str = "EVENTS"

    def filled(self, events: int, run: str) -> Way:
        """For one run, in a thread of its own where there are threads: nothing of the run before is told to who comes."""
        listen = self.listen.replace("RUN", run) if self.listen is not None else None
        return replace(self, listen=listen, begin=self.begin.replace("EVENTS", str(events)).replace("RUN", run))


_SUBSCRIBE = json.dumps({"id": "s", "type": "thread.subscribe", "thread_id": "RUN"})
_START = json.dumps({"id": "r", "type": "run.start", "thread_id": "RUN", "run_id": "RUN", "message": "EVENTS"})
OURS = Way("ours, log in SQLite", listen=_SUBSCRIBE, ready=b'"reply_to"', begin=_START)
WAYS = {
    "chat-log": OURS,
    "chat": Way("ours, log in memory", listen=_SUBSCRIBE, ready=b'"reply_to"', begin=_START),
    "bare": Way("bare ASGI broadcast"),
    "socketio": Way("python-socketio", "/socket.io/?EIO=4&transport=websocket", "40", b"40{", '42["go",EVENTS]'),
    "channels": Way("Django Channels, layer in memory"),
}
OTHERS = ("bare", "socketio", "channels")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run: events that arrived for a second of the server's CPU, and for a second; private bytes for a listener."""

    per_cpu_second: float
    per_second: float
    bytes_per_listener: float


class Listener(asyncio.Protocol):
    """Reads as fast as it comes and only counts: the server is what is measured."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._tail = b""
        self.counted = 0
        self.listens = asyncio.Event()
        self.changed = asyncio.Event()
        self._head = b""
        self._upgraded = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(UPGRADE.format(path=self._way.path).encode())

    def data_received(self, data: bytes) -> None:
        if not self.listens.is_set():
            self._begin(data)
            return
        seen = self._tail + data
        self.counted += seen.count(MARK)
        self._tail = seen[-len(MARK) + 1 :]
        self.changed.set()

    def _begin(self, data: bytes) -> None:
        self._head += data
        if not self._upgraded and b"\r\n\r\n" in self._head:
            if b" 101 " not in self._head.partition(b"\r\n")[0]:
                raise CannotMeasure(f"{self._way.name}: {self._head[:60]!r}")
            self._upgraded = True
            if self._way.listen is not None:
                self.say(self._way.listen)
        if self._upgraded and self._way.ready in self._head:
            self.listens.set()

    def say(self, text: str) -> None:
        """A masked text frame (RFC 6455, section 5.2); a mask of zeros changes nothing."""
        assert self.transport is not None
        payload = text.encode()
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
        self.transport.write(b"\x81" + size + bytes(4) + payload)


async def run(subject: Subject, way: Way, plan: Plan, number: int) -> Cost:
    """One fan-out of `plan.events` events."""
    before = subject.memory_bytes()
    way = way.filled(plan.events, f"run-{number}")
    async with listening(subject, way, plan.listeners) as listeners:
        held = (subject.memory_bytes() - before) / max(
            plan.listeners - WARM_UP.listeners, 1
        )  # their memory is used again
        loop, cpu = asyncio.get_running_loop(), subject.cpu_seconds()
        began = loop.time()
        listeners[0].say(way.begin)
        async with asyncio.timeout(PATIENCE_SECONDS):
            for listener in listeners:
                while listener.counted < plan.events:
                    listener.changed.clear()
                    await listener.changed.wait()
        seconds, cpu = loop.time() - began, subject.cpu_seconds() - cpu
        arrived = sum(listener.counted for listener in listeners)
    if arrived != plan.events * plan.listeners:
        raise CannotMeasure(f"{way.name}: {arrived} events arrived instead of {plan.events * plan.listeners}")
    return Cost(arrived / max(cpu, 1 / subjects.TICKS_PER_SECOND), arrived / seconds, held)


@contextlib.asynccontextmanager
async def listening(subject: Subject, way: Way, count: int) -> AsyncIterator[list[Listener]]:
    loop = asyncio.get_running_loop()
    listeners: list[Listener] = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(count):
                _, listener = await loop.create_connection(lambda: Listener(way), "127.0.0.1", subject.port)
                await listener.listens.wait()
                listeners.append(listener)
        yield listeners
    finally:
        for listener in listeners:
            if listener.transport is not None:
                listener.transport.abort()


@contextlib.contextmanager
def server(kind: str) -> Iterator[Subject]:
    command = machine.on_server_core([sys.executable, "-m", "benchmarks.fanout_server", kind])
    with (
        tempfile.NamedTemporaryFile("w", prefix="doorward-bench-", suffix=".log") as log,
        subjects.running(command, stderr=log) as (process, port),
    ):
        yield Subject(WAYS[kind].name, port, [process.pid], Path(log.name))


def measured(plan: Plan) -> dict[str, list[Cost]]:
    """Round after round, each kind once, on a server of its own that has done a little of the same before."""
    costs: dict[str, list[Cost]] = {kind: [] for kind in WAYS}
    for number in range(plan.pairs):
        for kind, way in WAYS.items():
            with server(kind) as subject:
                asyncio.run(run(subject, way, WARM_UP, 0))
                costs[kind].append(asyncio.run(run(subject, way, plan, 1)))
        rates = ", ".join(f"{kind} {own[-1].per_cpu_second:.0f}" for kind, own in costs.items())
        print(f"round {number + 1}, events a CPU second: {rates}", file=sys.stderr, flush=True)
    return costs


def table(costs: dict[str, list[Cost]]) -> str:
    lines = [
        ["", "events a CPU second", "events a second", "KiB a listener", "ours in SQLite / it", "ours in memory / it"]
    ]
    for kind, own in costs.items():
        row = [WAYS[kind].name, *(f"{statistics.median(values):,.0f}" for values in _columns(own))]
        ratios = [ratio(costs[ours], own) for ours in ("chat-log", "chat")] if kind in OTHERS else ["", ""]
        lines.append([*row, *ratios])
    return report.aligned(lines)


def _columns(own: list[Cost]) -> Iterator[list[float]]:
    yield [cost.per_cpu_second for cost in own]
    yield [cost.per_second for cost in own]
    yield [cost.bytes_per_listener / 1024 for cost in own]


def ratio(ours: list[Cost], theirs: list[Cost]) -> str:
    """The median of the rounds' ratios of events a CPU second, with the lowest and the highest."""
    ratios = [one.per_cpu_second / other.per_cpu_second for one, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"


def main() -> int:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="make bench-chat", description=__doc__)
    parser.add_argument("--pairs", type=int, default=plan.pairs, help="rounds; each plays every kind once")
    parser.add_argument(
        "--events", type=int, default=plan.events, help="of the source; a run of ours has 2,000 at most"
    )
    parser.add_argument("--listeners", type=int, default=plan.listeners, help="sockets that listen")
    options = parser.parse_args()
    plan = Plan(options.pairs, options.events, options.listeners)
    raise_file_limit()
    about = {**machine.description(), **asdict(plan)}
    if machine.is_pinned():
        os.sched_setaffinity(0, {machine.generator_core()})
    try:
        costs = measured(plan)
    except CannotMeasure as error:
        print(f"bench-chat: {error}", file=sys.stderr)
        return 2
    except TimeoutError:
        print(f"bench-chat: not all events arrived within {PATIENCE_SECONDS:g} s; take fewer", file=sys.stderr)
        return 2
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    rows = {kind: [asdict(cost) for cost in own] for kind, own in costs.items()}
    RESULT.write_text(json.dumps({"environment": about, "costs": rows}, indent=2) + "\n")
    print(table(costs))
    print(f"written to {RESULT.relative_to(machine.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
