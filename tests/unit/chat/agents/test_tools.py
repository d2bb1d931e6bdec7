from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.chat_support import ADMIN, BROKEN, HEALTHY, FakeDrill, FakeInsight, Person, connection, decision

from doorward.chat.agents.tools import Tools
from doorward.errors import DoorwardError, LimitError

ALICE = Person()
FORMER_ADMIN = Person("root", frozenset(), "d-root", degraded=True)
"""An admin whose permission was dropped by a degraded admission."""


@pytest.fixture
def insight() -> FakeInsight:
    return FakeInsight(
        state=BROKEN,
        records=[
            decision("d-new", "bob"),
            decision("d-nobody", None),
            decision("d-alice", "alice"),
            decision("d-root", "root"),
        ],
        views=[connection("d-alice", "alice"), connection("d-bob", "bob"), connection("d-bob2", "bob")],
    )


@pytest.fixture
def tools(insight: FakeInsight) -> Tools:
    return Tools(insight)


def test_the_inside_of_the_network_is_for_admins(tools: Tools) -> None:
    (everybody,) = tools.call("service_state", {}, ALICE)["services"]
    assert everybody["breaker"] == "open"
    assert "url" not in everybody
    assert "last_error" not in everybody
    (all_of_it,) = tools.call("service_state", {}, ADMIN)["services"]
    assert all_of_it["last_error"] == "no answer in time"


def test_why_a_decision_was_made_is_told_in_words(insight: FakeInsight, tools: Tools) -> None:
    insight.records.append(decision("d-late", "alice", detail="DeadlinePassed: no answer before the deadline"))
    assert tools.call("explain_decision", {"decision_id": "d-late"}, ALICE)["detail"] == "no answer before the deadline"


def test_of_several_auth_services_everybody_sees_their_own(insight: FakeInsight) -> None:
    insight.others = (replace(HEALTHY, issuer="acme", tenant="acme"), replace(HEALTHY, issuer="beta", tenant="beta"))
    tools = Tools(insight)

    def seen(who: Person) -> list[str]:
        return [state["issuer"] for state in tools.call("service_state", {}, who)["services"]]

    assert seen(ALICE) == ["auth"]
    assert seen(Person("acme:alice", tenant="acme")) == ["acme"]
    assert seen(Person("e2e:alice", tenant="e2e")) == ["auth"]
    assert seen(ADMIN) == ["auth", "acme", "beta"]


def test_an_admin_of_a_tenant_is_none_of_the_door(insight: FakeInsight) -> None:
    admin = Person("acme:root", frozenset({"admin"}), tenant="acme")
    insight.others = (replace(HEALTHY, issuer="acme", tenant="acme"),)
    tools = Tools(insight, FakeDrill())
    (service,) = tools.call("service_state", {}, admin)["services"]
    assert "url" not in service
    assert not tools.plays(admin)
    assert not tools.call("explain_decision", {"decision_id": "d-bob"}, admin)["found"]
    assert tools.call("who_is_connected", {"scope": "all"}, admin)["others_withheld"]


def test_the_last_decision_is_about_a_handshake_and_not_about_a_request_of_the_page(
    tools: Tools, insight: FakeInsight
) -> None:
    insight.records.insert(0, decision("d-render", "alice", kind="http", path="/api/render"))
    assert tools.call("explain_decision", {"which": "own"}, ALICE)["id"] == "d-alice"
    assert tools.call("explain_decision", {"decision_id": "d-render"}, ALICE)["found"]


def test_statistics_are_about_nobody(tools: Tools) -> None:
    result = tools.call("decision_statistics", {"window_seconds": 60.0}, ALICE)
    assert (result["window_seconds"], result["total"]) == (60.0, 42)


@pytest.mark.parametrize(
    ("arguments", "who", "found"),
    [
        ({"decision_id": "d-alice"}, ALICE, "d-alice"),
        ({"decision_id": "d-new"}, ALICE, None),
        ({"decision_id": "d-nobody"}, ALICE, None),
        ({"decision_id": "d-none"}, ALICE, None),
        ({"decision_id": "d-new"}, ADMIN, "d-new"),
        ({"decision_id": "d-nobody"}, ADMIN, "d-nobody"),
        ({"decision_id": "d-new"}, FORMER_ADMIN, None),
        ({"which": "last"}, ALICE, "d-alice"),
        ({"which": "last"}, ADMIN, "d-new"),
        ({"which": "last"}, FORMER_ADMIN, "d-root"),
        ({"which": "own"}, ADMIN, "d-root"),
        ({"which": "own"}, ALICE, "d-alice"),
        ({"which": "own"}, Person("carol", decision_id="d-carol"), None),
        ({"which": "connection"}, ALICE, "d-alice"),
        ({"which": "connection"}, Person("mallory", decision_id="d-new"), None),
    ],
)
def test_a_decision_is_for_its_own_and_for_admins(
    tools: Tools, arguments: dict[str, str], who: Person, found: str | None
) -> None:
    result = tools.call("explain_decision", arguments, who)
    assert result["found"] is (found is not None)
    assert result.get("id") == found


def test_what_may_not_be_seen_looks_like_what_is_not_there(tools: Tools) -> None:
    hidden = tools.call("explain_decision", {"decision_id": "d-new"}, ALICE)
    missing = tools.call("explain_decision", {"decision_id": "d-x"}, ALICE)
    assert hidden.keys() == missing.keys()


def test_connections_of_others_are_for_admins(tools: Tools) -> None:
    own = tools.call("who_is_connected", {"scope": "all"}, ALICE)
    assert (own["scope"], own["count"], own["others_withheld"]) == ("own", 1, True)
    assert "bob" not in msgspec.json.encode(own).decode()
    assert own["connections"][0]["this_one"] is True
    everybody = tools.call("who_is_connected", {"scope": "all"}, ADMIN)
    assert (everybody["scope"], everybody["count"], everybody["people"]) == ("all", 3, 2)
    assert tools.call("who_is_connected", {"scope": "all"}, FORMER_ADMIN)["count"] == 0


def test_results_are_json(tools: Tools) -> None:
    calls: dict[str, dict[str, Any]] = {
        "service_state": {},
        "decision_statistics": {"window_seconds": 60.0},
        "explain_decision": {"decision_id": "d-new"},
        "who_is_connected": {"scope": "all"},
    }
    for name, arguments in calls.items():
        assert msgspec.json.decode(msgspec.json.encode(tools.call(name, arguments, ADMIN)))


def test_long_lists_are_cut() -> None:
    views = [connection(f"d{number}", "bob") for number in range(100)]
    result = Tools(FakeInsight(views=views)).call("who_is_connected", {"scope": "all"}, ADMIN)
    assert (result["count"], len(result["connections"])) == (100, 20)


@pytest.mark.parametrize("who", [ALICE, FORMER_ADMIN])
async def test_only_an_admin_starts_a_drill(who: Person) -> None:
    drill = FakeDrill()
    result = await Tools(FakeInsight(), drill).use("run_drill", {"fault": "silence"}, who)
    assert result == {"outcome": "forbidden", "fault": "silence"}
    assert drill.played == []


@pytest.mark.parametrize(
    ("drill", "outcome"),
    [
        (FakeDrill(), "played"),
        (FakeDrill(LimitError("one is under way")), "busy"),
        (FakeDrill(DoorwardError("no end")), "failed"),
        (None, "not_here"),
    ],
)
async def test_a_drill_ends_in_one_of_a_few_ways(drill: FakeDrill | None, outcome: str) -> None:
    tools = Tools(FakeInsight(), drill)
    result = await tools.use("run_drill", {"fault": "silence"}, ADMIN)
    assert (result["outcome"], result["fault"]) == (outcome, "silence")
    assert msgspec.json.decode(msgspec.json.encode(result)) == result
    assert bool(tools.faults) is (drill is not None)


async def test_to_look_and_to_do_are_used_alike(tools: Tools) -> None:
    assert await tools.use("service_state", {}, ALICE) == tools.call("service_state", {}, ALICE)
