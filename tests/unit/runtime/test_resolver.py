"""The resolver's memory: what it answers at once, what it asks, and what it no longer believes."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from doorward.core.deadline import Deadline
from doorward.errors import ResolveError
from doorward.runtime.ports import Address
from doorward.runtime.resolver import (
    MAX_AGE_WITH_TLS_SECONDS,
    MAX_AGE_WITHOUT_TLS_SECONDS,
    MAX_HOSTS,
    MAX_REFRESH_SECONDS,
    MIN_REFRESH_SECONDS,
    QUERY_SECONDS,
    Resolver,
)
from doorward.testing import ManualClock, eventually

OLD = (Address("192.0.2.1", socket.AF_INET),)
NEW = (Address("192.0.2.2", socket.AF_INET),)


class Dns:
    """Answers what it is told; `gate` holds every answer back while it is closed."""

    def __init__(self) -> None:
        self.answer: Sequence[Address] | None = OLD
        self.ttl_seconds = 10.0
        self.asked: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()

    async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
        self.asked[host] += 1
        await self.gate.wait()
        if self.answer is None:
            raise ResolveError(f"{host}: no such name")
        return self.answer, self.ttl_seconds

    async def aclose(self) -> None: ...


@pytest.fixture
def dns() -> Dns:
    return Dns()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def resolver(dns: Dns, clock: ManualClock) -> AsyncIterator[Resolver]:
    resolver = Resolver(dns, clock, tls=False)
    yield resolver
    await resolver.aclose()


async def ask(
    resolver: Resolver, clock: ManualClock, host: str = "auth.test", seconds: float = 5.0
) -> Sequence[Address]:
    return await resolver.resolve(host, deadline=Deadline.after(clock.monotonic(), seconds))


async def settled(resolver: Resolver) -> None:
    await eventually(lambda: not resolver._flights)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("localhost", ["127.0.0.1", "::1"]),
        ("LOCALHOST.", ["127.0.0.1", "::1"]),
        ("auth.localhost", ["127.0.0.1", "::1"]),
    ],
)
async def test_what_needs_no_name_server(
    resolver: Resolver, clock: ManualClock, dns: Dns, host: str, expected: Sequence[str]
) -> None:
    addresses = await ask(resolver, clock, host)
    assert [address.host for address in addresses] == expected
    assert all((":" in address.host) == (address.family == socket.AF_INET6) for address in addresses)
    assert not dns.asked


async def test_a_known_name_is_not_asked_again_before_its_ttl(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    for host in ("auth.test", "AUTH.test", "auth.test."):
        assert await ask(resolver, clock, host) == OLD
    clock.advance(9.9)
    await ask(resolver, clock)
    assert dns.asked == {"auth.test": 1}


async def test_after_the_ttl_the_old_answer_is_given_at_once_and_a_new_one_fetched(
    resolver: Resolver, clock: ManualClock, dns: Dns
) -> None:
    await ask(resolver, clock)
    dns.answer = NEW
    dns.gate.clear()
    clock.advance(10)
    for _ in range(5):
        assert await ask(resolver, clock) == OLD
    await eventually(lambda: dns.asked["auth.test"] == 2)
    dns.gate.set()
    await settled(resolver)
    assert await ask(resolver, clock) == NEW
    assert dns.asked["auth.test"] == 2


@pytest.mark.parametrize(
    ("ttl_seconds", "refresh_seconds"), [(0, MIN_REFRESH_SECONDS), (30, 30), (86_400, MAX_REFRESH_SECONDS)]
)
async def test_the_ttl_is_clamped(
    resolver: Resolver, clock: ManualClock, dns: Dns, ttl_seconds: float, refresh_seconds: float
) -> None:
    dns.ttl_seconds = ttl_seconds
    await ask(resolver, clock)
    clock.advance(refresh_seconds - 0.01)
    await ask(resolver, clock)
    assert not resolver._flights
    clock.advance(0.01)
    await ask(resolver, clock)
    await settled(resolver)
    assert dns.asked["auth.test"] == 2


@pytest.mark.parametrize(("tls", "max_age"), [(True, MAX_AGE_WITH_TLS_SECONDS), (False, MAX_AGE_WITHOUT_TLS_SECONDS)])
async def test_a_dead_name_server_is_no_outage_until_the_memory_is_too_old(
    clock: ManualClock, dns: Dns, tls: bool, max_age: float
) -> None:
    resolver = Resolver(dns, clock, tls=tls)
    await ask(resolver, clock)
    dns.answer = None
    clock.advance(max_age)
    assert await ask(resolver, clock) == OLD
    await settled(resolver)
    clock.advance(0.01)
    with pytest.raises(ResolveError):
        await ask(resolver, clock)
    await resolver.aclose()


async def test_a_failing_refresh_is_tried_once_a_second(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    await ask(resolver, clock)
    dns.answer = None
    clock.advance(10)
    for _ in range(3):
        await ask(resolver, clock)
        await settled(resolver)
    assert dns.asked["auth.test"] == 2
    clock.advance(MIN_REFRESH_SECONDS)
    await ask(resolver, clock)
    await settled(resolver)
    assert dns.asked["auth.test"] == 3


async def test_no_is_not_remembered(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    dns.answer = None
    for _ in range(2):
        with pytest.raises(ResolveError):
            await ask(resolver, clock)
    dns.answer = ()
    with pytest.raises(ResolveError, match="no address"):
        await ask(resolver, clock)
    dns.answer = NEW
    assert await ask(resolver, clock) == NEW


async def test_one_query_in_flight_and_nobody_owns_it(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    dns.gate.clear()
    callers = [asyncio.create_task(ask(resolver, clock)) for _ in range(20)]
    await eventually(lambda: dns.asked["auth.test"] == 1)
    callers[0].cancel()
    await asyncio.wait({callers[0]})
    dns.gate.set()
    assert await asyncio.gather(*callers[1:]) == [OLD] * 19
    assert dns.asked["auth.test"] == 1


async def test_the_deadline_holds_while_the_query_goes_on(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    dns.gate.clear()
    with pytest.raises(ResolveError, match="in time"):
        await ask(resolver, clock, seconds=0.05)
    dns.gate.set()
    await settled(resolver)
    assert await ask(resolver, clock, seconds=0.0) == OLD


async def test_a_query_never_outlives_its_bound(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    dns.gate.clear()
    started = asyncio.get_running_loop().time()
    with pytest.raises(ResolveError, match="name servers in 1 s"):
        await ask(resolver, clock, seconds=60)
    assert asyncio.get_running_loop().time() - started < QUERY_SECONDS + 1


async def test_names_are_bounded_in_number(resolver: Resolver, clock: ManualClock, dns: Dns) -> None:
    for number in range(MAX_HOSTS + 10):
        await ask(resolver, clock, f"host-{number}.test")
    assert len(resolver._known) == MAX_HOSTS


async def test_closing_ends_the_query_and_whoever_waits_for_it(
    resolver: Resolver, clock: ManualClock, dns: Dns
) -> None:
    dns.gate.clear()
    caller = asyncio.create_task(ask(resolver, clock))
    await eventually(lambda: dns.asked["auth.test"] == 1)
    await resolver.aclose()
    with pytest.raises(ResolveError, match="closed"):
        await caller
