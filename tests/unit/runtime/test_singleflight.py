"""One flight per key, which nobody owns."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from tests.runtime_kit import virtual

from doorward.runtime.singleflight import SingleFlight, landed

REQUEST = contextvars.ContextVar("REQUEST", default="none")


async def slow(seconds: float = 1.0) -> str:
    await asyncio.sleep(seconds)
    return REQUEST.get()


@virtual
async def test_is_found_by_its_key_until_it_has_landed() -> None:
    flights: SingleFlight[str] = SingleFlight()
    flight = flights.start("a", slow())
    assert flights.get("a") is flight
    assert flights.get("b") is None
    assert len(flights) == 1
    assert await landed(flight, 5.0)
    await asyncio.sleep(0)
    assert flights.get("a") is None
    assert len(flights) == 0


@virtual
async def test_knows_nothing_of_whoever_started_it() -> None:
    flights: SingleFlight[str] = SingleFlight()
    REQUEST.set("the leader's")
    assert await flights.start("a", slow()) == "none"


@virtual
async def test_a_waiter_that_leaves_fails_nobody() -> None:
    flights: SingleFlight[str] = SingleFlight()
    flight = flights.start("a", slow())
    leader = asyncio.create_task(landed(flight, 5.0))
    follower = asyncio.create_task(landed(flight, 5.0))
    await asyncio.sleep(0.5)
    leader.cancel()
    assert await follower
    assert flight.result() == "none"


@virtual
async def test_a_waiter_waits_no_longer_than_it_may() -> None:
    loop = asyncio.get_running_loop()
    flights: SingleFlight[str] = SingleFlight()
    flight = flights.start("a", slow(10.0))
    began = loop.time()
    assert not await landed(flight, 0.5)
    assert loop.time() - began == pytest.approx(0.5)
    assert not await landed(flight, -1.0)
    assert not flight.done()
    await flights.aclose(seconds=1.0)


@virtual
async def test_has_landed_at_once_when_it_is_back() -> None:
    flights: SingleFlight[str] = SingleFlight()
    flight = flights.start("a", slow(0.0))
    await flight
    assert await landed(flight, 0.0)


@virtual
async def test_closing_is_bounded() -> None:
    async def stubborn() -> str:
        while True:
            try:
                await asyncio.sleep(3.0)
                return "at last"
            except asyncio.CancelledError:
                continue

    loop = asyncio.get_running_loop()
    flights: SingleFlight[str] = SingleFlight()
    flight = flights.start("a", stubborn())
    await asyncio.sleep(0)
    began = loop.time()
    await flights.aclose(seconds=1.0)
    assert loop.time() - began == pytest.approx(1.0)
    await flight


@virtual
async def test_closing_nothing_takes_no_time() -> None:
    await SingleFlight[str]().aclose(seconds=1.0)
