"""Plays one scenario: starts what it needs, takes its steps, gathers the evidence, has it judged."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from doorward.drill.clients import Dialer
from doorward.drill.door_process import COMMAND, DoorProcess, DoorTrouble
from doorward.drill.faults import TROUBLES, Trouble
from doorward.drill.judge import Evidence, Stray, judge
from doorward.drill.purse import Purse
from doorward.drill.recovery import Streak
from doorward.drill.results import CurvePoint, Decision, Kind, Outcome, Phase, Reading, Sample, ScenarioResult
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
from doorward.drill.strays import stray
from doorward.testing import DnsFault, Endpoint, FakeAuthService, Fault, FaultDns, FaultProxy, eventually, throwaway_tls

NAME = "auth.drill.test"
GIVE_UP_FACTOR = 4.0
"""A client waits so many deadlines before it counts as never answered."""
SETTLE_SECONDS = 10.0
LOOK_SECONDS = 0.5
LAG_SECONDS = 0.02
PROBE_SECONDS = 0.1
LIVE_IN_A_ROW = 3
BALANCED_SECONDS = 5.0
PINGS = 500
CROWD_ADDRESSES = tuple(f"127.0.1.{number}" for number in range(1, 201)) if sys.platform == "linux" else ()
"""Every address of 127/8 is there on Linux alone."""

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
    curve: list[CurvePoint] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    baseline: Reading | None = None
    final: Reading | None = None
    recovery_seconds: float | None = None
    returned: int = 0
    returned_within_seconds: float | None = None
    client_lag_seconds: float = 0.0


class Play:
    """One scenario on one door.

    Args:
        folder: an empty one, for the door's data and log.
        seed: decides the order of a crowd, and what the proxy draws.
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
        null_url: str | None = None,
        say: Say = lambda _: None,
        up: Say = lambda _: None,
    ) -> None:
        self._scenario = scenario
        self._folder = folder
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._command = command
        self._null_url = null_url
        self._say = say
        self._up = up
        self._books = _Books()
        self._wall_began = time.time()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._waves: asyncio.Task[None] | None = None
        self._secure = scenario.trouble is not None and TROUBLES[scenario.trouble].tls
        self._named = scenario.trouble is not None and TROUBLES[scenario.trouble].dns is not None

    async def run(self) -> ScenarioResult:
        """Play it to its end, whatever happens, and judge it.

        Cancellation: everything that was started is stopped.
        """
        null_seconds = await self._measured_null()
        try:
            async with self._staged(), self._watched():
                for step in self._scenario.steps:
                    self._say(type(step).__name__.lower())
                    await self._take(step)
                await self._balance()
        except (DoorTrouble, AssertionError, OSError) as error:
            self._books.troubles.append(f"{type(error).__name__}: {error}")
        decisions, lost = await asyncio.to_thread(self._door.decisions, self._wall_began)
        return self._judged(decisions, lost, null_seconds)

    # --- the stage ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _staged(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            tls = await asyncio.to_thread(throwaway_tls) if self._secure else None
            self._auth = await stack.enter_async_context(FakeAuthService(ssl_context=tls.server if tls else None))
            self._proxy = await stack.enter_async_context(FaultProxy(self._auth.host, self._auth.port, seed=self._seed))
            self._dns = await stack.enter_async_context(FaultDns({NAME: ["127.0.0.1"]}, ttl_seconds=1))
            self._purse = Purse(self._auth)
            settings = self._settings()
            if tls is not None:
                ca_file = self._folder / "ca.pem"
                await asyncio.to_thread(ca_file.write_bytes, tls.ca_pem)
                settings["auth.ca_file"] = ca_file
            if not self._scenario.keyset:
                self._auth.answer_with(503, endpoint=Endpoint.JWKS)
            self._door = DoorProcess(self._folder, settings, command=self._command)
            stack.push_async_callback(self._end)
            if not self._scenario.starts_well and self._scenario.trouble is not None:
                await self._strike(TROUBLES[self._scenario.trouble])
            await self._start()
            if self._scenario.starts_well:
                await self._settle()
            yield

    def _settings(self) -> dict[str, Any]:
        auth, proxy = self._auth, self._proxy
        host = NAME if self._named else "127.0.0.1"
        settings: dict[str, Any] = {
            "auth.url": f"{'https' if self._secure else 'http'}://{host}:{proxy.port}",
            "auth.issuer": auth.issuer,
            "auth.audience": auth.audience,
            "auth.service_id": auth.service_id,
            "auth.service_secret": auth.service_secret,
            "degrade.mode": "local_jwt",
            "deadline_seconds": self._scenario.rules.deadline_seconds,
        }
        if self._named:
            settings |= {"auth.dns_servers": self._dns.address, "environment": "staging"}
        return settings | dict(self._scenario.settings)

    async def _start(self) -> None:
        await self._door.start()
        self._up(self._door.url)
        give_up = self._scenario.rules.deadline_seconds * GIVE_UP_FACTOR
        self._dialer = Dialer(self._door.url, began=self._began, give_up_seconds=give_up)

    async def _end(self) -> None:
        if self._waves is not None:
            self._waves.cancel()
        trouble = await self._door.stop()
        if trouble is not None:
            self._books.troubles.append(trouble)

    async def _settle(self) -> None:
        """Wait until everything that runs in the background has been heard from once."""
        calls = self._auth.calls
        await eventually(
            lambda: calls[Endpoint.VALIDATE] >= 1 and calls[Endpoint.JWKS] >= 1 and calls[Endpoint.REVOCATIONS] >= 2,
            within_seconds=SETTLE_SECONDS,
            what="the door has heard from the auth service",
        )

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
        reading = await self._door.reading(self._now(), upstream=self._proxy.open_connections)
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
                await self._strike(TROUBLES[step.trouble])
            case Repair():
                await self._repair(probe=step.probe)
            case Restart():
                await self._restart(kill=step.kill)
            case Rotate():
                self._purse.rotate()
            case Pause():
                await asyncio.sleep(step.seconds)
            case Skew():
                self._auth.clock_skew_seconds = step.seconds
            case Misbehave():
                await self._misbehave(step)
            case Siege():
                await self._siege(step)
            case Storm():
                await self._storm(step)

    async def _ask(
        self, phase: Phase, kind: Kind, *, token: str | None = None, browser: bool = False, hold: bool = False
    ) -> Sample:
        token = token or self._purse.take(kind)
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
        ends_at = self._loop.time() + seconds
        asks: list[asyncio.Task[Sample]] = []
        async with asyncio.TaskGroup() as group:
            while self._loop.time() < ends_at:
                kind = kinds[len(asks) % len(kinds)]
                asks.append(group.create_task(self._ask(phase, kind, browser=len(asks) % 3 == 2)))
                await asyncio.sleep(1 / per_second)

    async def _warm(self, step: Warm) -> None:
        for kind, number in ((Kind.WARM_JWT, step.jwts), (Kind.WARM_OPAQUE, step.opaque)):
            tokens = self._purse.prepare(kind, number)
            await asyncio.gather(*(self._ask(Phase.HEALTHY, kind, token=token) for token in tokens))
        await asyncio.sleep(step.stale_after_seconds * 1.1)

    async def _refuse(self, step: Refuse) -> None:
        for token in self._purse.prepare(Kind.REJECTED, step.rejected):
            self._auth.reject(token)
            await self._ask(Phase.HEALTHY, Kind.REJECTED, token=token)
        for token in self._purse.prepare_revoked(step.revoked):
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
        self._proxy.fault = Fault.REFUSE
        for _ in range(30):
            await asyncio.gather(*(self._ask(Phase.FAULT, Kind.JWT) for _ in range(4)))
            reading = await self._look()
            if reading is not None and reading.breaker == "open":
                return
            await asyncio.sleep(PROBE_SECONDS)
        raise DoorTrouble("the breaker did not open")

    async def _strike(self, trouble: Trouble) -> None:
        self._books.marks["fault"] = round(self._now(), 3)
        if trouble.cut_first:
            self._proxy.fault = Fault.RESET
        if trouble.dns is not None:
            self._dns.fault = trouble.dns
        if trouble.waves:
            self._waves = asyncio.create_task(self._wave(trouble))
        self._proxy.fault = trouble.fault

    async def _wave(self, trouble: Trouble) -> None:
        while True:
            for fault, seconds in trouble.waves:
                self._proxy.fault = fault
                await asyncio.sleep(seconds)

    def _mend(self) -> None:
        if self._waves is not None:
            self._waves.cancel()
            self._waves = None
        self._dns.fault = DnsFault.NONE
        self._proxy.fault = Fault.NONE
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
            await eventually(lambda: self._door.has_logged(last), what="the last decision is in the log")

    async def _restart(self, *, kill: bool) -> None:
        await self._look()
        await self._logged()
        trouble = await self._door.stop(kill=kill)
        if trouble is not None:
            raise DoorTrouble(trouble)
        await self._start()

    # --- crowds -------------------------------------------------------------------------------------------------------

    async def _misbehave(self, step: Misbehave) -> None:
        if step.behaviour is Behaviour.STOPS_READING:
            await self._stop_reading(step)
            return
        patience = self._scenario.rules.strays[step.behaviour].within_seconds + step.seconds
        async with asyncio.TaskGroup() as group:
            strays = [
                group.create_task(stray(self._door.url, step.behaviour, patience_seconds=patience))
                for _ in range(step.clients)
            ]
            await self._stream(Phase.HEALTHY, [Kind.JWT], step.honest_per_second, step.seconds)
        self._books.strays += [task.result() for task in strays]

    async def _stop_reading(self, step: Misbehave) -> None:
        await asyncio.gather(*(self._ask(Phase.HEALTHY, Kind.JWT, hold=True) for _ in range(step.clients)))
        for conversation in self._dialer.open:
            conversation.stop_reading()
            for number in range(PINGS):
                conversation.say({"id": f"{'x' * 120}{number}", "type": "ping"})
        await self._stream(Phase.HEALTHY, [Kind.JWT], step.honest_per_second, step.seconds)
        while self._dialer.open:
            self._dialer.open.pop().abort()

    async def _siege(self, step: Siege) -> None:
        silent: set[asyncio.Transport] = set()
        besieging = asyncio.create_task(self._besiege(step, silent))
        try:
            await self._stream(Phase.HEALTHY, [Kind.JWT, Kind.OPAQUE], step.honest_per_second, step.seconds)
        finally:
            besieging.cancel()
            await asyncio.wait({besieging})
            for transport in silent:
                transport.abort()
        self._say(f"{len(silent)} silent connections")

    async def _besiege(self, step: Siege, silent: set[asyncio.Transport]) -> None:
        host, port = self._door.url.removeprefix("ws://").partition("/")[0].rsplit(":", 1)
        for number in range(int(step.per_second * step.seconds)):
            local = (CROWD_ADDRESSES[number % len(CROWD_ADDRESSES)], 0) if CROWD_ADDRESSES else None
            with contextlib.suppress(OSError):
                transport, _ = await self._loop.create_connection(asyncio.Protocol, host, int(port), local_addr=local)
                silent.add(transport)
            due = self._loop.time() if number % 10 else self._loop.time() + 10 / step.per_second
            await asyncio.sleep(max(due - self._loop.time(), 0.0))

    async def _storm(self, step: Storm) -> None:
        """All come while nobody can be asked; each comes back when it was told to."""
        door = Dialer(
            self._door.url, began=self._began, give_up_seconds=self._dialer.give_up_seconds, addresses=CROWD_ADDRESSES
        )
        tokens = [self._auth.issue_opaque(f"crowd-{number}") for number in range(step.clients)]
        arrivals: list[float] = []
        begun = self._loop.time()
        repaired: asyncio.Future[float] = self._loop.create_future()

        async def client(token: str, starts_at: float) -> None:
            await asyncio.sleep(starts_at - self._loop.time())
            while self._loop.time() < begun + step.repair_after_seconds + step.within_seconds:
                sample = await door.ask(Phase.FAULT, Kind.OPAQUE, token)
                if repaired.done():  # who came in the outage and was answered after it may have either answer
                    sample = replace(sample, phase=Phase.REPAIR)
                self._books.asked.append(_Asked(sample, token))
                if sample.outcome is Outcome.ALLOW:
                    self._books.returned += 1
                    return
                await asyncio.sleep((sample.retry_after_ms or 1000) / 1000)
                arrivals.append(self._loop.time())

        clients = [
            asyncio.create_task(client(token, begun + step.over_seconds * number / step.clients))
            for number, token in enumerate(tokens)
        ]
        await asyncio.sleep(step.repair_after_seconds)
        self._mend()
        repaired.set_result(self._loop.time())
        healing = asyncio.create_task(self._recovered())
        await asyncio.wait(clients, timeout=step.within_seconds)
        over = self._loop.time()
        for task in clients:
            task.cancel()
        self._books.recovery_seconds = await healing
        self._books.returned_within_seconds = round(over - repaired.result(), 2)
        self._books.curve = _per_second(arrivals, repaired.result())

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

    async def _measured_null(self) -> float:
        """The slowest answer of a server that lets everybody in, under the largest burst of the play."""
        if self._null_url is None:
            return 0.0
        dialer = Dialer(self._null_url, began=self._began, give_up_seconds=self._scenario.rules.deadline_seconds)
        asks: list[Awaitable[Sample]] = [
            dialer.ask(Phase.HEALTHY, Kind.JWT, "x") for _ in range(max(self._scenario.crowd, 10))
        ]
        return max(sample.seconds for sample in await asyncio.gather(*asks))

    @property
    def _has_keys(self) -> bool:
        """The door had the key set all the while."""
        return self._scenario.keyset and self._scenario.starts_well

    def _judged(self, decisions: list[Decision], lost: int, null_seconds: float) -> ScenarioResult:
        books, scenario = self._books, self._scenario
        counts = self._auth.asked_about
        evidence = Evidence(
            samples=[asked.sample for asked in books.asked],
            decisions=decisions,
            readings=books.readings,
            baseline=books.baseline,
            final=books.final,
            null_seconds=null_seconds,
            client_lag_seconds=books.client_lag_seconds,
            recovery_seconds=books.recovery_seconds,
            strays=books.strays,
            curve=books.curve,
            returned=books.returned,
            returned_within_seconds=books.returned_within_seconds,
            asked_in_vain=sum(counts[token] > 0 for token in self._purse.refusable) if self._has_keys else 0,
            unasked=[
                asked.sample.decision_id or "?"
                for asked in books.asked
                if asked.sample.assurance == "live" and not counts[asked.token or ""]
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
            recovery_seconds=None if books.recovery_seconds is None else round(books.recovery_seconds, 3),
            expected_rate_per_second=scenario.rules.storm.rate_per_second if scenario.rules.storm else None,
            samples=[replace(sample, seconds=round(sample.seconds, 5)) for sample in evidence.samples],
            readings=books.readings,
            curve=books.curve,
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
