"""One play for every door: a crowd arrives while the auth service is sick, comes back in step, and is watched until all are in.

The doors of `peers` and, if wished, ours go through it with the same clients and the same faults. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
from aiohttp import web

from doorward.adapters.service_credential import ServiceCredential
from doorward.drill.beside import FAMILY, FAULTS
from doorward.drill.clients import Dialer
from doorward.drill.faults import TROUBLES, Trouble
from doorward.drill.peers import FORWARD_PATH, RIVALS, Rival
from doorward.drill.results import (
    Column,
    CurvePoint,
    Kind,
    Outcome,
    Phase,
    Sample,
    Upstream,
)
from doorward.drill.targets import Targets
from doorward.errors import UsageError
from doorward.testing import FakeAuthService, Fault, FaultProxy

SERVICE_SECRET = "drill-service-secret"  # noqa: S105 - of an auth service that lives as long as the drill

GIVING_UP_SECONDS = 5.0
"""Until the last of the crowd has given up, however busy the machine. A fault that ends before answers some in the nick of time."""


@dataclass(frozen=True, slots=True)
class Play:
    """How a door is tried.

    The crowd of `clients` arrives at once when the fault strikes. Who is refused comes back with the next batch, each
    `batch_seconds`, as clients with a fixed timer do. The fault ends when everybody has had a first answer, but not before
    `fault_seconds`; a client gives up after `give_up_seconds`. Then the door is watched until it let in `good_in_a_row` others and
    the whole crowd, `watch_seconds` at most.
    """

    clients: int = 40
    batch_seconds: float = 5.0
    fault_seconds: float = 12.5
    give_up_seconds: float = 90.0
    watch_seconds: float = 45.0
    probe_seconds: float = 0.5
    good_in_a_row: int = 6


@asynccontextmanager
async def forward_auth(auth: FakeAuthService) -> AsyncIterator[int]:
    """The way in which proxies ask: the bearer in a header, and the status is the answer. Yields the port it listens on."""
    credential = ServiceCredential(auth.service_id, auth.service_secret).headers()

    async def answer(request: web.Request) -> web.Response:
        question = {"token": request.headers.get("Authorization", "").partition(" ")[2], "audience": auth.audience}
        async with session.post("/auth/validate", json=question, headers=credential) as answered:
            content = await answered.json()
        return web.Response(status=200 if content.get("valid") is True else 401)

    app = web.Application()
    app.router.add_route("*", FORWARD_PATH + "{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    async with aiohttp.ClientSession(auth.url, timeout=aiohttp.ClientTimeout(total=5)) as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


@dataclass(frozen=True, slots=True)
class StandIns:
    """The two services that can be asked, both well; the faults come in between."""

    auth: FakeAuthService
    forward_port: int

    def upstream(self, url: str) -> Upstream:
        auth = self.auth
        return Upstream(url, auth.issuer, auth.audience, auth.service_id, auth.service_secret)


@asynccontextmanager
async def stand_ins() -> AsyncIterator[StandIns]:
    async with FakeAuthService(service_secret=SERVICE_SECRET) as auth, forward_auth(auth) as port:
        yield StandIns(auth, port)


class Trial:
    """One door in one trouble."""

    def __init__(self, play: Play, auth: FakeAuthService, proxy: FaultProxy, trouble: Trouble, url: str) -> None:
        self._play = play
        self._auth = auth
        self._proxy = proxy
        self._trouble = trouble
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer(url, began=self._loop.time(), give_up_seconds=play.give_up_seconds)
        self._phase = Phase.HEALTHY
        self._struck_at = 0.0
        self._repaired_at: float | None = None
        self._answered = 0
        self._outside = play.clients
        self._waves: asyncio.Task[None] | None = None
        self._returns: Counter[int] = Counter()
        self._samples: list[Sample] = []
        self._probes: list[Sample] = []

    async def run(self) -> Column:
        """The whole play. The caller names the column.

        Cancellation: every client is cut.
        """
        for _ in range(3):
            await self._ask()
        if any(sample.outcome is not Outcome.ALLOW for sample in self._samples):
            return Column("", self._samples, note="let nobody in even before the fault")
        tasks: list[asyncio.Task[None]] = []
        try:
            self._strike()
            tasks = [self._loop.create_task(self._come_until_let_in()) for _ in range(self._play.clients)]
            everybody = self._play.give_up_seconds + GIVING_UP_SECONDS
            await self._until(everybody, lambda: self._fault_has_lasted and self._all_answered)
            self._repair()
            tasks.append(self._loop.create_task(self._probe()))
            await self._until(self._play.watch_seconds, lambda: self._is_well and self._outside == 0)
        finally:
            self._calm()
            await _cancelled(tasks)
        return self._column()

    def _strike(self) -> None:
        self._phase, self._struck_at, self._proxy.fault = Phase.FAULT, self._now, self._trouble.fault
        if self._trouble.waves:
            self._waves = self._loop.create_task(self._wave())

    async def _wave(self) -> None:
        while True:
            for fault, seconds in self._trouble.waves:
                self._proxy.fault = fault
                await asyncio.sleep(seconds)

    def _repair(self) -> None:
        self._calm()
        self._phase, self._repaired_at = Phase.REPAIR, self._now

    def _calm(self) -> None:
        if self._waves is not None:
            self._waves.cancel()
        self._proxy.fault = Fault.NONE

    async def _come_until_let_in(self) -> None:
        sample = await self._ask()
        self._answered += 1
        while sample.outcome is not Outcome.ALLOW:
            period = self._play.batch_seconds
            await asyncio.sleep(period - (self._now - self._struck_at) % period)
            if self._repaired_at is not None:
                self._returns[int(self._now - self._repaired_at)] += 1
            sample = await self._ask()
        self._outside -= 1

    async def _probe(self) -> None:
        """Somebody new every half second, none of them waiting for another."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._probe_once())
                await asyncio.sleep(self._play.probe_seconds)

    async def _probe_once(self) -> None:
        self._probes.append(await self._ask())

    async def _ask(self) -> Sample:
        phase, began = self._phase, self._now
        token = self._auth.issue()
        sample = cut = Sample(phase, Kind.JWT, round(began, 4), 0.0, Outcome.SILENT)
        try:
            sample = await self._dialer.ask(phase, Kind.JWT, token)
        finally:  # whoever still waits when the curtain falls has waited so long
            waited = round(self._now - began, 5)
            self._samples.append(replace(cut, seconds=waited) if sample is cut else sample)
        return sample

    async def _until(self, seconds: float, condition: Callable[[], bool]) -> None:
        ends_at = self._now + seconds
        while self._now < ends_at and not condition():  # noqa: ASYNC110 - several things make it true
            await asyncio.sleep(0.05)

    @property
    def _now(self) -> float:
        return self._loop.time() - self._dialer.began

    @property
    def _fault_has_lasted(self) -> bool:
        return self._now - self._struck_at >= self._play.fault_seconds

    @property
    def _all_answered(self) -> bool:
        return self._answered >= self._play.clients

    @property
    def _is_well(self) -> bool:
        good = len(self._probes) - _bad_until(self._probes)
        return good >= self._play.good_in_a_row

    def _column(self) -> Column:
        probes = sorted(self._probes, key=lambda probe: probe.at_seconds)
        good = probes[_bad_until(probes) :]
        recovery = None
        if self._is_well and self._repaired_at is not None:
            recovery = round(good[0].at_seconds + good[0].seconds - self._repaired_at, 3)
        last = max(self._returns, default=-1)
        curve = [CurvePoint(float(second), self._returns[second]) for second in range(last + 1)]
        samples = sorted(self._samples, key=lambda sample: sample.at_seconds)
        return Column("", samples, recovery, self._play.give_up_seconds, curve)


def _bad_until(probes: Sequence[Sample]) -> int:
    """From here on all of them were let in."""
    return max((at + 1 for at, probe in enumerate(probes) if probe.outcome is not Outcome.ALLOW), default=0)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=2.0)


async def measure(
    rival: Rival, trouble: Trouble, services: StandIns, play: Play, *, seed: int = 0, targets: Targets | None = None
) -> Column:
    """One door in one trouble, from its start to its end.

    Args:
        targets: told of a door that shows how long its decisions took; a proxy before an app that never asks does not.

    Cancellation: the door's processes are stopped.
    """
    port = services.forward_port if rival.forward else services.auth.port
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="doorward-drill-"))
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", port, seed=seed))
        try:
            url = await stack.enter_async_context(rival.start(services.upstream(proxy.url), Path(folder)))
        except (UsageError, OSError) as error:
            return Column(rival.name, note=f"{rival.note}; did not start: {type(error).__name__}")
        if targets is not None and not rival.forward:
            scenario = f"{FAMILY}/{trouble.name}"
            targets.up(rival.name, scenario, url)
            stack.callback(targets.down, rival.name, scenario)
        column = await Trial(play, services.auth, proxy, trouble, url).run()
    return replace(column, name=rival.name, note="; ".join(filter(None, (rival.note, column.note))))


async def measure_all(
    *,
    faults: Iterable[str] = FAULTS,
    rivals: Sequence[Rival] = RIVALS,
    play: Play | None = None,
    seed: int = 0,
    at_once: int = 10,
    progress: Callable[[str, Column], None] | None = None,
    targets: Targets | None = None,
) -> Mapping[str, Sequence[Column]]:
    """Every rival on every fault; by fault, in the order of `rivals`.

    A rival that is not installed is a column without samples whose note says so.

    Args:
        at_once: so many doors are up together; nearly all of them only wait.
        progress: told of each column when it is done, with the name of its fault.
        targets: told of the doors that can be scraped, while they are up.

    Raises:
        KeyError: there is no such fault.

    Cancellation: every process is stopped.
    """
    troubles = [TROUBLES[name] for name in faults]
    slots = asyncio.Semaphore(at_once)

    async def one(trouble: Trouble, rival: Rival) -> Column:
        if not rival.available:
            return Column(rival.name, note=f"{rival.note}; not installed: {rival.needs}")
        async with slots:
            column = await measure(rival, trouble, services, play or Play(), seed=seed, targets=targets)
        if progress is not None:
            progress(trouble.name, column)
        return column

    async with stand_ins() as services, asyncio.TaskGroup() as group:
        tasks = {trouble.name: [group.create_task(one(trouble, rival)) for rival in rivals] for trouble in troubles}
    return {name: [task.result() for task in columns] for name, columns in tasks.items()}
