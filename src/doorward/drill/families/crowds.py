"""Crowds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doorward.core.verdict import Cause
from doorward.drill.expectations import Circumstances, expectations
from doorward.drill.families.common import BEGIN, CUT_SECONDS, SILENT_SECONDS, SOME, outage, well
from doorward.drill.faults import TROUBLES, Reach
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import (
    Behaviour,
    Burst,
    Crowd,
    Repair,
    Rules,
    Scenario,
    Siege,
    Storm,
    StormRule,
    StrayRule,
    Stream,
    Strike,
)

TWO_HUNDRED: Crowd = {Kind.JWT: 80, Kind.EXPIRED: 30, Kind.FORGED: 30, Kind.OPAQUE: 40, Kind.NO_TOKEN: 20}
INCOMPLETE_HANDSHAKES = 512
HONEST_CONNECTIONS = 64
"""Far more than honest clients and our own looks ever hold at once in a siege."""
RECONNECT_RATE = 100.0
STORM_CLIENTS = 2_000
CROWD_RATE, CROWD_CLIENTS = 25.0, 200
ALONE = 1_000
"""A weight that no machine bears beside another: what is measured here is the door, not the crowd around it."""


def scenarios() -> Sequence[Scenario]:
    return [
        Scenario(
            name="two-hundred-at-once",
            family="crowds",
            title="200 handshakes at once against silence",
            steps=(
                *BEGIN,
                Strike("silence"),
                Burst(Phase.FAULT, TWO_HUNDRED),
                Stream(Phase.FAULT, [Kind.JWT, Kind.OPAQUE], 20.0, 2.0),
                Repair(),
                Burst(Phase.HEALED, SOME),
            ),
            rules=outage("silence", crowded=True),
            weight=2,
            quick=True,
        ),
        _siege(),
        _storm(
            "reconnect-storm",
            Storm(STORM_CLIENTS, over_seconds=4.0, repair_after_seconds=4.5, within_seconds=60.0),
            StormRule(RECONNECT_RATE, STORM_CLIENTS, within_seconds=45.0),
            weight=ALONE,
        ),
        _storm(
            "reconnect-crowd",
            Storm(CROWD_CLIENTS, over_seconds=0.5, repair_after_seconds=1.5, within_seconds=30.0),
            StormRule(CROWD_RATE, CROWD_CLIENTS, within_seconds=20.0),
            weight=2,
            quick=True,
        ),
    ]


def _siege() -> Scenario:
    """More come in `SILENT_SECONDS` than may be incomplete at once, so the door has to evict some before they are overdue."""
    siege = Siege(200.0, 8.0, 10.0)
    rule = StrayRule(siege.clients, SILENT_SECONDS + CUT_SECONDS, at_once=INCOMPLETE_HANDSHAKES + HONEST_CONNECTIONS)
    return Scenario(
        name="silent-siege",
        family="crowds",
        title="200 silent connections a second from 200 addresses, while honest clients come",
        steps=(*BEGIN, siege, Burst(Phase.HEALED, SOME)),
        rules=Rules(well(), recovery_seconds=None, strays={Behaviour.SAYS_NOTHING: rule}),
        settings={"limits.silent_seconds": SILENT_SECONDS, "limits.incomplete_handshakes": INCOMPLETE_HANDSHAKES},
        weight=2,
    )


def _storm(name: str, storm: Storm, rule: StormRule, **more: Any) -> Scenario:
    """The auth service may be too slow for so many, after the repair too; who gave up meanwhile finds the verdict cached."""
    causes = TROUBLES["refused"].causes | {Cause.BREAKER_OPEN, Cause.DEADLINE}
    expect = expectations(Circumstances(Reach.NEVER, causes, crowded=True))
    back = (Phase.REPAIR, Kind.OPAQUE)
    return Scenario(
        name=name,
        family="crowds",
        title=f"{storm.clients} clients are sent away in an outage, and come back",
        steps=(*BEGIN, Strike("refused"), storm, Burst(Phase.HEALED, SOME)),
        rules=Rules({**expect, back: expect[back] | {"allow:cached"}}, storm=rule),
        settings={"limits.reconnect_rate_per_second": rule.rate_per_second},
        **more,
    )
