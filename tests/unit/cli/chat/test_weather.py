"""What is said about the connection, and when."""

from __future__ import annotations

import pytest

from doorward.cli.chat.weather import BLINK_SECONDS, Weather
from doorward.client import DoorView, Reason, State, StateName
from doorward.core.verdict import Action

LOST = Reason("CONNECT_FAILED", Action.RETRY, detail="connection refused")
OPEN = State(StateName.OPEN, door=DoorView("u1"))
WAITING = State(StateName.WAITING, 2, LOST, 1_000.0)
DEGRADED = State(StateName.DEGRADED, door=DoorView("u1", degraded=True))
LONG = BLINK_SECONDS + 0.1


@pytest.fixture
def weather() -> Weather:
    weather = Weather(0.0)
    assert weather.changed(OPEN, 0.1) is None
    return weather


def test_a_blink_is_nobodys_business(weather: Weather) -> None:
    assert weather.changed(WAITING, 10.0) is None
    assert weather.banner(10.5, wall_now=998.0) == ""
    assert weather.news(10.5) is None
    assert weather.changed(OPEN, 10.6) is None


def test_an_outage_is_shown_with_a_countdown_and_its_end_is_said(weather: Weather) -> None:
    weather.changed(WAITING, 10.0)
    assert weather.banner(10.0 + LONG, wall_now=998.0).endswith("Trying again in 2 s.")
    assert weather.changed(State(StateName.CONNECTING, 2, LOST), 12.0) is None
    assert weather.banner(12.0, wall_now=1_000.0).endswith("Trying now.")
    assert weather.changed(OPEN, 12.5) == "Connected again."
    assert weather.banner(20.0, wall_now=1_010.0) == ""


def test_where_nothing_can_be_shown_it_is_said_once(weather: Weather) -> None:
    weather.changed(WAITING, 10.0)
    words = weather.news(10.0 + LONG)
    assert words is not None
    assert words.startswith("The server cannot be reached (connection refused). You are still signed in.")
    assert weather.news(15.0) is None
    weather.changed(WAITING, 16.0)
    assert weather.news(17.5) is None
    assert weather.changed(OPEN, 18.0) == "Connected again."
    weather.changed(WAITING, 20.0)
    assert weather.news(20.0 + LONG) is not None


def test_the_first_connection_may_take_a_moment() -> None:
    weather = Weather(100.0)
    assert weather.banner(100.5, wall_now=0.0) == ""
    assert weather.banner(100.0 + LONG, wall_now=0.0) == "Connecting."
    assert weather.news(100.0 + LONG) is None, "there is no reason to tell yet"


def test_provisionally_in_is_said_once_and_the_end_of_it(weather: Weather) -> None:
    words = weather.changed(DEGRADED, 10.0)
    assert words is not None
    assert words.startswith("Signed in provisionally")
    assert weather.changed(DEGRADED, 11.0) is None
    assert weather.changed(State(StateName.DEGRADED, door=DoorView("u1", grace_until=5.0)), 12.0) is not None
    assert weather.changed(OPEN, 13.0) == "All is normal again."


def test_an_end_is_told_elsewhere(weather: Weather) -> None:
    weather.changed(State(StateName.SIGNED_OUT, reason=LOST), 10.0)
    assert weather.banner(20.0, wall_now=0.0) == ""
    assert weather.news(20.0) is None
