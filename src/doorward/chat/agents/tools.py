"""The warden's tools: real questions to this process, each answered as plain JSON values.

What is about other people (who they are, where they come from, what was decided about them) needs the permission `admin`,
looked up at the moment of the call: a degraded admission may have lost it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from msgspec import structs

from doorward.chat.agents.intents import Target

if TYPE_CHECKING:
    from doorward.chat.agents.port import LiveView
    from doorward.runtime.insight import ConnectionView, DecisionRecord, Insight

ADMIN = "admin"
SHOWN_CONNECTIONS = 20
SEARCHED_DECISIONS = 200

OPERATOR_FIELDS = ("url", "last_error")
"""Of the service's state: addresses inside the network, and foreign error texts. Not for everybody."""

Arguments = Mapping[str, Any]
Result = dict[str, Any]


class Tools:
    """All tools, over one `Insight`."""

    def __init__(self, insight: Insight) -> None:
        self._insight = insight
        self._tools: dict[str, Callable[[Arguments, LiveView], Result]] = {
            "service_state": self._service_state,
            "decision_statistics": self._decision_statistics,
            "explain_decision": self._explain_decision,
            "who_is_connected": self._who_is_connected,
        }

    def call(self, name: str, arguments: Arguments, who: LiveView) -> Result:
        """Use one tool for one person. Never blocks."""
        return self._tools[name](arguments, who)

    def _service_state(self, _: Arguments, who: LiveView) -> Result:
        state = asdict(self._insight.service())
        return state if is_admin(who) else {key: value for key, value in state.items() if key not in OPERATOR_FIELDS}

    def _decision_statistics(self, arguments: Arguments, _: LiveView) -> Result:
        statistics = self._insight.statistics(arguments["window_seconds"])
        return {
            "window_seconds": statistics.window_seconds,
            "total": statistics.total,
            "by_verdict": dict(statistics.by_verdict),
            "by_reason": dict(statistics.by_reason),
            "p50_ms": statistics.p50_ms,
            "p99_ms": statistics.p99_ms,
            "max_ms": statistics.max_ms,
        }

    def _explain_decision(self, arguments: Arguments, who: LiveView) -> Result:
        record = self._find(arguments, who)
        if record is None or not _may_see(record, who):
            return {"found": False, **arguments}
        return {"found": True, "own": record.user_id == who.principal.user_id, **_decision(record)}

    def _find(self, arguments: Arguments, who: LiveView) -> DecisionRecord | None:
        if "decision_id" in arguments:
            return self._insight.decision(arguments["decision_id"])
        if arguments["which"] == Target.CONNECTION:
            return self._insight.decision(who.decision_id)
        everybody = arguments["which"] == Target.LAST and is_admin(who)
        newest = self._insight.decisions(SEARCHED_DECISIONS)
        own = (record for record in newest if everybody or record.user_id == who.principal.user_id)
        return next(own, None) or self._insight.decision(who.decision_id)

    def _who_is_connected(self, arguments: Arguments, who: LiveView) -> Result:
        everybody = arguments["scope"] == "all" and is_admin(who)
        views = self._insight.connections(None if everybody else who.principal.user_id)
        newest = sorted(views, key=lambda view: view.since, reverse=True)
        return {
            "scope": "all" if everybody else "own",
            "others_withheld": arguments["scope"] == "all" and not everybody,
            "count": len(newest),
            "people": len({view.user_id for view in newest}),
            "connections": [_connection(view, who) for view in newest[:SHOWN_CONNECTIONS]],
        }


def is_admin(who: LiveView) -> bool:
    """May this person know about others *now*?"""
    return ADMIN in who.permissions


def _may_see(record: DecisionRecord, who: LiveView) -> bool:
    return is_admin(who) or record.user_id == who.principal.user_id


def _decision(record: DecisionRecord) -> Result:
    return {**structs.asdict(record), "steps": [{"name": step.name, "ms": round(step.ms, 3)} for step in record.steps]}


def _connection(view: ConnectionView, who: LiveView) -> Result:
    return {**asdict(view), "this_one": view.id == who.decision_id}
