"""Every await of the runtime's coroutines is cancelled once. Nothing is left behind, nothing is counted, the next call works."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from tests.cancel.driver import Moment, at_every_suspension, struck_at
from tests.runtime_kit import FakeMetrics, FakeStore, Feed, Runtime, page, virtual

from doorward.core.answer import Valid
from doorward.core.breaker import State
from doorward.core.deadline import Deadline
from doorward.core.degrade import DegradePolicy, Mode
from doorward.core.limits import Lane
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Assurance
from doorward.errors import ConnectError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.gate import Pass
from doorward.runtime.health_monitor import HealthMonitor
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Address, RevocationItem
from doorward.runtime.resolver import Resolver
from doorward.runtime.revocation_follower import RevocationFollower
from doorward.runtime.singleflight import SingleFlight, landed
from doorward.runtime.telemetry import Trace
from doorward.testing import VirtualClock, opaque_token

CLOCK = VirtualClock()
LONG = 10.0
"""Virtual seconds in which everything that is bounded has ended."""

Work = Callable[[Runtime], Coroutine[Any, Any, Any]]


async def made() -> Runtime:
    """Slow enough everywhere that each step of it is a suspension."""
    runtime = Runtime(
        degraded=DegradePolicy(mode=Mode.LOCAL_JWT), store=FakeStore(seconds=0.01), remote=True, patience_seconds=0.1
    )
    await runtime.start()
    await runtime.memory.contact()
    runtime.validator.seconds = 0.2
    return runtime


async def nothing_left(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.sleep(LONG)
    left = asyncio.all_tasks() - tasks
    assert not left, left


async def works(runtime: Runtime) -> None:
    """The next handshakes, of both lanes, get a live answer."""
    for token in (runtime.token("next"), opaque_token()):
        assert isinstance(verdict := await runtime.verdict(token), Allow)
        assert verdict.assurance is Assurance.LIVE


def untouched(runtime: Runtime) -> None:
    """A cancellation is neither success nor failure."""
    breaker = runtime.gate.breaker
    assert breaker.state is State.CLOSED
    assert not breaker._failures
    assert all(outcome.succeeded for outcome in breaker._outcomes)
    assert not runtime.gate.in_outage


def deadline(seconds: float = 2.0) -> Deadline:
    return Deadline.after(CLOCK.monotonic(), seconds)


async def ask(runtime: Runtime) -> None:
    """Two attempts: the first is refused."""
    answers: list[Any] = [ConnectError("refused"), Valid("ada")]
    runtime.validator.outcome = lambda _: answers.pop(0)
    passed = runtime.gate.enter(Lane.PROVEN)
    assert isinstance(passed, Pass)
    try:
        await runtime.inquirer.ask("t", passed, deadline(), complaint=lambda _: None)
    finally:
        runtime.gate.leave(passed)
        runtime.comes_back()


async def decide_with_an_unknown_key(runtime: Runtime) -> None:
    runtime.mint.rotate()
    runtime.source.seconds = 0.1
    await asyncio.sleep(31.0)
    await runtime.decide(runtime.token())


async def settle(runtime: Runtime) -> None:
    judgement = await runtime.decide(runtime.token())
    assert judgement.question is not None
    await runtime.verifier.settle(judgement.question)


async def recheck(runtime: Runtime) -> None:
    judgement = await runtime.decide(opaque_token())
    assert judgement.subject is not None
    await runtime.verifier.recheck(judgement.subject, Route(), deadline())


async def reject(runtime: Runtime) -> None:
    token = opaque_token()
    runtime.rejected.add(token)
    await runtime.decide(token)


PIPELINE: dict[str, Work] = {
    "decide proven": lambda runtime: runtime.decide(runtime.token()),
    "decide opaque": lambda runtime: runtime.decide(opaque_token()),
    "decide unknown key": decide_with_an_unknown_key,
    "judge": lambda runtime: runtime.verifier.judge(runtime.token(), Route(), deadline(), Trace(CLOCK), patient=False),
    "settle": settle,
    "recheck": recheck,
    "reject": reject,
    "fly the canary": lambda runtime: runtime.canary.fly(),
    "look again": lambda runtime: runtime.keys.look_again(deadline()),
    "fetch": lambda runtime: runtime.keys._fetch(),
    "load": lambda runtime: runtime.keys.load(),
    "bar": lambda runtime: runtime.memory.bar(bytes(32), CLOCK.wall() + 60, Lane.PROVEN),
    "lift": lambda runtime: lift(runtime),
    "contact": lambda runtime: contact(runtime),
    "tidy": lambda runtime: runtime.memory.tidy(),
    "apply": lambda runtime: runtime.memory.apply(
        page("1", RevocationItem(jti="j")), snapshot=True, complete_at=CLOCK.wall()
    ),
}


async def lift(runtime: Runtime) -> None:
    await runtime.memory.bar(bytes(32), CLOCK.wall() + 60, Lane.PROVEN)
    await runtime.memory.lift(bytes(32))


async def contact(runtime: Runtime) -> None:
    await asyncio.sleep(6.0)
    await runtime.memory.contact()


@pytest.mark.parametrize("name", PIPELINE)
def test_the_pipeline_and_what_runs_in_the_background(name: str) -> None:
    @virtual
    async def main() -> None:
        tasks = asyncio.all_tasks()

        async def world(at: int, moment: Moment) -> bool:
            runtime = await made()
            await asyncio.sleep(31.0)
            struck = await struck_at(at, moment, PIPELINE[name](runtime))
            await nothing_left(tasks)
            assert runtime.is_quiet()
            untouched(runtime)
            await works(runtime)
            return struck

        await at_every_suspension(world, at_least=1)

    main()


@virtual
async def test_an_inquiry_of_two_attempts() -> None:
    """Its first attempt has failed for a reason of its own, which counts."""
    tasks = asyncio.all_tasks()

    async def world(at: int, moment: Moment) -> bool:
        runtime = await made()
        struck = await struck_at(at, moment, ask(runtime))
        await nothing_left(tasks)
        assert runtime.is_quiet()
        assert len(runtime.gate.breaker._failures) <= 1
        await works(runtime)
        return struck

    await at_every_suspension(world, at_least=2)


@pytest.mark.parametrize("stubborn_seconds", [0.0, 3.0])
def test_a_bounded_wait(stubborn_seconds: float) -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(0.2)
            return "done"
        finally:
            await asyncio.sleep(stubborn_seconds)

    @virtual
    async def main() -> None:
        tasks, reaper, over = asyncio.all_tasks(), Reaper(), [0, 0]

        def abandoned() -> Callable[[], None]:
            over[0] += 1

            def ended() -> None:
                over[1] += 1

            return ended

        async def world(at: int, moment: Moment) -> bool:
            waiting = bounded(work(), deadline(5.0), clock=CLOCK, reaper=reaper, on_abandoned=abandoned)
            struck = await struck_at(at, moment, waiting)
            assert len(reaper) == int(struck and (moment is Moment.WAITING or len(reaper) == 1))
            await nothing_left(tasks)
            assert len(reaper) == 0
            assert over[0] == over[1]
            return struck

        await at_every_suspension(world, at_least=1)
        assert over[0] > 0

    main()


@virtual
async def test_a_waiter_of_a_flight() -> None:
    async def fly() -> str:
        await asyncio.sleep(0.2)
        return "landed"

    tasks = asyncio.all_tasks()

    async def world(at: int, moment: Moment) -> bool:
        flights: SingleFlight[str] = SingleFlight()
        flight = flights.start("key", fly())
        struck = await struck_at(at, moment, landed(flight, 5.0))
        assert await flight == "landed", "the flight is nobody's"
        await nothing_left(tasks)
        assert len(flights) == 0
        return struck

    await at_every_suspension(world, at_least=1)


@virtual
async def test_a_flight_that_is_cut_short_gives_its_slot_back() -> None:
    """Closing cancels the flight itself, at each of its own suspensions."""
    tasks = asyncio.all_tasks()
    for wait in (0.0, 0.1, 0.2, 0.205, 0.215, 0.3):
        runtime = await made()
        for token in (runtime.token(), opaque_token()):
            deciding = asyncio.create_task(runtime.decide(token))
            await asyncio.sleep(wait)
            await runtime.verifier.aclose(seconds=1.0)
            await deciding
        await nothing_left(tasks)
        assert runtime.is_quiet()
        untouched(runtime)


@virtual
async def test_a_poll_of_the_revocation_feed() -> None:
    tasks = asyncio.all_tasks()

    async def world(at: int, moment: Moment) -> bool:
        heard: list[RevocationItem] = []

        def hear(items: Sequence[RevocationItem]) -> None:
            heard.extend(items)

        item, store = RevocationItem(jti="j"), FakeStore(seconds=0.01)
        feed, memory, reaper = Feed([page("1", item)]), NodeMemory(store, CLOCK), Reaper()
        await memory.open()
        follower = RevocationFollower(
            "auth", feed, memory, clock=CLOCK, reaper=reaper, uniform=lambda: 0.5, on_items=hear
        )
        struck = await struck_at(at, moment, follower._poll())
        await nothing_left(tasks)
        assert len(reaper) == 0
        feed.script.append(page("2", RevocationItem(session_id="s")))
        while feed.script:
            await follower._poll()
        assert memory.feed_cursor == "2"
        assert (memory.feed_cursor, memory.last_feed is not None) == (store.feed_cursor, True)
        assert heard[-1] == RevocationItem(session_id="s")
        return struck

    await at_every_suspension(world, at_least=2)


@virtual
async def test_a_health_probe() -> None:
    class Probe:
        async def probe(self, *, deadline: Deadline) -> None:
            await asyncio.sleep(0.2)

    tasks = asyncio.all_tasks()

    async def world(at: int, moment: Moment) -> bool:
        reaper = Reaper()
        monitor = HealthMonitor(
            "auth", Probe(), FakeMetrics(), clock=CLOCK, reaper=reaper, uniform=lambda: 0.5, in_outage=lambda: False
        )
        struck = await struck_at(at, moment, monitor.check())
        await nothing_left(tasks)
        assert len(reaper) == 0
        assert (monitor.last_ms is None) is struck
        await monitor.check()
        assert monitor.health.condition == "healthy"
        return struck

    await at_every_suspension(world, at_least=1)


@virtual
async def test_a_look_into_the_resolver() -> None:
    class Dns:
        async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
            await asyncio.sleep(0.2)
            return [Address("192.0.2.1", socket.AF_INET)], 60.0

        async def aclose(self) -> None: ...

    tasks = asyncio.all_tasks()

    async def world(at: int, moment: Moment) -> bool:
        resolver = Resolver(Dns(), CLOCK, tls=True)
        struck = await struck_at(at, moment, resolver.resolve("auth.test", deadline=deadline()))
        await nothing_left(tasks)
        assert await resolver.resolve("auth.test", deadline=deadline(0.0)), "the query went on for whoever asks next"
        return struck

    await at_every_suspension(world, at_least=1)
