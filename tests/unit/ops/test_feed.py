"""What the page is sent: everything once, then what is new; made seldom, however many look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from tests.chat_support import HEALTHY

from doorward.ops.feed import SHOWN_CONNECTIONS, SHOWN_DECISIONS, SNAPSHOT_SECONDS, WINDOW_SECONDS, OpsFeed
from doorward.runtime.history import Change, Column, LatencyHistory
from doorward.runtime.insight import ConnectionView, DecisionRecord, ServiceView, Statistics
from doorward.testing import ManualClock

CONNECTION = ConnectionView("d1", "ada", "/ws", "192.0.2.7", 100.0, "live", degraded=False)


def decision(number: int) -> DecisionRecord:
    return DecisionRecord(
        id=f"d{number}", at=float(number), path="/ws", address="192.0.2.7", verdict="allow", source="remote", reason="live",
        code=None, assurance="live", degraded=False, provisional=False, user_id="ada", fingerprint="f", detail="", total_ms=1.0,
        overrun_ms=0.0, steps={"admit": 0.25, "remote": 0.75},
    )  # fmt: skip


class FakeInsight:
    """A door whose every word is known, and that counts how often it is asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.records: list[DecisionRecord] = []
        self.asked = 0
        self.in_outage = False
        self.up_seconds = 60.0
        self.history = LatencyHistory()

    def decide(self, count: int = 1, *, verdict: str = "allow") -> None:
        for _ in range(count):
            self.records.insert(0, decision(len(self.records)))
            self.history.add(self.clock.wall(), 1.0, verdict)

    def services(self) -> Sequence[ServiceView]:
        self.asked += 1
        return [HEALTHY]

    def statistics(self, window_seconds: float = 300.0, *, kind: str | None = None) -> Statistics:
        return Statistics(window_seconds, 3, {"allow": 3}, {"live": 3}, 1.0, 2.0, 3.0)

    def decisions(self, limit: int = 50) -> Sequence[DecisionRecord]:
        return self.records[:limit]

    def decision(self, decision_id: str) -> DecisionRecord | None:
        return None

    def connections(self, user_id: str | None = None) -> Sequence[ConnectionView]:
        raise AssertionError("there may be very many")

    def newest_connections(self, limit: int) -> tuple[int, Sequence[ConnectionView]]:
        assert limit == SHOWN_CONNECTIONS
        return 7, [CONNECTION]

    def latency(self) -> Sequence[Column]:
        return self.history.columns(0.0)

    def breaker_changes(self) -> Mapping[str, Sequence[Change]]:
        return {"auth": [Change(4.0, "closed", "open")]}

    def health_changes(self) -> Mapping[str, Sequence[Change]]:
        return {"auth": []}


class Looking:
    def __init__(self, faults: dict[str, Any] | None = None) -> None:
        self.clock = ManualClock()
        self.insight = FakeInsight(self.clock)
        self.feed = OpsFeed(
            self.insight, clock=self.clock, deadline_seconds=2.0, faults=None if faults is None else lambda: faults
        )

    def look(self, after: str | None = None) -> dict[str, Any]:
        self.clock.advance(SNAPSHOT_SECONDS)
        return self.look_again(after)

    def look_again(self, after: str | None = None) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.feed.state(after, {"how": "admin"}))
        return state


@pytest.fixture
def looking() -> Looking:
    return Looking()


def ids(state: dict[str, Any]) -> list[str]:
    return [record["id"] for record in state["decisions"]]


def test_why_is_told_in_words(looking: Looking) -> None:
    looking.insight.records = [
        msgspec.structs.replace(decision(0), detail="DeadlinePassed: no answer before the deadline")
    ]
    assert looking.look()["decisions"][0]["detail"] == "no answer before the deadline"


def test_the_first_look_has_everything(looking: Looking) -> None:
    looking.insight.decide(3)
    state = looking.look()
    assert state["complete"] is True
    assert ids(state) == ["d2", "d1", "d0"]
    assert state["decisions"][0]["steps"] == [["admit", 0.25], ["remote", 0.75]]
    (service,) = state["services"]
    assert (service["issuer"], service["breaker"], service["health_changes"]) == ("auth", "closed", [])
    assert service["breaker_changes"] == [{"at": 4.0, "before": "closed", "after": "open"}]
    assert (state["connections"]["total"], state["connections"]["newest"][0]["user_id"]) == (7, "ada")
    assert (state["deadline_ms"], state["viewer"], state["faults"]) == (2000, {"how": "admin"}, None)
    assert state["statistics"]["by_reason"] == {"live": 3}


def test_the_next_look_has_what_is_new(looking: Looking) -> None:
    looking.insight.decide(3)
    newest = ids(looking.look())[0]
    assert ids(looking.look(newest)) == []
    looking.insight.decide(2)
    state = looking.look(newest)
    assert (state["complete"], ids(state)) == (False, ["d4", "d3"])


def test_who_has_what_is_long_gone_gets_everything(looking: Looking) -> None:
    looking.insight.decide(2)
    assert looking.look("d0")["complete"] is False
    looking.insight.decide(SHOWN_DECISIONS * 2)
    state = looking.look("d0")
    assert (state["complete"], len(ids(state))) == (True, SHOWN_DECISIONS)
    assert looking.look("never was")["complete"] is True


def test_many_looks_are_one_question_to_the_door(looking: Looking) -> None:
    looking.look()
    for _ in range(100):
        looking.look_again()
    assert looking.insight.asked == 1
    looking.look()
    assert looking.insight.asked == 2


def test_after_a_change_the_door_is_asked_anew(looking: Looking) -> None:
    looking.look()
    looking.feed.forget()
    looking.look_again()
    assert looking.insight.asked == 2


def test_verdicts_are_those_of_the_window(looking: Looking) -> None:
    looking.insight.decide(2, verdict="deny")
    looking.clock.advance(WINDOW_SECONDS + 10)
    looking.insight.decide(5)
    assert looking.look()["statistics"]["by_verdict"] == {"allow": 5}


def test_the_panel_is_shown_where_there_is_one() -> None:
    assert Looking({"now": "silence"}).look()["faults"] == {"now": "silence"}
