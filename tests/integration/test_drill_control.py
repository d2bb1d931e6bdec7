"""The null server that clients' waits are compared with: it answers everybody, and one that does not is no excuse."""

from __future__ import annotations

import asyncio
import socket

from doorward.drill.control import MIN_CROWD, Control
from doorward.drill.worker import null_server


def control(url: str | None, *, give_up_seconds: float = 20.0) -> Control:
    return Control(url, began=asyncio.get_running_loop().time(), give_up_seconds=give_up_seconds)


async def test_it_answers_crowds_and_arrivals_and_the_slowest_counts() -> None:
    async with null_server() as url:
        assert url is not None
        measured = control(url)
        await measured.ask()
        once = measured.slowest_seconds
        await measured.crowd(60)
        await measured.arrivals(50.0)
    assert 0 < once <= measured.slowest_seconds
    assert measured.unanswered == 0


async def test_a_null_server_that_does_not_answer_allows_for_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        measured = control(f"ws://127.0.0.1:{silent.getsockname()[1]}/", give_up_seconds=0.2)
        await measured.crowd(1)
    assert measured.slowest_seconds == 0
    assert measured.unanswered == MIN_CROWD


async def test_without_one_nothing_is_allowed_for() -> None:
    measured = control(None)
    await measured.crowd(10)
    assert (measured.slowest_seconds, measured.unanswered) == (0.0, 0)
