"""Hashing has bounds and gives nothing away."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher

from doorward.authd.passwords import HashQueueFull, PasswordPool
from doorward.errors import StoreError


@pytest.fixture
async def pool() -> AsyncIterator[PasswordPool]:
    made = PasswordPool(1, 2)
    await made.open()
    yield made
    made.close_nowait()


async def test_right_and_wrong(pool: PasswordPool) -> None:
    encoded = await pool.hash("correct horse")
    assert encoded.startswith("$argon2id$")
    assert (await pool.verify(encoded, "correct horse")).matches
    assert not (await pool.verify(encoded, "correct horse ")).matches
    assert not (await pool.verify(None, "correct horse")).matches


async def test_an_older_hash_is_made_anew(pool: PasswordPool) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("correct horse")
    assert (await pool.verify(weak, "correct horse")).rehash
    assert not (await pool.verify(await pool.hash("correct horse"), "correct horse")).rehash


async def test_past_the_queue_it_refuses_at_once(pool: PasswordPool) -> None:
    answers = await asyncio.gather(*(pool.hash("correct horse") for _ in range(8)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, HashQueueFull)]
    assert len(refused) == 8 - 3
    assert (await pool.hash("correct horse")).startswith("$argon2id$")


async def test_cancelled_waiters_give_their_places_back(pool: PasswordPool) -> None:
    tasks = [asyncio.create_task(pool.hash("correct horse")) for _ in range(3)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=2)
    ends_at = time.monotonic() + 2
    while time.monotonic() < ends_at:
        try:
            assert await pool.hash("correct horse")
            return
        except HashQueueFull:
            await asyncio.sleep(0.01)
    raise AssertionError("the places did not come back")


async def test_an_unknown_user_takes_as_long(pool: PasswordPool) -> None:
    encoded = await pool.hash("correct horse")
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(5):
        for known in (True, False):
            started = time.perf_counter()
            await pool.verify(encoded if known else None, "wrong password")
            took[known].append(time.perf_counter() - started)
    assert statistics.median(took[False]) > statistics.median(took[True]) / 3


async def test_a_stored_hash_that_is_none_is_not_a_no(pool: PasswordPool) -> None:
    with pytest.raises(StoreError):
        await pool.verify("plain", "plain")
