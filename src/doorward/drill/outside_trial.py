"""One scenario on a door that we did not write: clients, the fault proxy before its auth service, and what comes of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle

from doorward.drill.clients import Dialer
from doorward.drill.evidence import Evidence
from doorward.drill.faults import Trouble
from doorward.drill.judge import judge
from doorward.drill.results import CurvePoint, Finding, Kind, Outcome, Phase, Sample, ScenarioResult
from doorward.drill.scenarios import RECOVERY_SECONDS, Expectations, Rules
from doorward.testing import Fault, FaultProxy, opaque_token

GIVE_UP_FACTOR = 10.0
CROWD: Mapping[Kind, int] = {Kind.JWT: 12, Kind.STRANGER: 4, Kind.NO_TOKEN: 2}
STREAM_PER_SECOND = 5.0
PROBE_SECONDS = 0.2
GOOD_IN_A_ROW = 3
REST_SECONDS = 1.0
"""Between two scenarios."""


@dataclass(frozen=True, slots=True)
class Script:
    """One scenario as it can be played from outside. `heals`: there is something to recover from, within the usual time."""

    name: str
    family: str
    title: str
    play: Callable[[Trial], Awaitable[None]]
    expect: Expectations
    quick: bool = False
    heals: bool = True
    largest: int = sum(CROWD.values())
    """The largest crowd that comes at once."""


@dataclass(frozen=True, slots=True)
class Door:
    """The door under test: where it is, who may come in, and in what time it promises an answer."""

    url: str
    tokens: Sequence[str] = field(repr=False)
    deadline_seconds: float = 2.0


class Trial:
    """One script on one door."""

    def __init__(self, door: Door, script: Script, proxy: FaultProxy, *, null_url: str | None, seed: int) -> None:
        self.door = door
        self.findings: list[Finding] = []
        self.curve: Sequence[CurvePoint] = ()
        self.null_seconds = 0.0
        self._script = script
        self._proxy = proxy
        self._null_url = null_url
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._dialer = Dialer(door.url, began=self._began, give_up_seconds=door.deadline_seconds * GIVE_UP_FACTOR)
        self._good = cycle(door.tokens)
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._samples: list[Sample] = []
        self._marks: dict[str, float] = {}
        self._recovery: float | None = None

    async def run(self) -> ScenarioResult:
        """Play it to its end, and judge it.

        Cancellation: the clients are cut, and the fault is over.
        """
        self.null_seconds = await self._null()
        await self.crowd(Phase.HEALTHY)
        await self._script.play(self)
        await self.crowd(Phase.HEALED)
        await asyncio.sleep(REST_SECONDS)
        script = self._script
        rules = Rules(
            script.expect,
            deadline_seconds=self.door.deadline_seconds,
            recovery_seconds=RECOVERY_SECONDS if script.heals else None,
            inside=False,
        )
        seen = Evidence(samples=self._samples, null_seconds=self.null_seconds, recovery_seconds=self._recovery)
        findings = [*judge(rules, seen), *self.findings]
        return ScenarioResult(
            name=script.name,
            family=script.family,
            title=script.title,
            held=all(finding.held for finding in findings),
            findings=findings,
            factors={"fault": script.name} if script.heals else {},
            seconds=round(self._now, 2),
            recovery_seconds=None if self._recovery is None else round(self._recovery, 3),
            samples=self._samples,
            curve=self.curve,
            marks=self._marks,
        )

    @property
    def _now(self) -> float:
        return self._loop.time() - self._began

    @asynccontextmanager
    async def struck(self, trouble: Trouble) -> AsyncIterator[None]:
        """The fault lasts while inside. Afterwards see how long it takes until all is well."""
        waves = asyncio.create_task(self._wave(trouble))
        self._marks["fault"] = round(self._now, 3)
        try:
            self._proxy.fault = trouble.fault
            yield
        finally:
            waves.cancel()
            self._proxy.fault = Fault.NONE
            self._marks["repair"] = round(self._now, 3)

    async def _wave(self, trouble: Trouble) -> None:
        while trouble.waves:
            for fault, seconds in trouble.waves:
                self._proxy.fault = fault
                await asyncio.sleep(seconds)

    async def ask(self, phase: Phase, kind: Kind) -> Sample:
        """One handshake, written down."""
        token = next(self._good) if kind is Kind.JWT else opaque_token() if kind is Kind.STRANGER else None
        sample = await self._dialer.ask(phase, kind, token)
        if sample.outcome is Outcome.ALLOW and sample.assurance is None:
            sample = replace(sample, assurance="unsaid")
        self._samples.append(sample)
        return sample

    async def crowd(self, phase: Phase, crowd: Mapping[Kind, int] = CROWD) -> None:
        """All of them at once, in any order."""
        kinds = [kind for kind, number in crowd.items() for _ in range(number)]
        self._random.shuffle(kinds)
        await asyncio.gather(*(self.ask(phase, kind) for kind in kinds))

    async def stream(self, phase: Phase, seconds: float) -> None:
        """One after the other, none waiting for another."""
        ends_at = self._loop.time() + seconds
        async with asyncio.TaskGroup() as group:
            while self._loop.time() < ends_at:
                group.create_task(self.ask(phase, Kind.JWT))
                await asyncio.sleep(1 / STREAM_PER_SECOND)

    async def recover(self) -> None:
        """Until a good token is let in and a stranger is told no, several times in a row: then the question is asked again."""
        repaired = self._loop.time()
        ends_at = repaired + self.door.deadline_seconds * GIVE_UP_FACTOR
        first_good: float | None = None
        in_a_row = 0
        while in_a_row < GOOD_IN_A_ROW and self._loop.time() < ends_at:
            known, stranger = await asyncio.gather(
                *(self.ask(Phase.REPAIR, kind) for kind in (Kind.JWT, Kind.STRANGER))
            )
            good = known.outcome is Outcome.ALLOW and not known.degraded and stranger.outcome is Outcome.DENY
            in_a_row = in_a_row + 1 if good else 0
            first_good = None if not good else first_good or self._loop.time()
            await asyncio.sleep(PROBE_SECONDS)
        self._recovery = None if first_good is None else first_good - repaired

    async def _null(self) -> float:
        """The slowest answer of a server that lets everybody in, under the largest burst of the script."""
        if self._null_url is None:
            return 0.0
        dialer = Dialer(self._null_url, began=self._began, give_up_seconds=self.door.deadline_seconds)
        asks = (dialer.ask(Phase.HEALTHY, Kind.JWT, "x") for _ in range(self._script.largest))
        return max(sample.seconds for sample in await asyncio.gather(*asks))


def per_second(arrivals: Iterable[float], origin: float) -> Sequence[CurvePoint]:
    """How many came in each second after the origin."""
    seconds = [int(each - origin) for each in arrivals if each >= origin]
    return [CurvePoint(float(second), seconds.count(second)) for second in range(max(seconds, default=-1) + 1)]
