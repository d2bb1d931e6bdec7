from __future__ import annotations

import asyncio
from typing import Any

import pytest

from doorward.cli.lifespan import Lifespan
from doorward.errors import ConfigError

STARTED = {"type": "lifespan.startup.complete"}


async def never(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(3600)


async def test_a_start_that_takes_too_long_is_said() -> None:
    with pytest.raises(ConfigError, match=r"did not start within 0\.01 s"):
        await Lifespan(never).startup(0.01)


async def test_a_cancelled_start_cancels_the_application() -> None:
    lifespan = Lifespan(never)
    task = asyncio.create_task(lifespan.startup(60))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=1.0)
    await asyncio.sleep(0)
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_state_is_shared_and_both_ends_are_called() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["seen"] = [(await receive())["type"]]
        await send(STARTED)
        scope["state"]["seen"].append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    lifespan = Lifespan(app)
    await lifespan.startup(1.0)
    assert await lifespan.shutdown(1.0) is True
    assert lifespan.state["seen"] == ["lifespan.startup", "lifespan.shutdown"]
    assert await lifespan.shutdown(1.0) is True


async def test_an_end_that_fails_is_not_clean() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(STARTED)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the disk is full"})

    lifespan = Lifespan(app)
    await lifespan.startup(1.0)
    assert await lifespan.shutdown(1.0) is False


async def test_an_end_that_takes_too_long_is_not_clean() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(STARTED)
        await asyncio.sleep(3600)

    lifespan = Lifespan(app)
    await lifespan.startup(1.0)
    assert await lifespan.shutdown(0.01) is False


async def test_an_application_that_was_never_started_has_nothing_to_end() -> None:
    assert await Lifespan(never).shutdown(1.0) is True
