from __future__ import annotations

from dataclasses import replace

import pytest
from tests.chat_support import ADMIN, BROKEN, HEALTHY, FakeInsight, Person, connection, decision

from doorward.chat.agents import wording
from doorward.chat.agents.tools import Tools

ALICE = Person()


def service(**changes: object) -> str:
    insight = FakeInsight(state=replace(HEALTHY, **changes))  # type: ignore[arg-type]
    return wording.service_answer(Tools(insight).call("service_state", {}, ADMIN))


def test_a_healthy_service() -> None:
    assert service() == (
        "The auth service at https://auth.internal is fine as far as I can see: the breaker has been closed for 12 minutes. "
        "Its last answer came 2 seconds ago; the last health check passed and took 3.2 ms. "
        "The key set is 1 minute old, and the revocation feed is live; it last answered 4 seconds ago."
    )


def test_several_services() -> None:
    insight = FakeInsight(others=(replace(BROKEN, issuer="acme", tenant="acme"),))
    first, second = wording.service_answer(Tools(insight).call("service_state", {}, ADMIN)).splitlines()
    assert first.startswith("- auth: The auth service at https://auth.internal is fine")
    assert second.startswith("- acme: The auth service at https://auth.internal is not answering")


def test_an_outage() -> None:
    answer = wording.service_answer(Tools(FakeInsight(state=BROKEN)).call("service_state", {}, ADMIN))
    assert "is not answering. I stopped waiting for it 14 seconds ago" in answer
    assert "whoever holds a token that I can verify myself still gets in" in answer
    assert "Its last error was: no answer in time." in answer
    assert "1 token that it once refused is kept out" in answer


def test_a_service_that_stopped_a_moment_ago_is_not_called_fine() -> None:
    answer = service(last_probe_passed=False, last_probe_ms=500.0)
    assert "may be in trouble: its last health check failed" in answer
    assert "; the last health check failed after 500 ms." in answer


def test_other_states() -> None:
    assert "seems to be coming back" in service(breaker="half_open")
    assert "its health check fails" in service(health="unhealthy", last_probe_passed=False)
    assert "coming back: its last health check passed" in service(health="unhealthy")
    assert "health check" not in service(health="unknown", last_probe_ms=None, last_probe_passed=None)
    assert "I have never had an answer from it" in service(last_contact_age_seconds=None, health="unknown")
    assert "I have no key set yet." in service(keyset_age_seconds=None, feed="unknown")
    assert "has no revocation feed" in service(feed="missing", feed_age_seconds=None)
    assert "3 questions are under way" in service(in_flight=3)


def test_statistics() -> None:
    result = Tools(FakeInsight()).call("decision_statistics", {"window_seconds": 300.0}, ALICE)
    assert wording.statistics_answer(result) == (
        "In the last 5 minutes I decided about 42 opening handshakes: 40 let in, 1 refused and 1 told to try again because "
        "I could not ask. Half of them took at most 1.2 ms, 99 % at most 3.5 ms, and the slowest 2001 ms.\n"
        "The reasons:\n"
        "- 40 \u00d7 live: confirmed by the auth service\n"
        "- 1 \u00d7 deadline: the auth service did not answer in time\n"
        "- 1 \u00d7 token_expired: the token had expired"
    )


def test_no_decisions() -> None:
    result = Tools(FakeInsight(counts={})).call("decision_statistics", {"window_seconds": 300.0}, ALICE)
    assert wording.statistics_answer(result) == "I decided nothing in the last 5 minutes: nobody knocked."


def test_one_decision_with_its_timeline() -> None:
    result = Tools(FakeInsight(records=[decision("d1", "alice")])).call(
        "explain_decision", {"decision_id": "d1"}, ALICE
    )
    assert wording.decision_answer(result) == (
        "Decision d1: at 22:13:20 UTC, on /ws, you were let in (assurance local, degraded). "
        "The reason is “degraded_local”: let in on a locally verified token during an outage. "
        "The step that decided was “patience”. It took 501 ms in all. "
        "The auth service had not answered within its patience, so the question went on in the background.\n"
        "Step by step:\n- local: 0.31 ms\n- remote: 501 ms"
    )


def test_a_refusal_of_somebody_unknown() -> None:
    record = decision(
        "d1",
        None,
        verdict="deny",
        reason="token_invalid",
        code="TOKEN_INVALID",
        assurance=None,
        degraded=False,
        provisional=False,
        detail="bad signature",
        overrun_ms=12.0,
    )
    answer = wording.decision_answer(
        Tools(FakeInsight(records=[record])).call("explain_decision", {"decision_id": "d1"}, ADMIN)
    )
    assert "somebody unknown (192.0.2.7) was refused with TOKEN_INVALID." in answer
    assert "12.0 ms past the deadline" in answer
    assert "Detail: bad signature." in answer


def test_no_such_decision() -> None:
    tools = Tools(FakeInsight())
    named = wording.decision_answer(tools.call("explain_decision", {"decision_id": "d9x9x9"}, ALICE))
    assert "I remember no decision d9x9x9 that you may see" in named
    assert "no decision about you" in wording.decision_answer(tools.call("explain_decision", {"which": "own"}, ALICE))


def test_connections() -> None:
    tools = Tools(FakeInsight(views=[connection("d-alice", "alice"), connection("d-bob", "bob")]))
    own = wording.connections_answer(tools.call("who_is_connected", {"scope": "all"}, ALICE))
    assert own == (
        "You have 1 open connection.\n"
        "- from 192.0.2.9 on /ws since 22:13:20 UTC, live (this one)\n"
        "\nWho else is connected needs the permission “admin”."
    )
    everybody = wording.connections_answer(tools.call("who_is_connected", {"scope": "all"}, ADMIN))
    assert everybody.startswith("2 connections are open, by 2 people.")
    assert "bob, from 192.0.2.9" in everybody


def test_a_long_list_says_how_many_more() -> None:
    tools = Tools(FakeInsight(views=[connection(f"d{number}", "bob") for number in range(25)]))
    assert wording.connections_answer(tools.call("who_is_connected", {"scope": "all"}, ADMIN)).endswith("- and 5 more")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0421, "42.1 ms"),
        (1.0, "1 second"),
        (59.0, "59 seconds"),
        (60.0, "1 minute"),
        (90.0, "90 seconds"),
        (150.0, "2 minutes"),
        (3_600.0, "1 hour"),
        (5_400.0, "90 minutes"),
        (172_800.0, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


SCENARIO = {
    "title": "nobody listens",
    "held": True,
    "handshakes": 84,
    "slowest_ms": 13.5,
    "overrun_ms": 0.0,
    "recovery_seconds": 0.11,
    "broken": [],
}


def test_a_drill_that_held() -> None:
    played = {"outcome": "played", "fault": "refused", "held": True, "seconds": 8.0, "scenarios": [SCENARIO, SCENARIO]}
    told = wording.drill_answer(played)
    assert "168 opening handshakes in 2 scenarios, 8 seconds: every rule held." in told
    assert "- nobody listens: held; slowest answer 13.5 ms, none too late, well again 110 ms after the repair" in told


def test_a_drill_that_did_not() -> None:
    bad = SCENARIO | {"held": False, "slowest_ms": None, "overrun_ms": 70.0, "recovery_seconds": None}
    bad["broken"] = ["deadline: 70 ms late"]
    told = wording.drill_answer(
        {"outcome": "played", "fault": "refused", "held": False, "seconds": 4.0, "scenarios": [bad]}
    )
    assert "a rule was broken" in told
    assert "nobody listens: BROKEN; 70.0 ms past the deadline\n  - deadline: 70 ms late" in told


@pytest.mark.parametrize("outcome", ["forbidden", "not_here", "busy", "failed"])
def test_no_drill_says_why(outcome: str) -> None:
    told = wording.drill_answer({"outcome": outcome, "fault": "refused"})
    assert told.endswith((".", "`doorward drill --only refused`"))
