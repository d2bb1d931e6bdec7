"""`python -m benchmarks.chat_stall`: does one tab that stops reading slow the others?

Readers follow threads of their own on a real `doorward serve` with its durable log, each thread in the middle of an answer. One
more tab follows the busiest of the threads: in A it reads like everybody, in B it takes nothing. Measured is the age of each
event when another reader has it: from the agent that made it through the log and the socket. The figure is the 99th
percentile of B over that of A, and the median of the pairs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks import machine, report, subjects
from benchmarks.machine import CannotMeasure
from benchmarks.measurements import Row
from benchmarks.subjects import AuthService, Subject
from benchmarks.tokens import Purse
from doorward.cli.process import raise_file_limit

RESULT = machine.ROOT / "build" / "chat_stall.json"
GOAL = 1.25

PACE_SECONDS, SIZE = 0.05, 40
"""Of an answer as people read it."""
BUSY_PACE_SECONDS, BUSY_SIZE = 0.005, 400
"""Of the thread that the one tab stalls on: its queue is full within seconds, and merged before."""
MAX_PIECES = 2_000
"""A run has no more events."""
SEGMENT_BYTES, RECEIVE_BYTES = 1_400, 65_536
"""As over a real network: on loopback the kernel takes megabytes for a peer that does not read."""
STALL_LIMIT_SECONDS = 8.0
"""The server closes a stalled socket after ten."""
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How thorough. Seconds are those of one run, its warm-up not counted."""

    pairs: int = 5
    seconds: float = 6.0
    warm_up: float = 1.5
    readers: int = 40


class Reader:
    """One tab. It keeps how old each delta of others was when it came, in milliseconds."""

    def __init__(self, connection: ClientConnection, thread_id: str) -> None:
        self.connection = connection
        self.thread_id = thread_id
        self.ages: list[float] = []

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        await self.connection.send(json.dumps({"id": "c", "type": kind, "thread_id": self.thread_id, **fields}))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "reply_to" not in (message := json.loads(await self.connection.recv())):
                pass
        if "error" in message:
            raise CannotMeasure(f"{kind}: {message['error']}")
        answer: dict[str, Any] = message
        return answer

    async def read(self, counts_from: float) -> None:
        """Until cancelled. Events that come before `counts_from` (monotonic seconds) are read and not counted."""
        while True:
            event = json.loads(await self.connection.recv()).get("event", {})
            now = time.monotonic_ns()
            if event.get("type") == "TEXT_MESSAGE_CONTENT" and now >= counts_from * 1e9:
                self.ages.append((now - int(event["delta"].partition(" ")[0])) / 1e6)


async def run(subject: Subject, purse: Purse, plan: Plan, number: int, *, stalled: bool) -> Sequence[float]:
    """The ages of all events that the readers got, but for the one tab."""
    async with contextlib.AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(tab(subject, purse, f"ada-{reader}", f"run-{number}-{reader}"))
            for reader in range(plan.readers)
        ]
        one = await stack.enter_async_context(tab(subject, purse, "ada-0", readers[0].thread_id, narrow=True))
        for reader in (*readers, one):
            await reader.ask("thread.subscribe")
        counts_from = time.monotonic() + plan.warm_up
        reading = [asyncio.create_task(each.read(counts_from)) for each in (readers if stalled else [*readers, one])]
        for index, reader in enumerate(readers):
            pace, size = (BUSY_PACE_SECONDS, BUSY_SIZE) if index == 0 else (PACE_SECONDS, SIZE)
            pieces = min(int((plan.seconds + plan.warm_up) / pace), MAX_PIECES)
            question = f"pieces={pieces} pace={pace} size={size}"
            order = {"id": "r", "type": "run.start", "thread_id": reader.thread_id, "run_id": reader.thread_id}
            await reader.connection.send(json.dumps({**order, "message": question}))
        await asyncio.sleep(plan.seconds + plan.warm_up)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        if broken := [task.exception() for task in reading if not task.cancelled()]:
            raise CannotMeasure(f"a reader was lost: {broken[0]}")
        return [age for reader in readers for age in reader.ages]


@contextlib.asynccontextmanager
async def tab(
    subject: Subject, purse: Purse, user: str, thread_id: str, *, narrow: bool = False
) -> AsyncIterator[Reader]:
    """One connection, broken off in the end whatever is left in it."""
    options: dict[str, Any] = {"sock": await _narrow_socket(subject.port), "max_queue": 1} if narrow else {}
    connection = await connect(
        f"ws://127.0.0.1:{subject.port}/ws",
        additional_headers={"Authorization": f"Bearer {purse.token(user)}"},
        proxy=None,
        compression=None,
        ping_interval=None,
        **options,
    )
    try:
        yield Reader(connection, thread_id)
    finally:
        connection.transport.abort()


async def _narrow_socket(port: int) -> socket.socket:
    narrow = socket.socket()
    narrow.setblocking(False)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    return narrow


def p99(ages: Sequence[float]) -> float:
    if len(ages) < 500:
        raise CannotMeasure(f"{len(ages)} events are too few; take more readers or more seconds")
    return statistics.quantiles(ages, n=100)[98]


def measured(plan: Plan, auth: AuthService, purse: Purse) -> tuple[Row, list[tuple[float, float]]]:
    """A B, B A, A B, ...: each pair on a server of its own. Returns the pairs' milliseconds too."""
    pairs: list[tuple[float, float]] = []
    medians: list[tuple[float, float]] = []
    for pair in range(plan.pairs):
        with subjects.chat(auth, agent="benchmarks.chat_agent:AGENT") as subject:
            ages = {}
            for turn, stalled in enumerate((False, True) if pair % 2 == 0 else (True, False)):
                ages[stalled] = asyncio.run(run(subject, purse, plan, turn, stalled=stalled))
        pairs.append((p99(ages[False]), p99(ages[True])))
        medians.append((statistics.median(ages[False]), statistics.median(ages[True])))
        _say(f"pair {pair + 1}: p99 {pairs[-1][0]:.2f} ms without, {pairs[-1][1]:.2f} ms with a stalled tab")
    ratios = [stalled / reading for reading, stalled in pairs]
    value = statistics.median(ratios)
    details: dict[str, object] = {
        "reading_p99_ms": [round(reading, 3) for reading, _ in pairs],
        "stalled_p99_ms": [round(stalled, 3) for _, stalled in pairs],
        "reading_p50_ms": [round(reading, 3) for reading, _ in medians],
        "stalled_p50_ms": [round(stalled, 3) for _, stalled in medians],
        "readers": plan.readers,
    }
    name = "others' p99 age of an event, one tab stalled over none"
    return Row(name, value, "ratio", f"<= {GOAL:.2f}", value <= GOAL, ratios, details), pairs


def shown(row: Row, pairs: Sequence[tuple[float, float]]) -> str:
    lines = [
        ["measured", "median", "of the pairs", "goal", "", "none stalled", "one stalled"],
        [
            row.name,
            f"{row.value:.2f} {row.unit}",
            f"{min(row.samples):.2f} - {max(row.samples):.2f}",
            row.goal or "",
            report.VERDICTS[row.met],
            f"p99 {statistics.median(reading for reading, _ in pairs):.1f} ms",
            f"p99 {statistics.median(stalled for _, stalled in pairs):.1f} ms",
        ],
    ]
    return report.aligned(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chat_stall", description=__doc__)
    parser.add_argument("--pairs", type=int, default=plan.pairs)
    parser.add_argument("--seconds", type=float, default=plan.seconds, help="of one run, its warm-up not counted")
    parser.add_argument("--warm-up", type=float, default=plan.warm_up, help="seconds before each run that do not count")
    parser.add_argument("--readers", type=int, default=plan.readers, help="each with a thread and a user of its own")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if the goal is missed")
    options = parser.parse_args()
    plan = Plan(options.pairs, options.seconds, options.warm_up, options.readers)
    if plan.seconds + plan.warm_up > STALL_LIMIT_SECONDS:
        parser.error(
            f"--seconds: at most {STALL_LIMIT_SECONDS - plan.warm_up}, or the stalled tab is closed on the way"
        )
    raise_file_limit()
    about = machine.description()
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as folder:
        purse = Purse(Path(folder))
        try:
            with subjects.fast_auth(purse.key_set) as auth:
                row, pairs = measured(plan, auth, purse)
        except CannotMeasure as error:
            print(f"chat_stall: {error}", file=sys.stderr)
            return 2
    report.write(RESULT, about, [row])
    print(report.machine_line(about), shown(row, pairs), sep="\n\n")
    return 1 if options.strict and not row.met else 0


if __name__ == "__main__":
    sys.exit(main())
