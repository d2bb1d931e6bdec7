"""Judges a door that we did not write, by what its clients see. The fault proxy stands before its auth service."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import cycle
from urllib.parse import urlsplit

from doorward.drill.clients import Dialer, http_address
from doorward.drill.faults import TROUBLES, Reach, Trouble
from doorward.drill.judge import Evidence, judge
from doorward.drill.results import Kind, Outcome, Phase, Sample, ScenarioResult
from doorward.drill.scenarios import Expectations, Rules
from doorward.drill.worker import null_server
from doorward.errors import UsageError
from doorward.testing import Fault, FaultProxy, opaque_token

GIVE_UP_FACTOR = 10.0
CROWD = 12
QUICK = frozenset({"silence", "drip", "refused", "secret-refused"})
STREAM_PER_SECOND, STREAM_SECONDS = 5.0, 3.0
PROBE_SECONDS = 0.2
GOOD_IN_A_ROW = 3
REST_SECONDS = 1.0
"""Between two faults."""

Progress = Callable[[str, str | ScenarioResult], None]


@dataclass(frozen=True, slots=True)
class Target:
    """A running door and the auth service that it asks, through our proxy on `port`."""

    url: str
    upstream: str
    port: int
    tokens: Sequence[str] = field(repr=False)
    deadline_seconds: float = 2.0
    only: Sequence[str] = ()
    seed: int = 0
    quick: bool = False
    """Only the few faults that stand for the rest."""

    def check(self) -> None:
        """
        Raises:
            UsageError: it cannot be judged like this.
        """
        if urlsplit(self.url).scheme not in {"ws", "wss"}:
            raise UsageError("--target is a ws:// or wss:// URL")
        parts = urlsplit(self.upstream)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError("--auth-upstream is an http:// URL: the proxy answers for the service, so it must read it")
        if not self.tokens:
            raise UsageError("--token-file is empty")

    @property
    def troubles(self) -> Sequence[Trouble]:
        """Those that a proxy alone can make; TLS and names are the target's own business.

        Raises:
            UsageError: a pattern matches none of them.
        """
        able = [trouble for trouble in TROUBLES.values() if not trouble.tls and trouble.dns is None]
        able = [trouble for trouble in able if trouble.name in QUICK or not self.quick]
        found = [each for each in able if not self.only or any(fnmatchcase(each.name, one) for one in self.only)]
        if not found:
            raise UsageError(f"none of these faults is called so; known are {', '.join(each.name for each in able)}")
        return found


async def judged(target: Target, progress: Progress) -> list[ScenarioResult]:
    """Strike with one fault after the other.

    Raises:
        UsageError: the target cannot be judged, or does not let a good token in while all is well.

    Cancellation: the proxy is closed; the target is left as it is.
    """
    target.check()
    host, port = http_address(target.upstream)
    results = []
    async with FaultProxy(host, port, seed=target.seed, port=target.port) as proxy, null_server() as null_url:
        for trouble in target.troubles:
            progress(trouble.name, "striking")
            trial = _Trial(target, trouble, proxy, null_url)
            results.append(await trial.run())
            progress(trouble.name, results[-1])
    return results


class _Trial:
    """One fault, one door."""

    def __init__(self, target: Target, trouble: Trouble, proxy: FaultProxy, null_url: str | None) -> None:
        self._target = target
        self._trouble = trouble
        self._proxy = proxy
        self._null_url = null_url
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._dialer = Dialer(target.url, began=self._began, give_up_seconds=target.deadline_seconds * GIVE_UP_FACTOR)
        self._good = cycle(target.tokens)
        self._random = random.Random(target.seed)  # noqa: S311 - repeatable on purpose
        self._samples: list[Sample] = []
        self._marks: dict[str, float] = {}

    async def run(self) -> ScenarioResult:
        null_seconds = await self._null()
        await self._crowd(Phase.HEALTHY)
        if not any(sample.outcome is Outcome.ALLOW for sample in self._samples):
            raise UsageError(
                f"{self._target.url} lets none of the tokens in while all is well; is its auth service set to "
                f"{self._proxy.url}, and are the tokens good?"
            )
        async with self._struck():
            await self._crowd(Phase.FAULT)
            await self._stream()
        recovery = await self._recovered()
        await self._crowd(Phase.HEALED)
        await asyncio.sleep(REST_SECONDS)
        rules = Rules(expectations(self._trouble), deadline_seconds=self._target.deadline_seconds, inside=False)
        evidence = Evidence(samples=self._samples, null_seconds=null_seconds, recovery_seconds=recovery)
        findings = judge(rules, evidence)
        return ScenarioResult(
            name=self._trouble.name,
            family="outside",
            title=self._trouble.title,
            held=all(finding.held for finding in findings),
            findings=findings,
            factors={"fault": self._trouble.name},
            seconds=round(self._loop.time() - self._began, 2),
            recovery_seconds=None if recovery is None else round(recovery, 3),
            samples=self._samples,
            marks=self._marks,
        )

    @asynccontextmanager
    async def _struck(self) -> AsyncIterator[None]:
        waves = asyncio.create_task(self._wave())
        self._marks["fault"] = round(self._loop.time() - self._began, 3)
        try:
            self._proxy.fault = self._trouble.fault
            yield
        finally:
            waves.cancel()
            self._proxy.fault = Fault.NONE
            self._marks["repair"] = round(self._loop.time() - self._began, 3)

    async def _wave(self) -> None:
        while self._trouble.waves:
            for fault, seconds in self._trouble.waves:
                self._proxy.fault = fault
                await asyncio.sleep(seconds)

    async def _ask(self, phase: Phase, kind: Kind) -> Sample:
        token = next(self._good) if kind is Kind.JWT else opaque_token() if kind is Kind.STRANGER else None
        sample = await self._dialer.ask(phase, kind, token)
        if sample.outcome is Outcome.ALLOW and sample.assurance is None:
            sample = replace(sample, assurance="unsaid")
        self._samples.append(sample)
        return sample

    async def _crowd(self, phase: Phase) -> None:
        kinds = [Kind.JWT] * CROWD + [Kind.STRANGER] * (CROWD // 3) + [Kind.NO_TOKEN] * (CROWD // 6)
        self._random.shuffle(kinds)
        await asyncio.gather(*(self._ask(phase, kind) for kind in kinds))

    async def _stream(self) -> None:
        ends_at = self._loop.time() + STREAM_SECONDS
        async with asyncio.TaskGroup() as group:
            while self._loop.time() < ends_at:
                group.create_task(self._ask(Phase.FAULT, Kind.JWT))
                await asyncio.sleep(1 / STREAM_PER_SECOND)

    async def _recovered(self) -> float | None:
        repaired = self._loop.time()
        first_good: float | None = None
        in_a_row = 0
        while (
            in_a_row < GOOD_IN_A_ROW and self._loop.time() - repaired < self._target.deadline_seconds * GIVE_UP_FACTOR
        ):
            sample = await self._ask(Phase.REPAIR, Kind.JWT)
            good = sample.outcome is Outcome.ALLOW and not sample.degraded
            in_a_row = in_a_row + 1 if good else 0
            first_good = None if not good else first_good or self._loop.time()
            await asyncio.sleep(PROBE_SECONDS)
        return None if first_good is None else first_good - repaired

    async def _null(self) -> float:
        if self._null_url is None:
            return 0.0
        dialer = Dialer(self._null_url, began=self._began, give_up_seconds=self._target.deadline_seconds)
        asks = (dialer.ask(Phase.HEALTHY, Kind.JWT, "x") for _ in range(CROWD * 2))
        return max(sample.seconds for sample in await asyncio.gather(*asks))


def expectations(trouble: Trouble) -> Expectations:
    """From outside only the class of an answer counts: a good token may have to wait, but it is never called bad."""
    table: dict[tuple[Phase, Kind], frozenset[str]] = {}
    for phase in Phase:
        trouble_lasts = phase in {Phase.FAULT, Phase.REPAIR} and trouble.reach is not Reach.ALWAYS
        turned_away = frozenset({"unavailable:*"}) if trouble_lasts else frozenset()
        table[phase, Kind.JWT] = frozenset({"allow:*"}) | turned_away
        table[phase, Kind.STRANGER] = frozenset({"deny:*"}) | turned_away
        table[phase, Kind.NO_TOKEN] = frozenset({"deny:*"}) | turned_away
    return table
