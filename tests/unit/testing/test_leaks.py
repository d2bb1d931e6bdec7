"""A leak is found, and what goes away in time is none."""

from __future__ import annotations

import asyncio
import socket

import pytest

from doorward.testing import no_leaks, open_files


def test_a_socket_counts_while_it_is_open() -> None:
    before = open_files()
    with socket.socket():
        assert open_files() == before + 1
    assert open_files() == before


async def test_what_goes_away_soon_is_no_leak() -> None:
    async with no_leaks():
        leaving = asyncio.create_task(asyncio.sleep(0.02))
    assert leaving.done()


async def test_a_task_that_stays_is_a_leak() -> None:
    with pytest.raises(AssertionError, match="task"):
        async with no_leaks(within_seconds=0.02):
            staying = asyncio.create_task(asyncio.Event().wait())
    staying.cancel()


async def test_a_socket_that_stays_is_a_leak() -> None:
    staying = socket.socket()
    staying.close()
    with pytest.raises(AssertionError, match="file"):
        async with no_leaks(within_seconds=0.02):
            staying = socket.socket()
    staying.close()
