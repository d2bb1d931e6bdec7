from __future__ import annotations

import pytest

from doorward.chat.agents.intents import MAX_WINDOW_SECONDS, MIN_WINDOW_SECONDS, Target, Topic, understand


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("How is the auth service?", Topic.SERVICE),
        ("is authd up", Topic.SERVICE),
        ("Is it down?", Topic.SERVICE),
        ("What's the state of the breaker", Topic.SERVICE),
        ("health", Topic.SERVICE),
        ("How old is the key set?", Topic.SERVICE),
        ("HOW IS THE AUTHENTICATION SERVER DOING???", Topic.SERVICE),
        ("What did you decide in the last minutes?", Topic.STATISTICS),
        ("statistics please", Topic.STATISTICS),
        ("how many were denied in the last hour", Topic.STATISTICS),
        ("how fast are you", Topic.STATISTICS),
        ("What happened in the past half hour?", Topic.STATISTICS),
        ("and in the last two hours?", Topic.STATISTICS),
        ("and for 10 minutes?", Topic.STATISTICS),
        ("p99?", Topic.STATISTICS),
        ("Why was my last decision made?", Topic.EXPLAIN),
        ("why was I let in?", Topic.EXPLAIN),
        ("explain 01JABCDEF7", Topic.EXPLAIN),
        ("Explain the last decision", Topic.EXPLAIN),
        ("how did I get in", Topic.EXPLAIN),
        ("Who is connected?", Topic.CONNECTIONS),
        ("who else is online", Topic.CONNECTIONS),
        ("show my connections", Topic.CONNECTIONS),
        ("who am I?", Topic.CONNECTIONS),
        ("Run a drill", Topic.DRILL),
        ("please run the dns drill", Topic.DRILL),
        ("run a silence scenario", Topic.DRILL),
        ("What if the auth service is down?", Topic.DRILL),
        ("what happens when the name servers hang", Topic.DRILL),
        ("Prove it!", Topic.DRILL),
        ("what can you do?", Topic.HELP),
        ("help", Topic.HELP),
        ("who are you?", Topic.HELP),
        ("?", Topic.HELP),
        ("Hi!", Topic.GREETING),
        ("how are you?", Topic.GREETING),
        ("thank you", Topic.THANKS),
        ("tell me a joke", Topic.UNKNOWN),
        ("", Topic.UNKNOWN),
        ("\x00\u202e\U0001f600", Topic.UNKNOWN),
    ],
)
def test_topics(text: str, topic: Topic) -> None:
    assert understand(text).topic is topic


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("stats of the last 15 minutes", 900.0),
        ("stats of the last minute", 60.0),
        ("stats of the last minutes", 300.0),
        ("stats of the past hour", 3_600.0),
        ("stats for half an hour", 1_800.0),
        ("stats for two hours", 7_200.0),
        ("stats for 90s", 90.0),
        ("stats for 1.5 h", 5_400.0),
        ("stats for 1 second", MIN_WINDOW_SECONDS),
        ("stats for 900 days", MAX_WINDOW_SECONDS),
        ("recent stats", 300.0),
        ("stats", None),
        ("who am i", None),
    ],
)
def test_windows(text: str, seconds: float | None) -> None:
    assert understand(text).window_seconds == seconds


@pytest.mark.parametrize(
    ("text", "target", "decision_id"),
    [
        ("why was my last decision made?", Target.OWN, None),
        ("why was I let in?", Target.CONNECTION, None),
        ("explain this connection, why?", Target.CONNECTION, None),
        ("explain the last decision", Target.LAST, None),
        ("why was decision D-19aF33 made?", Target.LAST, "D-19aF33"),
        ("explain 7f3a9c2e5b", Target.LAST, "7f3a9c2e5b"),
        ("why 15minutes?", Target.LAST, None),
    ],
)
def test_which_decision(text: str, target: Target, decision_id: str | None) -> None:
    question = understand(text)
    assert (question.target, question.decision_id) == (target, decision_id)


def test_bounded_in_time_on_hostile_text() -> None:
    assert understand("last " * 3_000).topic is Topic.UNKNOWN
    assert understand("a" * 16_384).topic is Topic.UNKNOWN
    assert understand("1" * 16_384 + " minutes").window_seconds is not None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("run a drill", None),
        ("drill: black-hole", "black-hole"),
        ("drill the black hole", "black-hole"),
        ("What if the auth service hangs?", "silence"),
        ("what if it is frozen", "silence"),
        ("what if nobody listens", "refused"),
        ("What if DNS hangs?", "dns-stall"),
        ("drill dns nxdomain", "dns-nxdomain"),
        ("what if it answers 500", "error-500"),
        ("what if our secret is wrong", "secret-refused"),
        ("what if it is slow", "late"),
        ("what happens if you restart", "restart-in-outage"),
        ("How is the auth service, is it slow?", None),
    ],
)
def test_what_a_drill_shall_break(text: str, fault: str | None) -> None:
    assert understand(text).fault == fault
