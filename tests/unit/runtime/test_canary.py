"""The canary: when it flies, what closes the breaker, and what it must never do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from tests.runtime_kit import Runtime, virtual

from doorward.core.answer import Valid
from doorward.core.breaker import Permit, State
from doorward.core.limits import Bulkhead, Lane
from doorward.core.verdict import Cause
from doorward.errors import ConnectError, Throttled
from doorward.runtime.canary import IDLE_SECONDS
from doorward.runtime.inquiry import classified

DOWN = classified(ConnectError("refused"))


@asynccontextmanager
async def flying(runtime: Runtime) -> AsyncIterator[None]:
    """From its first flight on, which is always made."""
    task = asyncio.create_task(runtime.canary.run())
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def break_it(runtime: Runtime) -> None:
    for _ in range(5):
        permit = runtime.gate.acquire()
        assert isinstance(permit, Permit)
        runtime.gate.failed(permit, 0.1, DOWN)
    assert runtime.gate.breaker.state is State.OPEN


async def started() -> Runtime:
    runtime = Runtime()
    await runtime.start()
    await runtime.memory.contact()
    return runtime


@virtual
async def test_it_is_a_token_that_must_be_refused() -> None:
    runtime = await started()
    before = runtime.memory.last_contact
    await asyncio.sleep(6.0)
    assert await runtime.canary.fly()
    assert runtime.validator.asked[0].startswith("canary-")
    assert "." not in runtime.validator.asked[0]
    assert before is not None
    assert runtime.memory.last_contact == pytest.approx(before + 6.0)


@virtual
async def test_a_service_that_accepts_anything_is_an_outage() -> None:
    runtime = await started()
    runtime.validator.outcome = Valid(user_id="anybody")
    before = runtime.memory.last_contact
    assert not await runtime.canary.fly()
    suspect = runtime.gate.suspect
    assert suspect is not None
    assert (suspect.cause, suspect.fallback) == (Cause.PROTOCOL, False)
    assert runtime.memory.last_contact == before


@virtual
async def test_two_flights_close_the_breaker_at_once_whatever_the_open_time_says() -> None:
    runtime = await started()
    break_it(runtime)
    began = runtime.clock.monotonic()
    async with flying(runtime):
        while runtime.gate.breaker.state is not State.CLOSED:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.01)
    assert runtime.clock.monotonic() - began <= 0.2
    assert len(runtime.validator.asked) == 2


@virtual
async def test_it_heals_soon_after_the_repair_and_nobody_else_had_to_ask() -> None:
    runtime = await started()
    runtime.goes_down()
    break_it(runtime)
    async with flying(runtime):
        await asyncio.sleep(40.3)
        assert runtime.gate.breaker.state is not State.CLOSED
        runtime.comes_back()
        repaired = runtime.clock.monotonic()
        while runtime.gate.in_outage:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.01)
    assert runtime.clock.monotonic() - repaired <= 2.0
    assert all(token.startswith("canary-") for token in runtime.validator.asked)


@virtual
async def test_in_an_outage_it_flies_every_second_and_never_two_at_once() -> None:
    runtime = await started()
    runtime.goes_down()
    break_it(runtime)
    async with flying(runtime):
        await asyncio.sleep(30.0)
    assert 22 <= len(runtime.validator.asked) <= 31
    assert runtime.is_quiet()


@virtual
async def test_a_hung_service_holds_one_canary_for_its_own_deadline() -> None:
    runtime = await started()
    runtime.validator.seconds = 3_600.0
    break_it(runtime)
    async with flying(runtime):
        await asyncio.sleep(20.0)
        assert runtime.validator.running <= 1
    assert 8 <= len(runtime.validator.asked) <= 10


@virtual
async def test_when_all_is_well_it_flies_only_if_nobody_was_asked_about_for_a_minute() -> None:
    runtime = await started()
    async with flying(runtime):
        await asyncio.sleep(IDLE_SECONDS - 1)
        assert len(runtime.validator.asked) == 1
        await asyncio.sleep(2.0)
        assert len(runtime.validator.asked) == 2
        await asyncio.sleep(IDLE_SECONDS - 3)
        assert len(runtime.validator.asked) == 2


@pytest.mark.parametrize("contact", [None, 9e9], ids=["never", "in the future"])
def test_without_a_record_of_a_contact_that_counts_it_makes_one(contact: float | None) -> None:
    """A clock that was set back leaves a record from the future, which switches degraded admission off."""

    @virtual
    async def main() -> None:
        runtime = Runtime()
        await runtime.start()
        runtime.memory.last_contact = contact
        async with flying(runtime):
            await asyncio.sleep(0.5)
        assert runtime.memory.last_contact == pytest.approx(runtime.clock.wall(), abs=1.0)

    main()


@virtual
async def test_it_flies_when_health_has_failed_and_nothing_was_answered_since() -> None:
    runtime = await started()
    failing: list[float | None] = [None]
    runtime.canary._failing_since = lambda: failing[0]
    async with flying(runtime):
        await asyncio.sleep(5.0)
        assert len(runtime.validator.asked) == 1
        failing[0] = runtime.clock.wall()
        await asyncio.sleep(5.0)
        assert len(runtime.validator.asked) == 2


@virtual
async def test_it_is_silent_while_its_lane_is_throttled() -> None:
    runtime = await started()
    async with flying(runtime):
        runtime.gate.held_off(Lane.UNPROVEN, classified(Throttled(429, 10.0)))
        await asyncio.sleep(9.0)
        assert len(runtime.validator.asked) == 1
        await asyncio.sleep(2.0)
        assert len(runtime.validator.asked) == 2
    assert not runtime.gate.in_outage


@virtual
async def test_calls_that_do_not_end_are_not_piled_up() -> None:
    runtime = Runtime(bulkhead=Bulkhead(4, unproven=4, abandoned=3))
    await runtime.start()
    runtime.validator.seconds = runtime.validator.stubborn_seconds = 3_600.0
    async with flying(runtime):
        await asyncio.sleep(60.0)
        assert len(runtime.validator.asked) == 3
