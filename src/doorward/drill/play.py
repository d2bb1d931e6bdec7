"""Plays one scenario: starts what it needs, takes its steps, gathers the evidence, has it judged."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from doorward.drill.clients import Conversation, Dialer
from doorward.drill.control import Control
from doorward.drill.crowds import CROWD_ADDRESSES, Crowd, besiege
from doorward.drill.door_process import COMMAND, DoorTrouble
from doorward.drill.evidence import Evidence, Stray
from doorward.drill.faults import TROUBLES
from doorward.drill.judge import judge
from doorward.drill.recovery import Streak
from doorward.drill.results import CurvePoint, Decision, Kind, Phase, Reading, Sample, ScenarioResult
from doorward.drill.scenarios import (
    Baseline,
    Behaviour,
    Burst,
    Misbehave,
    OpenBreaker,
    Pause,
    Refuse,
    Repair,
    Restart,
    Rotate,
    Scenario,
    Siege,
    Skew,
    Step,
    Storm,
    Stream,
    Strike,
    Warm,
)
from doorward.drill.stage import Stage
from doorward.drill.strays import stray
from doorward.testing import Fault, eventually

GIVE_UP_FACTOR = 4.0
"""A client waits so many deadlines before it counts as never answered."""
LOOK_SECONDS = 0.5
LAG_SECONDS = 0.02
PROBE_SECONDS = 0.1
LIVE_IN_A_ROW = 3
BALANCED_SECONDS = 5.0
PATIENCE_SECONDS = 5.0
"""A client at fault is watched for so long after it should have ended."""
ECHO_SECONDS = 0.5
HALF_OPEN_SECONDS = 0.5
"""How long the canary that is to close a breaker waits for its answer: in that time the breaker is half open."""
HALF_OPEN_TRIES = 4
CATCH_SECONDS = 10.0
GLANCE_SECONDS = 0.03

Say = Callable[[str], None]


@dataclass(slots=True)
class _Asked:
    """A sample with the token that it was about."""

    sample: Sample
    token: str | None


@dataclass(slots=True)
class _Books:
    """What a play has seen so far."""

    asked: list[_Asked] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    echoes: list[float | None] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    baseline: Reading | None = None
    final: Reading | None = None
    recovery_seconds: float | None = None
    returned: int = 0
    returned_within_seconds: float | None = None
    client_lag_seconds: float = 0.0
    felt: int = 0

    @property
    def repaired_at(self) -> float:
        return self.marks.get("repair", 0.0)


class Play:
    """One scenario on one door.

    Args:
        folder: an empty one, for the door's data and log.
        seed: decides the order of a crowd, and what the proxy draws.
        command, warm: how the door is started; see `DoorProcess`.
        null_url: a server that lets everybody in, to compare the clients' times with.
        say: hears what is going on.
        up: hears the URL of each door that was started.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        *,
        seed: int = 0,
        command: Sequence[str] = COMMAND,
        warm: Path | None = None,
        null_url: str | None = None,
        say: Say = lambda _: None,
        up: Say = lambda _: None,
    ) -> None:
        self._scenario = scenario
        self._stage = Stage(scenario, folder, seed=seed, command=command, warm=warm)
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._say = say
        self._up = up
        self._books = _Books()
        self._wall_began = time.time()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._control = Control(
            null_url,
            began=self._began,
            give_up_seconds=scenario.rules.deadline_seconds,
            addresses=CROWD_ADDRESSES,
        )

    async def run(self) -> ScenarioResult:
        """Play it to its end, whatever happens, and judge it.

        Cancellation: everything that was started is stopped.
        """
        await self._measure_control()
        try:
            async with self._staged(), self._watched():
                for step in self._scenario.steps:
                    self._say(type(step).__name__.lower())
                    await self._take(step)
                await self._balance()
        except (DoorTrouble, AssertionError, OSError) as error:
            self._books.troubles.append(f"{type(error).__name__}: {error}")
        decisions, lost = await asyncio.to_thread(self._stage.door.decisions, self._wall_began)
        if self._control.unanswered:
            self._books.troubles.append(f"{self._control.unanswered} clients of the null server got no answer")
        return self._judged(decisions, lost)

    @asynccontextmanager
    async def _staged(self) -> AsyncIterator[None]:
        async with self._stage.set():
            if not self._scenario.starts_well:
                self._books.marks["fault"] = round(self._now(), 3)
            try:
                await self._start()
                if self._scenario.starts_well:
                    await self._stage.settle()
                yield
            finally:
                await self._end()

    async def _start(self) -> None:
        await self._stage.door.start()
        self._up(self._stage.door.url)
        give_up = self._scenario.rules.deadline_seconds * GIVE_UP_FACTOR
        self._dialer = Dialer(self._stage.door.url, began=self._began, give_up_seconds=give_up)

    async def _end(self) -> None:
        trouble = await self._stage.door.stop()
        if trouble is not None:
            self._books.troubles.append(trouble)

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Look at the door, and at our own loop, while the play goes on."""
        watchers = [asyncio.create_task(self._watch_door()), asyncio.create_task(self._watch_ourselves())]
        try:
            yield
        finally:
            await self._look()
            for watcher in watchers:
                watcher.cancel()
            await asyncio.wait(watchers)

    async def _watch_door(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _watch_ourselves(self) -> None:
        while True:
            due = self._loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self._books.client_lag_seconds = max(self._books.client_lag_seconds, self._loop.time() - due)

    async def _look(self) -> Reading | None:
        reading = await self._stage.door.reading(self._now(), upstream=self._stage.proxy.open_connections)
        if reading is not None:
            self._books.readings.append(reading)
        return reading

    def _now(self) -> float:
        return self._loop.time() - self._began

    # --- the steps ----------------------------------------------------------------------------------------------------

    async def _take(self, step: Step) -> None:  # noqa: C901 - one line for each kind of step
        match step:
            case Burst():
                await self._burst(step)
            case Stream():
                await self._stream(step.phase, step.kinds, step.per_second, step.seconds)
            case Baseline():
                self._books.baseline = await self._balanced()
            case Warm():
                await self._warm(step)
            case Refuse():
                await self._refuse(step)
            case OpenBreaker():
                await self._open_breaker()
            case Strike():
                await self._strike(step)
            case Repair():
                await self._repair(probe=step.probe)
            case Restart():
                await self._restart(kill=step.kill)
            case Rotate():
                self._stage.purse.rotate()
            case Pause():
                await asyncio.sleep(step.seconds)
            case Skew():
                self._stage.auth.clock_skew_seconds = step.seconds
            case Misbehave():
                await self._misbehave(step)
            case Siege():
                await self._siege(step)
            case Storm():
                await self._storm(step)

    async def _ask(
        self, phase: Phase, kind: Kind, *, token: str | None = None, browser: bool = False, hold: bool = False
    ) -> Sample:
        token = token or self._stage.purse.take(kind)
        sample = await self._dialer.ask(phase, kind, token, browser=browser, hold=hold)
        self._books.asked.append(_Asked(sample, token))
        return sample

    async def _burst(self, step: Burst) -> None:
        kinds = [kind for kind, number in step.crowd.items() for _ in range(number)]
        self._random.shuffle(kinds)
        await asyncio.gather(
            *(self._ask(step.phase, kind, browser=number % 3 == 2) for number, kind in enumerate(kinds))
        )

    async def _stream(self, phase: Phase, kinds: Sequence[Kind], per_second: float, seconds: float) -> None:
        """For each handshake at the door there is one at the null server in the same moment."""
        ends_at = self._loop.time() + seconds
        number = 0
        async with asyncio.TaskGroup() as group:
            while self._loop.time() < ends_at:
                group.create_task(self._ask(phase, kinds[number % len(kinds)], browser=number % 3 == 2))
                group.create_task(self._control.ask())
                number += 1
                await asyncio.sleep(1 / per_second)

    async def _warm(self, step: Warm) -> None:
        for kind, number in ((Kind.WARM_JWT, step.jwts), (Kind.WARM_OPAQUE, step.opaque)):
            tokens = self._stage.purse.prepare(kind, number)
            await asyncio.gather(*(self._ask(Phase.HEALTHY, kind, token=token) for token in tokens))
        await asyncio.sleep(step.stale_after_seconds * 1.1)

    async def _refuse(self, step: Refuse) -> None:
        for token in self._stage.purse.prepare(Kind.REJECTED, step.rejected):
            self._stage.auth.reject(token)
            await self._ask(Phase.HEALTHY, Kind.REJECTED, token=token)
        for token in self._stage.purse.prepare_revoked(step.revoked):
            await self._revoked(token)

    async def _revoked(self, token: str) -> None:
        """Wait until the door has heard of it."""
        for _ in range(50):
            sample = await self._dialer.ask(Phase.HEALTHY, Kind.REVOKED, token)
            if sample.code == "TOKEN_REVOKED":
                return
            await asyncio.sleep(PROBE_SECONDS)
        raise DoorTrouble("a revocation was not heard of")

    async def _open_breaker(self) -> None:
        self._stage.proxy.fault = Fault.REFUSE
        for _ in range(30):
            await asyncio.gather(*(self._ask(Phase.FAULT, Kind.JWT) for _ in range(4)))
            reading = await self._look()
            if reading is not None and reading.breaker == "open":
                return
            await asyncio.sleep(PROBE_SECONDS)
        raise DoorTrouble("the breaker did not open")

    async def _half_open_breaker(self) -> None:
        for _ in range(HALF_OPEN_TRIES):
            await self._open_breaker()
            if await self._caught_half_open():
                return
        raise DoorTrouble("the breaker was not caught half open")

    async def _caught_half_open(self) -> bool:
        """Let one canary through and hold back the answer to the next: until that comes the breaker is half open.

        True only if it must be so still: it was seen open so lately that the answer which closes it cannot be there yet.
        """
        self._stage.proxy.fault = Fault.latency(HALF_OPEN_SECONDS)
        open_at = self._loop.time()
        ends_at = open_at + CATCH_SECONDS
        while (looked_at := self._loop.time()) < ends_at:
            reading = await self._look()
            if reading is not None and reading.breaker == "half_open":
                return self._loop.time() - open_at < HALF_OPEN_SECONDS
            if reading is not None and reading.breaker == "open":
                open_at = looked_at
            await asyncio.sleep(GLANCE_SECONDS)
        return False

    async def _strike(self, step: Strike) -> None:
        if step.half_open:
            await self._half_open_breaker()
        self._books.marks["fault"] = round(self._now(), 3)
        self._stage.strike(TROUBLES[step.trouble])

    def _mend(self) -> None:
        self._books.felt = self._stage.mend()
        self._books.marks["repair"] = round(self._now(), 3)

    async def _repair(self, *, probe: bool) -> None:
        self._mend()
        if probe:
            self._books.recovery_seconds = await self._recovered()

    async def _recovered(self) -> float | None:
        """Until both lanes are answered live, several times in a row. Nobody but the canary finds out: these hold no fallback."""
        repaired = self._loop.time()
        rules = self._scenario.rules
        streak = Streak(LIVE_IN_A_ROW, until=repaired + (rules.recovery_seconds or 0.0) + rules.deadline_seconds)
        while streak.goes_on(self._loop.time()):
            pair = await asyncio.gather(*(self._ask(Phase.REPAIR, kind) for kind in (Kind.JWT, Kind.OPAQUE)))
            streak.add(good=all(sample.assurance == "live" for sample in pair), at=self._loop.time())
            await asyncio.sleep(PROBE_SECONDS)
        return None if streak.began_at is None else streak.began_at - repaired

    async def _logged(self) -> None:
        """A killed door takes the lines with it that it has not written yet."""
        last = self._books.asked[-1].sample.decision_id if self._books.asked else None
        if last is not None:
            await eventually(lambda: self._stage.door.has_logged(last), what="the last decision is in the log")

    async def _restart(self, *, kill: bool) -> None:
        await self._look()
        await self._logged()
        trouble = await self._stage.door.stop(kill=kill)
        if trouble is not None:
            raise DoorTrouble(trouble)
        await self._start()

    # --- crowds -------------------------------------------------------------------------------------------------------

    async def _misbehave(self, step: Misbehave) -> None:
        patience = self._scenario.rules.strays[step.behaviour].within_seconds + step.seconds + PATIENCE_SECONDS
        token = self._stage.purse.take(Kind.JWT) if step.behaviour is Behaviour.STOPS_READING else None
        async with asyncio.TaskGroup() as group:
            strays = [
                group.create_task(stray(self._stage.door.url, step.behaviour, patience_seconds=patience, token=token))
                for _ in range(step.clients)
            ]
            if self._scenario.rules.neighbour:
                group.create_task(self._neighbour(step.seconds))
            await self._stream(Phase.HEALTHY, [Kind.JWT], step.honest_per_second, step.seconds)
        self._books.strays += [task.result() for task in strays]

    async def _neighbour(self, seconds: float) -> None:
        """One client that behaves is in all the while, and asks again and again."""
        ends_at = self._loop.time() + seconds
        await self._ask(Phase.HEALTHY, Kind.JWT, hold=True)
        for conversation in self._dialer.open:
            while self._loop.time() < ends_at:
                self._books.echoes.append(await self._echo(conversation, len(self._books.echoes)))
                await asyncio.sleep(ECHO_SECONDS)
        self._dialer.leave_all()

    async def _echo(self, conversation: Conversation, number: int) -> float | None:
        began = self._loop.time()
        try:
            async with asyncio.timeout(self._dialer.give_up_seconds):
                await conversation.ping(number)
        except TimeoutError:
            return None
        return self._loop.time() - began

    async def _siege(self, step: Siege) -> None:
        patience = self._scenario.rules.strays[Behaviour.SAYS_NOTHING].within_seconds + PATIENCE_SECONDS
        async with asyncio.TaskGroup() as group:
            silent = group.create_task(besiege(self._stage.door.url, step, patience_seconds=patience))
            await self._stream(Phase.HEALTHY, [Kind.JWT, Kind.OPAQUE], step.honest_per_second, step.seconds)
        self._books.strays += silent.result()

    async def _storm(self, step: Storm) -> None:
        """All come while nobody can be asked. When the fault is mended, two tokens that nobody has seen find out how it goes."""
        give_up = self._dialer.give_up_seconds
        door = Dialer(self._stage.door.url, began=self._began, give_up_seconds=give_up, addresses=CROWD_ADDRESSES)
        crowd = Crowd(door, [self._stage.auth.issue_opaque(f"crowd-{number}") for number in range(step.clients)])
        coming = asyncio.create_task(crowd.come(step))
        try:
            await asyncio.sleep(step.repair_after_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(give_up):
                    await crowd.everybody_was_answered.wait()
            crowd.repaired = True
            self._mend()
            self._books.recovery_seconds = await self._recovered()
            await asyncio.wait({coming}, timeout=self._books.repaired_at + step.within_seconds - self._now())
            self._books.returned_within_seconds = round(self._now() - self._books.repaired_at, 2)
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            self._books.asked += [_Asked(sample, token) for sample, token in crowd.asked]
            self._books.returns = [at - self._began for at in crowd.returns]
            self._books.returned = crowd.returned

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _balanced(self) -> Reading | None:
        """What the door holds once its clients have left."""
        reading: Reading | None = None
        ends_at = self._loop.time() + BALANCED_SECONDS
        while self._loop.time() < ends_at:
            before, reading = reading, await self._look()
            if reading is not None and before is not None and not reading.admitted and reading.tasks == before.tasks:
                return reading
            await asyncio.sleep(PROBE_SECONDS)
        return reading

    async def _balance(self) -> None:
        """Wait until everything was given back, a while."""
        ends_at = self._loop.time() + BALANCED_SECONDS
        books = self._books
        while books.baseline is not None and self._loop.time() < ends_at:
            books.final = await self._look()
            if books.final is not None and _no_more(books.final, books.baseline):
                return
            await asyncio.sleep(PROBE_SECONDS)

    async def _measure_control(self) -> None:
        """The null server under the largest burst of the play, and under its crowd. What streams in is measured as it comes."""
        await self._control.crowd(self._scenario.crowd)
        for step in self._scenario.steps:
            if isinstance(step, Storm):
                await self._control.arrivals(step.clients / step.over_seconds)

    @property
    def _has_keys(self) -> bool:
        """The door had the key set all the while."""
        return self._scenario.keyset and self._scenario.starts_well

    def _judged(self, decisions: list[Decision], lost: int) -> ScenarioResult:
        books, scenario = self._books, self._scenario
        counts = self._stage.auth.asked_about
        evidence = Evidence(
            samples=[asked.sample for asked in books.asked],
            decisions=decisions,
            readings=books.readings,
            baseline=books.baseline,
            final=books.final,
            null_seconds=self._control.slowest_seconds,
            client_lag_seconds=books.client_lag_seconds,
            recovery_seconds=books.recovery_seconds,
            strays=books.strays,
            echoes=books.echoes,
            felt=books.felt,
            repaired_at=books.repaired_at,
            returns=books.returns,
            returned=books.returned,
            returned_within_seconds=books.returned_within_seconds,
            asked_in_vain=sum(counts[token] > 0 for token in self._stage.purse.refusable) if self._has_keys else 0,
            unasked=[
                asked.sample.decision_id or "?"
                for asked in books.asked
                if asked.sample.assurance in {"live", "cached"} and not counts[asked.token or ""]
            ],
            lost_lines=lost,
            troubles=books.troubles,
        )
        findings = judge(scenario.rules, evidence)
        return ScenarioResult(
            name=scenario.name,
            family=scenario.family,
            title=scenario.title,
            held=all(finding.held for finding in findings),
            findings=findings,
            factors=scenario.factors,
            seconds=round(self._now(), 2),
            slowest_ms=max((decision.ms for decision in decisions), default=None),
            overrun_ms=max((decision.overrun_ms for decision in decisions), default=None),
            lag_ms=round(evidence.lag_seconds * 1000, 2),
            null_ms=round(evidence.null_seconds * 1000, 2),
            recovery_seconds=None if books.recovery_seconds is None else round(books.recovery_seconds, 3),
            expected_rate_per_second=scenario.rules.storm.rate_per_second if scenario.rules.storm else None,
            samples=[replace(sample, seconds=round(sample.seconds, 5)) for sample in evidence.samples],
            readings=books.readings,
            curve=_per_second(books.returns, books.repaired_at),
            marks=books.marks,
        )


def _no_more(now: Reading, before: Reading) -> bool:
    """Nothing more is held than before; what cannot be seen does not count."""
    pairs = [
        (now.tasks, before.tasks),
        (now.connections, before.connections),
        (now.admitted, before.admitted),
        (now.abandoned, before.abandoned),
        ((now.files or 0) - now.upstream, (before.files or 0) - before.upstream),
    ]
    return all(one is None or other is None or one <= other for one, other in pairs)


def _per_second(arrivals: Sequence[float], origin: float) -> list[CurvePoint]:
    """Clients that came back, by the second after the repair."""
    seconds = [int(each - origin) for each in arrivals if each >= origin]
    return [CurvePoint(float(second), seconds.count(second)) for second in range(max(seconds, default=-1) + 1)]
