"""The soak in small. The whole of it: `python -m tests.chat_soak`."""

from __future__ import annotations

from pathlib import Path

from tests.agui import needs_agui
from tests.chat_soak import Plan, soaked

pytestmark = needs_agui


async def test_many_tabs_lose_nothing_whatever_happens_to_them(tmp_path: Path) -> None:
    result = await soaked(Plan(users=10, tabs=3, runs=5, seed=7, stall_seconds=(0.2, 1.0)), tmp_path / "serve")
    print(result)
    assert result.good, str(result)
    assert result.counts["runs"] == 50
    assert result.counts["delivered"] > result.counts["events"] > 1_000
    happened = (
        "cuts without a word",
        "left politely",
        "begun anew",
        "gone on",
        "asked for another's thread",
        "stalls of a reader",
    )
    assert all(result.counts[what] for what in happened), str(result)
    assert result.endings["cancelled"]
    assert result.counts["judged"]
