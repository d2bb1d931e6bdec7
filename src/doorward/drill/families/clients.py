"""Clients at fault."""

from __future__ import annotations

import json
from collections.abc import Sequence

from doorward.core.verdict import Code
from doorward.drill.families.common import BEGIN, CUT_SECONDS, SILENT_SECONDS, SOME, WITH_TOKENS, well
from doorward.drill.results import Phase
from doorward.drill.scenarios import (
    CUT,
    DEADLINE_SECONDS,
    Baseline,
    Behaviour,
    Burst,
    Misbehave,
    Rules,
    Scenario,
    StrayRule,
    answered,
    closed,
)

REFUSED_WITHIN_SECONDS = 0.1
TOO_LARGE = frozenset({answered(431)})
FIRST_MESSAGE_SECONDS = 1.5
LINGER_SECONDS = 1.0
"""A client that was told why it is closed is cut after this if it does not leave."""
STALL_SECONDS = 11.0
"""The chat closes who takes nothing for 10 s, and cuts who does not take the close either for another one."""
FILL_SECONDS = 8.0
"""Some megabytes, in questions of less than a kilobyte."""


def scenarios() -> Sequence[Scenario]:
    return [
        _stray(Behaviour.HALF_SENT, "100 clients send half an upgrade", StrayRule(100, DEADLINE_SECONDS + CUT_SECONDS)),
        _stray(Behaviour.SAYS_NOTHING, "100 clients never send a byte", StrayRule(100, SILENT_SECONDS + CUT_SECONDS)),
        _stray(Behaviour.BIG_COOKIE, "a cookie of 9 KB", StrayRule(10, REFUSED_WITHIN_SECONDS, TOO_LARGE)),
        _stray(Behaviour.MANY_HEADERS, "200 header lines", StrayRule(10, REFUSED_WITHIN_SECONDS, TOO_LARGE)),
        _no_auth_frame(),
        _stops_reading(),
    ]


def _stray(behaviour: Behaviour, title: str, rule: StrayRule) -> Scenario:
    seconds = max(rule.within_seconds, 1.0)
    return Scenario(
        name=behaviour.value,
        family="clients",
        title=title,
        steps=(*BEGIN, Misbehave(behaviour, rule.clients, 10.0, seconds), Burst(Phase.HEALED, SOME)),
        rules=Rules(well(), recovery_seconds=None, strays={behaviour: rule}),
        settings={"limits.silent_seconds": SILENT_SECONDS},
        quick=behaviour in {Behaviour.HALF_SENT, Behaviour.BIG_COOKIE},
    )


def _no_auth_frame() -> Scenario:
    """Where no token is brought one is waited for, so nobody comes without one but those who are to be cut."""
    behaviour = Behaviour.NO_AUTH_FRAME
    too_late = frozenset({closed(3008, Code.AUTH_TIMEOUT)})
    rule = StrayRule(100, FIRST_MESSAGE_SECONDS + CUT_SECONDS, too_late)
    route = {"path": "/*", "transports": ["header", "subprotocol", "ticket", "first_message"]}
    return Scenario(
        name=behaviour.value,
        family="clients",
        title="100 clients are let in to send their token first, and never send it",
        steps=(
            Burst(Phase.HEALTHY, WITH_TOKENS),
            Baseline(),
            Misbehave(behaviour, rule.clients, 10.0, rule.within_seconds + LINGER_SECONDS),
            Burst(Phase.HEALED, WITH_TOKENS),
        ),
        rules=Rules(well(), recovery_seconds=None, strays={behaviour: rule}),
        settings={
            "routes": json.dumps([route]),
            "limits.first_message_seconds": FIRST_MESSAGE_SECONDS,
            "limits.first_message_waiting_per_address": rule.clients,
        },
        quick=True,
    )


def _stops_reading() -> Scenario:
    """What the app gives a reader begins when every buffer on the way is full: then nothing is taken from the client either."""
    behaviour = Behaviour.STOPS_READING
    rule = StrayRule(5, STALL_SECONDS + CUT_SECONDS, frozenset({CUT, closed(1013)}))
    return Scenario(
        name=behaviour.value,
        family="clients",
        title="5 clients ask for much and read nothing",
        steps=(
            *BEGIN,
            Misbehave(behaviour, rule.clients, 10.0, FILL_SECONDS + STALL_SECONDS),
            Burst(Phase.HEALED, SOME),
        ),
        rules=Rules(well(), recovery_seconds=None, strays={behaviour: rule}, neighbour=True),
    )
