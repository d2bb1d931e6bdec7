"""The warden's drill is `doorward drill` itself, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from doorward.cli.drill_process import DrillFailed, DrillProcess
from doorward.errors import LimitError
from doorward.testing.waiting import eventually


def program(folder: Path, text: str) -> tuple[str, str]:
    file = folder / "drill.py"
    file.write_text(text)
    return sys.executable, str(file)


async def test_it_plays_one_fault_and_sums_it_up() -> None:
    drill = DrillProcess()
    assert {"silence", "dns-stall", "key-rotation"} <= set(drill.faults)
    assert "reconnect-storm" not in drill.faults
    result = await drill.play("big-cookie")
    assert result["held"] is True
    (scenario,) = result["scenarios"]
    assert scenario["name"] == "big-cookie"
    assert scenario["handshakes"] > 0
    assert scenario["broken"] == []


async def test_one_at_a_time_and_what_is_cancelled_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"""
import pathlib, signal, sys, time
mark = pathlib.Path({str(mark)!r})
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    mark.write_text("begun")
    time.sleep(60)
except KeyboardInterrupt:
    mark.write_text("ended")
"""
    drill = DrillProcess(program(tmp_path, text))
    playing = asyncio.create_task(drill.play("silence"))
    await eventually(lambda: mark.exists() and mark.read_text() == "begun")
    with pytest.raises(LimitError):
        await drill.play("silence")
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert mark.read_text() == "ended"


@pytest.mark.parametrize(
    "text",
    ["raise SystemExit(1)", "import sys; open(sys.argv[-1], 'w').write('nonsense')", "import time; time.sleep(60)"],
)
async def test_one_that_does_not_come_to_its_end(text: str, tmp_path: Path) -> None:
    drill = DrillProcess(program(tmp_path, text), play_seconds=1.0)
    for _ in range(2):  # the second time shows that the first one is over
        with pytest.raises(DrillFailed, match="silence"):
            await drill.play("silence")
