from __future__ import annotations

import asyncio

import pytest

from doorward.cli.server import DrainPolicy, _within, announce
from doorward.config import ServeSettings


def test_the_drain_follows_the_settings() -> None:
    settings = ServeSettings(drain_delay_seconds=1, drain_spread_seconds=2, run_until_seconds=3, exit_seconds=4)
    assert DrainPolicy.of(settings) == DrainPolicy(1, 2, 3, 4)
    assert DrainPolicy.of(ServeSettings()) == DrainPolicy()


def test_the_ready_line_writes_ipv6_as_a_url_does(capsys: pytest.CaptureFixture[str]) -> None:
    announce("serve", "::1", 8000)
    assert capsys.readouterr().out.startswith("doorward serve ready http://[::1]:8000 pid=")


async def test_work_that_cancels_itself_is_not_clean() -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    assert await _within(1.0, give_up(), "giving up") is False


async def test_work_that_takes_too_long_is_given_up() -> None:
    task = asyncio.current_task()
    assert await _within(0.01, asyncio.sleep(60), "sleeping") is False
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {task}
