"""The canary: a random, well-formed, opaque token that the auth service must refuse.

`valid: false` proves the path, our own credential and the contract, and risks nobody's handshake. While there is an outage it flies
every second; two successes in a row close the breaker. When all is well it flies only if nobody was asked about for a minute, so
that the record of the last live contact stays true without traffic, or if a health probe failed and nothing was answered since:
so an outage is known before a handshake runs into it, and a broken health endpoint alone is not taken for one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from doorward.core.answer import Invalid, Valid
from doorward.core.breaker import Permit, State
from doorward.core.deadline import Deadline
from doorward.core.limits import Lane
from doorward.runtime.gate import Gate, Pass
from doorward.runtime.inquiry import Inquirer
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock

EVERY_SECONDS = 1.0
IDLE_SECONDS = 60.0
LOOK_SECONDS = 0.25


class Canary:
    def __init__(
        self,
        inquirer: Inquirer,
        gate: Gate,
        memory: NodeMemory,
        *,
        clock: Clock,
        seconds: float,
        failing_since: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._inquirer = inquirer
        self._gate = gate
        self._memory = memory
        self._clock = clock
        self._seconds = seconds
        self._failing_since = failing_since

    async def run(self) -> None:
        """Fly for ever: at the start, and then when it is due."""
        flown = float("-inf")
        while True:
            if self._clock.monotonic() - flown >= self._interval():
                flown = self._clock.monotonic()
                if await self.fly() and self._gate.breaker.state is State.HALF_OPEN:
                    await self.fly()
            await asyncio.sleep(LOOK_SECONDS)

    async def fly(self) -> bool:
        """Ask once, within its own deadline. True if the service refused the token, as it must."""
        permit = self._gate.acquire(canary=True)
        assert isinstance(permit, Permit)  # noqa: S101 - a canary is never refused; this tells the type checker
        passed = Pass(Lane.UNPROVEN, permit)
        token = f"canary-{secrets.token_urlsafe(32)}"
        deadline = Deadline.after(self._clock.monotonic(), self._seconds)
        outcome = await self._inquirer.ask(token, passed, deadline, complaint=_accepts_anything)
        if not isinstance(outcome, Invalid):
            return False
        await self._memory.contact()
        return True

    def _interval(self) -> float:
        """How long after the last flight the next one is due, as things are now."""
        bulkhead = self._gate.bulkhead
        if self._gate.throttled_seconds(Lane.UNPROVEN) > 0 or bulkhead.abandoned >= bulkhead.max_abandoned:
            return float("inf")
        contact = self._memory.last_contact
        idle = contact is None or not 0 <= self._clock.wall() - contact < IDLE_SECONDS
        failing_since = self._failing_since()
        suspicious = contact is not None and failing_since is not None and contact < failing_since
        return EVERY_SECONDS if self._gate.in_outage or idle or suspicious else float("inf")


def _accepts_anything(answer: Valid | Invalid) -> str | None:
    return "the auth service accepts a random token" if isinstance(answer, Valid) else None
