"""Many people with many tabs, and everything that can go wrong on the way to them: `python -m tests.chat_soak`.

Against a real `doorward serve` with its durable log. Tabs break their connections off, stop reading, go away and come back with
their place, without it or with one of another epoch, and ask for threads of others; runs are begun from any tab, some twice, and
stopped from another one; with `--kills` the server is killed on the way. In the end every tab has to have every event of its
thread once and in order and nothing else, and every run its question and its answer. Exits with 1 if not.

The seed says who does what; how the machine interleaves it, it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tests.agui import judged, runs_of
from tests.chat_checker import Finding, Frame, Tab, Wrong, findings
from tests.chat_scripted import BAR
from tests.serve_process import ServeProcess
from tests.slow_network import narrow_socket
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from doorward.cli.process import raise_file_limit
from doorward.testing import FakeAuthService

PATIENCE_SECONDS = 120.0
"""For anything that has to come in the end."""
REPLY_SECONDS = 30.0
SETTLED_SECONDS = 0.02
PROGRESS_SECONDS = 10.0
JUDGED_STREAMS = 400
TRIES = 10
RECEIVE_BYTES = 32_768
"""Of a slow tab's socket: it reads at some speed while it reads."""
UNSENT_BYTES_PER_USER = 20_000
EXPECTED_CLOSES = {"1000", "1013 OVERLOADED"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much of it. `runs` are those of each user."""

    users: int = 200
    tabs: int = 3
    runs: int = 20
    seed: int = 1
    kills: int = 0
    stall_seconds: Sequence[float] = (0.2, 1.0, 4.0, 13.0)
    """A slow tab takes nothing for one of these; the server gives up after ten."""

    @property
    def unsent_bytes(self) -> int:
        """Little enough that the server has to close some slow ones."""
        return max(UNSENT_BYTES_PER_USER * self.users, 1_048_576)


@dataclass
class Result:
    """What was done, and what was wrong with it."""

    plan: Plan
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    found: list[Finding] = field(default_factory=list)
    misjudged: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.found or self.misjudged or self.troubles)

    def __str__(self) -> str:
        plan, wrong = self.plan, Counter(finding.wrong for finding in self.found)
        lines = [
            f"{plan.users} users x {plan.tabs} tabs x {plan.runs} runs, seed {plan.seed}, {plan.kills} kills: {self.seconds:.0f} s",
            f"  {self.counts['events']:,} events in the logs, {self.counts['delivered']:,} delivered, "
            f"{self.counts['delivered'] / max(self.seconds, 1):,.0f} a second",
            "  runs: " + ", ".join(f"{count:,} {name}" for name, count in sorted(self.endings.items())),
            "  tabs: " + ", ".join(f"{count:,} {name}" for name, count in sorted(self.counts.items()) if " " in name),
            "  closed by the server: "
            + (", ".join(f"{n:,} x {why}" for why, n in sorted(self.closes.items())) or "none"),
            f"  judged by AG-UI's verifier: {self.counts['judged']:,} connections, {len(self.misjudged)} refused",
            "  " + ", ".join(f"{wrong[kind]} {kind}" for kind in Wrong),
        ]
        details = [*self.found[:20], *self.misjudged[:5], *self.troubles[:20]]
        return "\n".join([*lines, *(f"  {detail}" for detail in details), "  good" if self.good else "  NOT good"])


class _Event(msgspec.Struct):
    type: str


class _Message(msgspec.Struct):
    """As much of a message as the way on depends on."""

    reply_to: str | None = None
    thread_id: str | None = None
    epoch: str | None = None
    seq: int | None = None
    after_seq: int | None = None
    run_id: str | None = None
    synthetic: bool = False
    event: _Event | None = None
    ok: bool = False


class Lost(Exception):
    """The connection broke, or the reply did not come."""


class Server:
    """The one that is up. Everybody connects to it again after a kill."""

    def __init__(self, folder: Path, auth: FakeAuthService, plan: Plan) -> None:
        self._folder = folder
        self._auth = auth
        self._settings = {"chat__unsent_bytes": plan.unsent_bytes}
        self._process: ServeProcess | None = None
        self._ready = asyncio.Event()

    async def start(self) -> None:
        self._process = await ServeProcess.start(self._folder, self._auth, **self._settings)
        self._ready.set()

    async def kill(self) -> None:
        self._ready.clear()
        if self._process is not None:
            await self._process.kill()

    async def process(self) -> ServeProcess:
        await self._ready.wait()
        assert self._process is not None
        return self._process


class Client:
    """One tab. It comes back until it is told to stop."""

    def __init__(self, person: Person, number: int) -> None:
        self.person = person
        self.name = f"{person.name}/{number}"
        self.texts: list[str] = []
        self.at: tuple[str, int] | None = None
        self._rng = random.Random(f"{person.soak.plan.seed}-{self.name}")
        self._connection: ClientConnection | None = None
        self._pending: dict[str, asyncio.Future[str | None]] = {}
        self._numbers = 0
        self._here = asyncio.Event()

    async def live(self) -> None:
        while True:
            process = await self.person.soak.server.process()
            with suppress(OSError, TimeoutError, WebSocketException, Lost):
                await self._visit(process)
            self._gone()
            await asyncio.sleep(self._rng.uniform(0, 0.3))

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One command and its reply.

        Raises:
            Lost: nobody knows whether it was done.
        """
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                await self._here.wait()
                return await self._asked(kind, fields)
        except (TimeoutError, ConnectionClosed) as error:
            raise Lost(kind) from error

    async def _asked(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            raise Lost(kind)
        self._numbers += 1
        name = f"c{self._numbers}"
        reply: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._pending[name] = reply
        try:
            await self._connection.send(msgspec.json.encode({"id": name, "type": kind, **fields}).decode())
            text = await reply
        finally:
            self._pending.pop(name, None)
        if text is None:
            raise Lost(kind)
        content: dict[str, Any] = msgspec.json.decode(text)
        return content

    async def _visit(self, process: ServeProcess) -> None:
        """One connection, from its subscription to its end."""
        soak, slow = self.person.soak, self._rng.random() < 0.2 and not self.person.settling
        options: dict[str, Any] = (
            {"max_queue": 1, "sock": await narrow_socket(process.port, receive_bytes=RECEIVE_BYTES)} if slow else {}
        )
        connection = await process.connect(self.person.name, ping_interval=None, **options)
        soak.count["connections made"] += 1
        try:
            first = self._subscription()
            await connection.send(msgspec.json.encode({"id": "s", "type": "thread.subscribe", **first}).decode())
            if not (await self._hear(connection, into=None)).ok:
                raise Lost("thread.subscribe")
            self.person.is_there = True
            self._connection = connection
            self._here.set()
            await self._read(connection, slow=slow, judged=bool(first.get("prelude")))
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                soak.result.closes[f"{closed.rcvd.code} {closed.rcvd.reason.partition(';')[0]}".strip()] += 1
            raise
        finally:
            connection.transport.abort()

    def _subscription(self) -> dict[str, Any]:
        """From where it is, or as if it had forgotten."""
        count, dice = self.person.soak.count, self._rng.random()
        wanted: dict[str, Any] = {"thread_id": self.person.thread_id}
        if self._rng.random() < 0.3:
            wanted["prelude"] = True
        if self.at is None or dice < 0.05:
            count["begun anew"] += 1
            return wanted
        epoch, after_seq = self.at
        if dice < 0.08:
            count["from another epoch"] += 1
            return {**wanted, "epoch": "of-old", "after_seq": after_seq}
        count["gone on"] += 1
        return {**wanted, "epoch": epoch, "after_seq": after_seq}

    async def _read(self, connection: ClientConnection, *, slow: bool, judged: bool) -> None:
        stream: list[str] | None = [] if judged else None
        try:
            while True:
                for _ in range(self._rng.randint(1, 120)):
                    await self._hear(connection, into=stream)
                if not self.person.settling and await self._mischief(slow=slow):
                    return
        finally:
            if stream:
                self.person.soak.streams.append(stream)

    async def _mischief(self, *, slow: bool) -> bool:
        """Something that a tab does; true if the connection is over."""
        count = self.person.soak.count
        if slow:
            count["stalls of a reader"] += 1
            await asyncio.sleep(self._rng.choice(self.person.soak.plan.stall_seconds))
            return False
        match self._rng.randrange(4):
            case 0:
                count["cuts without a word"] += 1
                return True
            case 1:
                assert self._connection is not None
                count["left politely"] += 1
                await self._connection.close()
                return True
            case 2:
                self._numbers += 1
                other = self._rng.choice(self.person.soak.people)
                if other is not self.person and other.is_there and self._connection is not None:
                    count["asked for another's thread"] += 1
                    asked = {"id": f"foreign-{self._numbers}", "type": "thread.subscribe", "thread_id": other.thread_id}
                    await self._connection.send(msgspec.json.encode(asked).decode())
        return False

    async def _hear(self, connection: ClientConnection, *, into: list[str] | None) -> _Message:
        text = await connection.recv()
        assert isinstance(text, str)
        message = msgspec.json.decode(text, type=_Message)
        if message.event is not None:
            self.texts.append(text)
            if into is not None:
                into.append(text)
            at = message.after_seq if message.synthetic else message.seq
            self.at = None if at is None else (message.epoch or "", at)
            if message.event.type in {"RUN_FINISHED", "RUN_ERROR"} and not message.synthetic:
                self.person.saw_the_end_of(message.run_id or "")
            elif message.event.type == "MESSAGES_SNAPSHOT":
                for said in msgspec.json.decode(text)["event"]["messages"]:
                    self.person.saw_the_end_of(said["id"].partition(":")[0])
        elif message.reply_to is not None and message.reply_to.startswith("foreign-"):
            if message.ok:
                self.person.soak.trouble(f"{self.name} was let into another's thread: {text}")
        elif (pending := self._pending.get(message.reply_to or "")) is not None and not pending.done():
            pending.set_result(text)
        return message

    def _gone(self) -> None:
        self._here.clear()
        self._connection = None
        for pending in self._pending.values():
            if not pending.done():
                pending.set_result(None)


class Person:
    """One user: a thread, tabs on it, and runs one after another."""

    def __init__(self, soak: Soak, number: int) -> None:
        self.soak = soak
        self.name = f"u{number}"
        self.thread_id = f"thread-{self.name}"
        self.settling = False
        self.is_there = False
        self.asked: dict[str, str] = {}
        self.clients = [Client(self, tab) for tab in range(soak.plan.tabs)]
        self._rng = random.Random(f"{soak.plan.seed}-{self.name}")
        self._ended: dict[str, asyncio.Event] = {}

    def saw_the_end_of(self, run_id: str) -> None:
        self._end_of(run_id).set()

    def _end_of(self, run_id: str) -> asyncio.Event:
        return self._ended.setdefault(run_id, asyncio.Event())

    async def work(self) -> None:
        """All of it; what is wrong is in the result afterwards."""
        tabs = [asyncio.create_task(client.live(), name=client.name) for client in self.clients]
        try:
            for number in range(self.soak.plan.runs):
                await self._run(f"{self.name}-r{number}")
                self.soak.count["runs"] += 1
            self.settling = True
            truth = await self._whole()
            await self._caught_up(truth[-1]["seq"])
            await self.soak.check(self, truth)
        except Exception as error:  # noqa: BLE001 - one person's trouble is told beside the others'
            self.soak.trouble(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            for tab in tabs:
                tab.cancel()
            await asyncio.wait(tabs)

    async def _run(self, run_id: str) -> None:
        question = self._question(run_id)
        self.asked[run_id] = question
        command = {"thread_id": self.thread_id, "run_id": run_id, "message": question}
        await self._insist("run.start", command)
        if self._rng.random() < 0.2:
            again = await self._insist("run.start", command)
            if not again["duplicate"]:
                self.soak.trouble(f"{run_id} ran twice")
        if self._rng.random() < 0.25:
            await asyncio.sleep(self._rng.uniform(0, 0.3))
            await self._insist("run.cancel", {"thread_id": self.thread_id, "run_id": run_id})
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._end_of(run_id).wait()

    def _question(self, run_id: str) -> str:
        if self._rng.random() < 0.15:
            return f"blocks={self._rng.randint(5, 40)} size=4000{BAR}{run_id}"
        pace = self._rng.choice(["0", "0.001", "0.004"])
        return f"pace={pace}{BAR}" + " ".join(f"{run_id}.{word}" for word in range(self._rng.randint(3, 80)))

    async def _insist(self, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """From one tab after another, until there is a reply."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(Lost):
                    reply = await self._rng.choice(self.clients).ask(kind, **fields)
                    if reply.get("ok"):
                        return reply
                    if reply["error"]["code"] not in {"UNAVAILABLE", "OVERLOADED", "RESTARTING"}:
                        raise AssertionError(f"{kind} {fields.get('run_id')}: {reply['error']}")
                await asyncio.sleep(0.1)

    async def _whole(self) -> list[Frame]:
        """The whole thread, read without a break: from the beginning again where there was one, by a kill or for the budget."""
        for _ in range(TRIES):
            with suppress(OSError, WebSocketException, Lost):
                return await self._truth()
        raise AssertionError(f"the log could not be read in {TRIES} tries")

    async def _truth(self) -> list[Frame]:
        last = f"{self.name}-r{self.soak.plan.runs - 1}"
        frames: list[Frame] = []
        async with asyncio.timeout(PATIENCE_SECONDS), self._fresh() as connection:
            epoch = next(at[0] for client in self.clients if (at := client.at) is not None)
            asked = {"id": "s", "type": "thread.subscribe", "thread_id": self.thread_id, "epoch": epoch, "after_seq": 0}
            await connection.send(msgspec.json.encode(asked).decode())
            while not (
                frames and frames[-1]["run_id"] == last and frames[-1]["event"]["type"] in {"RUN_FINISHED", "RUN_ERROR"}
            ):
                message = msgspec.json.decode(await connection.recv())
                if "event" in message:
                    if message.get("synthetic"):
                        raise Lost("the log was tidied where it was being read")
                    frames.append(message)
        return frames

    @asynccontextmanager
    async def _fresh(self) -> AsyncIterator[ClientConnection]:
        process = await self.soak.server.process()
        async with process.connect(self.name, ping_interval=None) as connection:
            yield connection

    async def _caught_up(self, head: int) -> None:
        """Every tab is where the log ends; and a moment later, where a duplicate would have come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for client in self.clients:
                while client.at is None or client.at[1] < head:  # noqa: ASYNC110 - the other end of a network
                    await asyncio.sleep(SETTLED_SECONDS)
                while True:
                    with suppress(Lost):
                        await client.ask("ping")
                        break


class Soak:
    """All of them."""

    def __init__(self, plan: Plan, server: Server, say: Say) -> None:
        self.plan = plan
        self.server = server
        self.result = Result(plan)
        self.count = self.result.counts
        self.streams: list[list[str]] = []
        self.people = [Person(self, number) for number in range(plan.users)]
        self._say = say
        self._began = time.monotonic()

    async def run(self) -> Result:
        telling = asyncio.create_task(self._tell())
        killing = asyncio.create_task(self._kill())
        try:
            await asyncio.gather(*(person.work() for person in self.people))
        finally:
            telling.cancel()
            killing.cancel()
            await asyncio.wait({telling, killing})
        self.result.seconds = time.monotonic() - self._began
        await self._judge()
        unexpected = {why: n for why, n in self.result.closes.items() if why not in EXPECTED_CLOSES}
        if unexpected:
            self.trouble(f"closed by the server with {unexpected}")
        return self.result

    def trouble(self, text: str) -> None:
        self.result.troubles.append(text)

    async def check(self, person: Person, truth: Sequence[Frame]) -> None:
        """Hold what each tab of a person has against the truth, and the truth against what was asked; then let go of it."""
        tabs = [
            Tab(client.name, person.thread_id, [msgspec.json.decode(text) for text in client.texts])
            for client in person.clients
        ]
        self.result.found += findings(tabs, {person.thread_id: truth}, {person.thread_id: person.asked})
        self.result.found += mistold(truth, person.asked)
        self.result.endings.update(
            ending_of(frame) for frame in truth if frame["event"]["type"] in {"RUN_FINISHED", "RUN_ERROR"}
        )
        self.count["events"] += truth[-1]["seq"]
        self.count["delivered"] += sum(len(tab.frames) for tab in tabs)
        for client in person.clients:
            client.texts.clear()
        await asyncio.sleep(0)

    async def _judge(self) -> None:
        """What connections delivered after a prelude, by AG-UI's own verifier; each is a run, or several, cut off anywhere."""
        chosen = random.Random(self.plan.seed).sample(self.streams, min(JUDGED_STREAMS, len(self.streams)))
        streams = [[msgspec.json.decode(text)["event"] for text in stream] for stream in chosen]
        runs = [run for stream in streams for run in runs_of(stream)]
        self.count["judged"] = len(chosen)
        self.result.misjudged = [fault for fault in await judged(*runs) if fault is not None]

    async def _tell(self) -> None:
        whole = self.plan.users * self.plan.runs
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._say(
                f"{time.monotonic() - self._began:4.0f} s: {self.count['runs']} of {whole} runs, "
                f"{self.count['connections made']} connections, "
                f"{len(self.result.found)} findings, {len(self.result.troubles)} troubles"
            )

    async def _kill(self) -> None:
        """At the same distances on the way."""
        whole = self.plan.users * self.plan.runs
        for number in range(1, self.plan.kills + 1):
            while self.count["runs"] < whole * number / (self.plan.kills + 1):  # noqa: ASYNC110 - a mark on the way
                await asyncio.sleep(SETTLED_SECONDS)
            await self.server.kill()
            self.count["kills of the server"] += 1
            await self.server.start()


def ending_of(frame: Frame) -> str:
    event = frame["event"]
    return str(event.get("code") or event.get("outcome", {}).get("type") or "finished")


def mistold(truth: Sequence[Frame], asked: Mapping[str, str]) -> list[Finding]:
    """Answers that are not what the agent says to their question: all of it where the run finished, a part where it was stopped."""
    found: list[Finding] = []
    said: dict[str, str] = {}
    for frame in truth:
        event, run_id = frame["event"], frame["run_id"]
        if event["type"] == "TEXT_MESSAGE_CONTENT":
            said[run_id] = said.get(run_id, "") + event["delta"]
        elif event["type"] in {"RUN_FINISHED", "RUN_ERROR"}:
            answer, right = said.get(run_id, ""), answer_to(asked.get(run_id, ""))
            if answer != right if ending_of(frame) == "finished" else not right.startswith(answer):
                found.append(Finding(Wrong.ALTERED, "log", frame["seq"], f"the answer of {run_id}"))
    return found


def answer_to(question: str) -> str:
    orders, _, words = question.partition(BAR)
    wanted = dict(order.split("=", 1) for order in orders.split())
    if "blocks" in wanted:
        return "x" * int(wanted["blocks"]) * int(wanted["size"])
    return "".join(f"{word} " for word in words.split())


async def soaked(plan: Plan, folder: Path, say: Say = lambda _: None) -> Result:
    """Start a server, let everybody at it, and kill it in the end."""
    async with FakeAuthService() as auth:
        server = Server(folder, auth, plan)
        await server.start()
        try:
            return await Soak(plan, server, say).run()
        finally:
            await server.kill()


def main() -> int:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.chat_soak", description=__doc__)
    parser.add_argument("--users", type=int, default=plan.users)
    parser.add_argument("--tabs", type=int, default=plan.tabs, help="of each user")
    parser.add_argument("--runs", type=int, default=plan.runs, help="of each user")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--kills", type=int, default=plan.kills, help="of the server, on the way")
    options = parser.parse_args()
    raise_file_limit()
    chosen = Plan(options.users, options.tabs, options.runs, options.seed, options.kills)
    with tempfile.TemporaryDirectory(prefix="doorward-soak-") as folder:
        result = asyncio.run(
            soaked(chosen, Path(folder) / "serve", lambda text: print(text, file=sys.stderr, flush=True))
        )
    print(result)
    print(f"  this process held {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
