"""The warden's tools: real questions to this process, each answered as plain JSON values.

What is about other people (who they are, where they come from, what was decided about them), and what does something, needs the
permission `admin`, looked up at the moment of the call: a degraded admission may have lost it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import structs

from doorward.chat.agents.intents import Target
from doorward.errors import DoorwardError, LimitError
from doorward.runtime.insight import in_words
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from doorward.chat.agents.port import LiveView
    from doorward.runtime.insight import ConnectionView, DecisionRecord, Insight

ADMIN = "admin"
SHOWN_CONNECTIONS = 20
SEARCHED_DECISIONS = 2_000
HANDSHAKE = "websocket"
"""The kind of decision that people ask about; the page's own requests are decided too, and there are many more of them."""

OPERATOR_FIELDS = ("url", "last_error")
"""Of the service's state: addresses inside the network, and foreign error texts. Not for everybody."""

Arguments = Mapping[str, Any]
Result = dict[str, Any]


log = get_logger(__name__)


class Drill(Protocol):
    """Breaks an auth service on purpose, beside a door that is started for it, and judges what that door makes of it."""

    @property
    def faults(self) -> Sequence[str]:
        """What can be broken."""
        ...

    async def play(self, fault: str) -> Result:
        """Play a scenario of one fault: `held`, `seconds`, and for each of `scenarios` its `name`, `title`, `held`,
        `handshakes`, `slowest_ms`, `overrun_ms`, `recovery_seconds` and the rules that were `broken`.

        Raises:
            LimitError: one is under way.
            DoorwardError: it did not come to its end in its time.

        Cancellation: what it started is ended.
        """
        ...


class Tools:
    """All tools, over one `Insight`, and a drill where there may be one."""

    def __init__(self, insight: Insight, drill: Drill | None = None) -> None:
        self._insight = insight
        self._drill = drill
        self._tools: dict[str, Callable[[Arguments, LiveView], Result]] = {
            "service_state": self._service_state,
            "decision_statistics": self._decision_statistics,
            "explain_decision": self._explain_decision,
            "who_is_connected": self._who_is_connected,
        }

    @property
    def faults(self) -> Sequence[str]:
        """What the drill can break."""
        return self._drill.faults if self._drill is not None else ()

    def plays(self, who: LiveView) -> bool:
        """May this person start a drill *now*, and is there one?"""
        return self._drill is not None and is_admin(who)

    def call(self, name: str, arguments: Arguments, who: LiveView) -> Result:
        """Look, for one person. Never blocks."""
        return self._tools[name](arguments, who)

    async def use(self, name: str, arguments: Arguments, who: LiveView) -> Result:
        """Look, or do, for one person.

        Cancellation: what the tool started is ended.
        """
        return await self._run_drill(arguments, who) if name == "run_drill" else self.call(name, arguments, who)

    async def _run_drill(self, arguments: Arguments, who: LiveView) -> Result:
        if not is_admin(who):
            return {"outcome": "forbidden", **arguments}
        if self._drill is None:
            return {"outcome": "not_here", **arguments}
        log.info("chat.drill", fault=arguments["fault"], user_id=who.principal.user_id)
        try:
            return {"outcome": "played", **arguments, **await self._drill.play(arguments["fault"])}
        except LimitError:
            return {"outcome": "busy", **arguments}
        except DoorwardError as error:
            log.warning("chat.drill_failed", fault=arguments["fault"], error=str(error))
            return {"outcome": "failed", **arguments}

    def _service_state(self, _: Arguments, who: LiveView) -> Result:
        """All auth services for an admin; for everybody else their own, as far as it is everybody's business."""
        states = [asdict(view) for view in self._insight.services()]
        if is_admin(who):
            return {"services": states}
        own = [state for state in states if state["tenant"] == who.principal.tenant]
        return {"services": [_for_everybody(state) for state in own or states[:1]]}

    def _decision_statistics(self, arguments: Arguments, _: LiveView) -> Result:
        statistics = self._insight.statistics(arguments["window_seconds"], kind=HANDSHAKE)
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
        handshakes = (record for record in newest if record.kind == HANDSHAKE)
        own = (record for record in handshakes if everybody or record.user_id == who.principal.user_id)
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
    """May this person know about others *now*? An admin of a tenant may know about that tenant, and these are all."""
    return ADMIN in who.permissions and who.principal.tenant is None


def _for_everybody(state: Result) -> Result:
    return {key: value for key, value in state.items() if key not in OPERATOR_FIELDS}


def _may_see(record: DecisionRecord, who: LiveView) -> bool:
    return is_admin(who) or record.user_id == who.principal.user_id


def _decision(record: DecisionRecord) -> Result:
    return {
        **structs.asdict(record),
        "detail": in_words(record.detail),
        "steps": [{"name": name, "ms": round(ms, 3)} for name, ms in record.steps.items()],
    }


def _connection(view: ConnectionView, who: LiveView) -> Result:
    return {**asdict(view), "this_one": view.id == who.decision_id}
