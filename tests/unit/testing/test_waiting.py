"""A wait ends with the condition or with the bound, whichever comes first."""

from __future__ import annotations

import asyncio

import pytest

from doorward.testing import eventually


async def test_returns_as_soon_as_the_condition_holds() -> None:
    loop = asyncio.get_running_loop()
    happened = asyncio.Event()
    loop.call_later(0.02, happened.set)
    started = loop.time()
    await eventually(happened.is_set, within_seconds=5)
    assert loop.time() - started < 1


async def test_says_what_did_not_happen() -> None:
    with pytest.raises(AssertionError, match="the door opened did not come true"):
        await eventually(lambda: False, within_seconds=0.02, what="the door opened")
