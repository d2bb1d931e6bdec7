"""One play for every door: a crowd arrives while the auth service is sick, comes back in step, and is watched until all are in.

The doors of `peers` and, if wished, ours go through it with the same clients and the same faults. Nothing is judged here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from doorward.drill.beside import FAMILY, FAULTS
from doorward.drill.clients import Dialer
from doorward.drill.faults import TROUBLES, Trouble
from doorward.drill.lag import Lag, watched
from doorward.drill.peers import RIVALS, Rival
from doorward.drill.results import (
    Column,
    CurvePoint,
    Kind,
    Outcome,
    Phase,
    Sample,
)
from doorward.drill.stand_ins import NAME, StandIns, secure_stand_ins, stand_ins
from doorward.drill.targets import Targets
from doorward.errors import UsageError
from doorward.testing import DnsFault, FakeAuthService, Fault, FaultDns, FaultProxy

AT_ONCE = 12
"""Doors that are up together; nearly all of them only wait."""

STARTS_AT_ONCE = 1
"""To start is work, and those who are measured meanwhile would feel it."""

HEALTHY_IN_A_ROW, HEALTHY_ASKS = 3, 20

NAME_SECONDS = 1
"""The TTL of its record."""

NAME_EXPIRED_SECONDS = 2.0
"""After that nobody may go on with the record; so a fault of the name server strikes at once."""

LAST_WORDS_SECONDS = 3.0
"""When all has been seen, whoever still waits for an answer may wait so long for it: nobody is cut who was about to be heard."""

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


class Trial:
    """One door in one trouble."""

    def __init__(
        self,
        play: Play,
        auth: FakeAuthService,
        proxy: FaultProxy,
        trouble: Trouble,
        url: str,
        *,
        dns: FaultDns | None = None,
        lag: Lag | None = None,
    ) -> None:
        self._play = play
        self._auth = auth
        self._proxy = proxy
        self._dns = dns
        self._lag = lag
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
        self._asking = 0
        self._over = False
        self._samples: list[Sample] = []
        self._probes: list[Sample] = []

    async def run(self) -> Column:
        """The whole play. The caller names the column.

        Cancellation: every client is cut.
        """
        if not await self._lets_in():
            return Column("", self._samples, why_not="did not let good tokens in even before the fault")
        if self._dns is not None:
            await asyncio.sleep(NAME_EXPIRED_SECONDS)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._strike()
            tasks = [self._loop.create_task(self._come_until_let_in()) for _ in range(self._play.clients)]
            everybody = self._play.give_up_seconds + GIVING_UP_SECONDS
            await self._until(everybody, lambda: self._fault_has_lasted and self._all_answered)
            self._repair()
            tasks.append(self._loop.create_task(self._probe()))
            await self._until(self._play.watch_seconds, lambda: self._is_well and self._outside == 0)
            self._over = True
            await self._until(LAST_WORDS_SECONDS, lambda: self._asking == 0)
        finally:
            self._calm()
            await _cancelled(tasks)
        return self._column()

    async def _lets_in(self) -> bool:
        """Is it a door? A machine that still starts others may make it miss its own timeout at first."""
        for _ in range(HEALTHY_ASKS):
            await self._ask()
            if len(self._samples) - _bad_until(self._samples) >= HEALTHY_IN_A_ROW:
                return True
        return False

    def _strike(self) -> None:
        self._phase, self._struck_at = Phase.FAULT, self._now
        if self._trouble.cut_first:
            self._proxy.fault = Fault.RESET
        if self._dns is not None and self._trouble.dns is not None:
            self._dns.fault = self._trouble.dns
        self._proxy.fault = self._trouble.fault
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
        if self._dns is not None:
            self._dns.fault = DnsFault.NONE

    async def _come_until_let_in(self) -> None:
        sample = await self._ask()
        self._answered += 1
        while sample.outcome is not Outcome.ALLOW:
            period = self._play.batch_seconds
            await asyncio.sleep(period - (self._now - self._struck_at) % period)
            if self._over:
                return
            if self._repaired_at is not None:
                self._returns[int(self._now - self._repaired_at)] += 1
            sample = await self._ask()
        self._outside -= 1

    async def _probe(self) -> None:
        """Somebody new every half second, none of them waiting for another."""
        async with asyncio.TaskGroup() as group:
            while not self._over:
                group.create_task(self._probe_once())
                await asyncio.sleep(self._play.probe_seconds)

    async def _probe_once(self) -> None:
        self._probes.append(await self._ask())

    async def _ask(self) -> Sample:
        phase, began = self._phase, self._now
        token = self._auth.issue()
        sample = cut = Sample(phase, Kind.JWT, round(began, 4), 0.0, Outcome.SILENT)
        self._asking += 1
        try:
            sample = await self._dialer.ask(phase, Kind.JWT, token)
        finally:  # whoever still waits when the curtain falls has waited so long
            self._asking -= 1
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
        marks = {"fault": round(self._struck_at, 3)}
        if self._repaired_at is not None:
            marks["repair"] = round(self._repaired_at, 3)
        lag = None if self._lag is None else round(self._lag.most_since(self._dialer.began), 4)
        return Column("", samples, recovery, self._play.give_up_seconds, curve, marks=marks, lag_seconds=lag)


def _bad_until(probes: Sequence[Sample]) -> int:
    """From here on all of them were let in."""
    return max((at + 1 for at, probe in enumerate(probes) if probe.outcome is not Outcome.ALLOW), default=0)


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=2.0)


async def measure(
    rival: Rival,
    trouble: Trouble,
    services: StandIns,
    play: Play,
    *,
    seed: int = 0,
    targets: Targets | None = None,
    starting: asyncio.Semaphore | None = None,
    lag: Lag | None = None,
) -> Column:
    """One door in one trouble, from its start to its end.

    Args:
        starting: held while the door starts.
        lag: of the loop that the clients run on.
        targets: told of a door that shows how long its decisions took; a proxy before an app that never asks does not.

    Cancellation: the door's processes are stopped.
    """
    port = services.forward_port if rival.forward else services.auth.port
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="doorward-drill-"))
        proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", port, seed=seed))
        dns: FaultDns | None = None
        if trouble.dns is not None:
            dns = await stack.enter_async_context(FaultDns({NAME: ["127.0.0.1"]}, ttl_seconds=NAME_SECONDS))
        try:
            async with starting or nullcontext():
                upstream = services.upstream(proxy.url, dns)
                url = await stack.enter_async_context(rival.start(upstream, Path(folder)))
        except (UsageError, OSError) as error:
            return Column(rival.name, note=rival.note, why_not=f"did not start: {type(error).__name__}")
        if targets is not None and not rival.forward:
            scenario = f"{FAMILY}/{trouble.name}"
            targets.up(rival.name, scenario, url)
            stack.callback(targets.down, rival.name, scenario)
        column = await Trial(play, services.auth, proxy, trouble, url, dns=dns, lag=lag).run()
    return replace(column, name=rival.name, note=rival.note)


async def measure_all(
    *,
    faults: Iterable[str] = FAULTS,
    rivals: Sequence[Rival] = RIVALS,
    play: Play | None = None,
    seed: int = 0,
    at_once: int = AT_ONCE,
    progress: Callable[[str, Column], None] | None = None,
    targets: Targets | None = None,
) -> Mapping[str, Sequence[Column]]:
    """Every rival on every fault; by fault, in the order of `rivals`.

    A rival that is not installed, or that a trouble says nothing about, is a column without samples that says so.

    Args:
        at_once: so many doors are up together.
        progress: told of each column when it is done, with the name of its fault.
        targets: told of the doors that can be scraped, while they are up.

    Raises:
        KeyError: there is no such fault.

    Cancellation: every process is stopped.
    """
    troubles = [TROUBLES[name] for name in faults]
    slots, starting = asyncio.Semaphore(at_once), asyncio.Semaphore(STARTS_AT_ONCE)
    columns: dict[tuple[str, str], Column] = {}

    async def one(trouble: Trouble, rival: Rival) -> None:
        column = await tried(trouble, rival)
        columns[trouble.name, rival.name] = column
        if progress is not None:
            progress(trouble.name, column)

    async def tried(trouble: Trouble, rival: Rival) -> Column:
        why_not = rival.why_not(trouble) if rival.available else f"not installed: {rival.needs}"
        if why_not is not None:
            return Column(rival.name, note=rival.note, why_not=why_not)
        services = secure if trouble.tls else plain
        async with slots:
            return await measure(
                rival, trouble, services, play or Play(), seed=seed, targets=targets, starting=starting, lag=lag
            )

    async with watched() as lag, stand_ins() as plain, secure_stand_ins() as secure:
        for last in (False, True):
            async with asyncio.TaskGroup() as group:
                for trouble, rival in product(troubles, rivals):
                    if rival.fills_the_line(trouble) is last:
                        group.create_task(one(trouble, rival))
    return {each.name: [columns[each.name, rival.name] for rival in rivals] for each in troubles}
