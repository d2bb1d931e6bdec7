"""The fault panel: every choice works, every switch is remembered, up to a bound."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from tests.runtime_kit import virtual

from doorward.errors import UsageError
from doorward.ops.faults import CHOICES, GROUPS, KEPT_SWITCHES, Choice, FaultPanel
from doorward.testing import Fault, ManualClock


class Wire:
    """What stands between door and auth service, without a socket."""

    fault = Fault.NONE


class Panel:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.wire = Wire()
        self.panel = FaultPanel(self.wire, token="made-up", clock=self.clock)

    @property
    def now(self) -> str:
        key: str = self.panel.view()["now"]
        return key


@pytest.fixture
def panel() -> Panel:
    return Panel()


def test_nothing_is_broken_at_first(panel: Panel) -> None:
    assert (panel.now, panel.panel.view()["switches"], panel.wire.fault) == ("none", (), Fault.NONE)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.key)
async def test_each_choice_breaks_and_is_healed(panel: Panel, choice: Choice) -> None:
    panel.panel.switch(choice.key)
    assert panel.now == choice.key
    assert panel.wire.fault == choice.fault
    assert panel.wire.fault != Fault.NONE
    panel.panel.switch("none")
    assert (panel.now, panel.wire.fault) == ("none", Fault.NONE)


@virtual
async def test_what_comes_and_goes_does_so_until_it_is_healed(panel: Panel) -> None:
    panel.panel.switch("flapping")
    seen = [panel.wire.fault]
    for _ in range(5):
        await asyncio.sleep(0.5)
        await asyncio.sleep(0)
        seen.append(panel.wire.fault)
    assert seen == [Fault.RESET, Fault.NONE] * 3
    panel.panel.switch("silence")
    await asyncio.sleep(5.0)
    assert panel.wire.fault == Fault.SILENCE, "another fault, and no wave of the old one washes over it"


def test_the_choices_are_told_apart() -> None:
    for field in ("key", "label", "effect"):
        assert len({getattr(choice, field) for choice in CHOICES}) == len(CHOICES) == 19


def test_the_page_gets_each_under_its_heading(panel: Panel) -> None:
    told = [(each["group"], each["key"]) for each in panel.panel.view()["choices"]]
    assert told == [(group, choice.key) for group, choices in GROUPS.items() for choice in choices]


def test_a_switch_has_its_time(panel: Panel) -> None:
    panel.panel.switch("silence")
    panel.clock.advance(3.0)
    panel.panel.switch("none")
    first, second = panel.panel.view()["switches"]
    assert (first.key, second.key) == ("silence", "none")
    assert second.at - first.at == pytest.approx(3.0)


def test_the_same_again_is_no_switch(panel: Panel) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            panel.panel.switch("drip")
    assert len(panel.panel.view()["switches"]) == len(lines) == 1


def test_what_does_not_exist_breaks_nothing(panel: Panel) -> None:
    with pytest.raises(UsageError, match="silence"):
        panel.panel.switch("fire")
    assert (panel.now, panel.wire.fault) == ("none", Fault.NONE)


def test_so_many_switches_are_kept_and_no_more(panel: Panel) -> None:
    for number in range(KEPT_SWITCHES * 2):
        panel.panel.switch(("silence", "none")[number % 2])
    assert len(panel.panel.view()["switches"]) == KEPT_SWITCHES


def test_the_token_is_not_shown(panel: Panel) -> None:
    assert "made-up" not in repr(panel.panel.view())
