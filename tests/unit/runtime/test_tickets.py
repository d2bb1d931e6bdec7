"""A ticket counts once, whatever is tidied up meanwhile, and whichever process of the node is shown it."""

from __future__ import annotations

import pytest
from tests.runtime_kit import FakeStore, virtual

from doorward.core.deadline import Deadline
from doorward.core.ticket import TicketUse
from doorward.core.verdict import Code, Deny, Unavailable
from doorward.runtime.bounded import Reaper
from doorward.runtime.memory import NodeMemory
from doorward.runtime.tickets import Tickets
from doorward.testing import ManualClock

SECONDS = 30.0
USE = TicketUse("/ws", None, "wss", "app.example")


class Process:
    """One of the node: what it remembers by itself ends with it, and the store is everybody's."""

    def __init__(self, store: FakeStore, clock: ManualClock) -> None:
        self.clock = clock
        self.memory = NodeMemory(store, clock)
        self.tickets = Tickets(seconds=SECONDS, memory=self.memory, clock=clock, reaper=Reaper())

    def give(self, *, until: float | None = None) -> str:
        return self.tickets.give("the-token", path="/ws", origin=None, until=until)[0]

    async def redeem(self, ticket: str) -> str | Code:
        waiting = Deadline.after(self.clock.monotonic(), 2.0)
        found = await self.tickets.redeem(ticket, USE, waiting)
        return found.code if isinstance(found, Deny | Unavailable) else found


async def process(store: FakeStore, clock: ManualClock) -> Process:
    started = Process(store, clock)
    await started.memory.open()
    return started


@pytest.mark.parametrize("age_seconds", [0.0, 15.0, 29.9])
def test_a_used_one_stays_used_when_the_store_was_tidied(age_seconds: float) -> None:
    @virtual
    async def check() -> None:
        store, clock = FakeStore(), ManualClock()
        first, second = await process(store, clock), await process(store, clock)
        ticket = first.give()
        assert await first.redeem(ticket) == "the-token"
        clock.advance(age_seconds)
        await first.memory.tidy()
        assert await first.redeem(ticket) is Code.TOKEN_REJECTED
        assert await second.redeem(ticket) is Code.TOKEN_REJECTED

    check()


@virtual
async def test_one_that_ends_with_its_token_is_remembered_as_long() -> None:
    store, clock = FakeStore(), ManualClock()
    first, second = await process(store, clock), await process(store, clock)
    ticket = first.give(until=clock.wall() + 3.0)
    assert await first.redeem(ticket) == "the-token"
    clock.advance(2.9)
    await first.memory.tidy()
    assert await second.redeem(ticket) is Code.TOKEN_REJECTED


@virtual
async def test_a_clock_that_was_set_back_makes_no_used_one_good() -> None:
    """By a quarter of an hour, in a process that was started afterwards; one that runs lets its wall clock not go back."""
    store, clock = FakeStore(), ManualClock()
    first = await process(store, clock)
    ticket = first.give()
    assert await first.redeem(ticket) == "the-token"
    clock.advance(SECONDS + 899)
    await first.memory.tidy()
    clock.shift_wall(-(SECONDS + 890))
    assert await (await process(store, clock)).redeem(ticket) is Code.TOKEN_REJECTED


@virtual
async def test_what_was_used_is_not_remembered_for_ever() -> None:
    store, clock = FakeStore(), ManualClock()
    first = await process(store, clock)
    await first.redeem(first.give())
    clock.advance(SECONDS + 901)
    await first.memory.tidy()
    assert store.redeemed == {}
