"""Every await on the way of a test token is cancelled once: nobody was let in, nothing is left behind, the next token counts."""

from __future__ import annotations

import asyncio

from joserfc.jwk import ECKey
from tests.cancel.driver import Moment, at_every_suspension, struck_at
from tests.runtime_kit import FakeStore, Runtime, virtual

from doorward.adapters.e2e_key import sign
from doorward.core.breaker import BreakerPolicy, State
from doorward.core.e2e import E2ePolicy, claims, public_part
from doorward.core.verdict import Allow

POLICY = E2ePolicy("here", "e2e", frozenset())
SECRET = ECKey.generate_key("P-256")


async def in_outage() -> Runtime:
    runtime = Runtime(
        e2e=(POLICY, public_part(SECRET)), breaker=BreakerPolicy(failures=1), store=FakeStore(seconds=0.01)
    )
    await runtime.start()
    await runtime.memory.contact()
    runtime.goes_down()
    await runtime.decide(runtime.token())
    return runtime


def made(runtime: Runtime, jti: str) -> str:
    return sign(SECRET, claims(POLICY, name="ada", jti=jti, wall_now=runtime.clock.wall(), seconds=600))


@virtual
async def test_a_test_token() -> None:
    tasks = asyncio.all_tasks()

    async def world(at: int, moment: Moment) -> bool:
        runtime = await in_outage()
        struck = await struck_at(at, moment, runtime.decide(made(runtime, "j1")))
        await asyncio.sleep(1.0)
        assert asyncio.all_tasks() <= tasks
        assert runtime.is_quiet()
        assert runtime.gate.breaker.state is State.OPEN
        assert runtime.metrics.counts["e2e_admit",] == (0 if struck else 1)
        if struck:
            assert not isinstance(await runtime.verdict(made(runtime, "j1")), Allow), (
                "it may be used up: it is not tried again"
            )
        assert isinstance(await runtime.verdict(made(runtime, "j2")), Allow)
        await runtime.aclose()
        return struck

    await at_every_suspension(world, at_least=1)
