"""The scenarios beside the matrix: keys and clocks, what must survive a restart, clients at fault, and crowds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from doorward.core.verdict import Cause, Code
from doorward.drill.expectations import Circumstances, expectations
from doorward.drill.faults import TROUBLES, Reach
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import (
    CUT,
    DEADLINE_SECONDS,
    Baseline,
    Behaviour,
    Burst,
    Crowd,
    Expectations,
    Misbehave,
    Pause,
    Refuse,
    Repair,
    Restart,
    Rotate,
    Rules,
    Scenario,
    Siege,
    Skew,
    Step,
    Storm,
    StormRule,
    StrayRule,
    Stream,
    Strike,
    answered,
    closed,
)

WITH_TOKENS: Crowd = {Kind.JWT: 6, Kind.OPAQUE: 2, Kind.FORGED: 2, Kind.EXPIRED: 2}
SOME: Crowd = {**WITH_TOKENS, Kind.NO_TOKEN: 1}
KNOWN_BAD: Crowd = {Kind.REJECTED: 3, Kind.REVOKED: 3}
TWO_HUNDRED: Crowd = {Kind.JWT: 80, Kind.EXPIRED: 30, Kind.FORGED: 30, Kind.OPAQUE: 40, Kind.NO_TOKEN: 20}
BEGIN: tuple[Step, ...] = (Burst(Phase.HEALTHY, SOME), Baseline())
SILENT_SECONDS = 3.0
KEYS_OLD_SECONDS = 31.0
"""A key that is missing from a set younger than 30 s is known not to exist; an older set is looked at again."""

REFUSED_WITHIN_SECONDS = 0.1
TOO_LARGE = frozenset({answered(431)})
CUT_SECONDS = 0.1
"""A time limit is looked at that often."""
FIRST_MESSAGE_SECONDS = 1.5
LINGER_SECONDS = 1.0
"""A client that was told why it is closed is cut after this if it does not leave."""
STALL_SECONDS = 11.0
"""The chat closes who takes nothing for 10 s, and cuts who does not take the close either for another one."""
FILL_SECONDS = 8.0
"""Some megabytes, in questions of less than a kilobyte."""
INCOMPLETE_HANDSHAKES = 512
HONEST_CONNECTIONS = 64
"""Far more than honest clients and our own looks ever hold at once in a siege."""
RECONNECT_RATE = 100.0
STORM_CLIENTS = 2_000
CROWD_RATE, CROWD_CLIENTS = 25.0, 200
ALONE = 1_000
"""A weight that no machine bears beside another: what is measured here is the door, not the crowd around it."""


def scenarios() -> Sequence[Scenario]:
    return [*_keys(), *_memory(), *_clients(), *_crowds()]


def _well() -> Expectations:
    return expectations(Circumstances(Reach.ALWAYS, frozenset()))


def _outage(trouble: str, *, remembers: bool = True, crowded: bool = False, **more: Any) -> Rules:
    causes = TROUBLES[trouble].causes | {Cause.BREAKER_OPEN}
    return Rules(expectations(Circumstances(Reach.NEVER, causes, remembers=remembers, crowded=crowded)), **more)


# --- keys and clocks --------------------------------------------------------------------------------------------------


def _keys() -> Sequence[Scenario]:
    rotated: Crowd = {Kind.JWT: 4, Kind.OPAQUE: 2, Kind.NEW_KEY: 4, Kind.NO_TOKEN: 1}
    later = _outage("silence")
    # One look for an unknown key each 30 s: right after the repair a token with the new key may still have to wait.
    told_to_wait = {"unavailable:SERVICE_UNAVAILABLE/keyset", "allow:live"}
    waiting = {(Phase.HEALED, Kind.NEW_KEY): frozenset(told_to_wait)}
    return [
        Scenario(
            name="key-rotation",
            family="keys",
            title="the auth service signs with a new key",
            steps=(
                *BEGIN,
                Pause(KEYS_OLD_SECONDS),
                Rotate(),
                Burst(Phase.FAULT, rotated),
                Burst(Phase.HEALED, rotated),
            ),
            rules=Rules(_well(), recovery_seconds=None),
        ),
        Scenario(
            name="key-rotation-in-outage",
            family="keys",
            title="it signs with a new key while nobody can fetch it",
            steps=(
                *BEGIN,
                Pause(KEYS_OLD_SECONDS),
                Strike("silence"),
                Rotate(),
                Burst(Phase.FAULT, rotated),
                Repair(),
                Burst(Phase.HEALED, rotated),
            ),
            rules=replace(later, expect={**later.expect, **waiting}),
        ),
        _skewed("clock-ahead", "its clock is 20 s ahead of ours", 20.0),
        _skewed("clock-behind", "its clock is 60 s behind ours", -60.0),
    ]


def _skewed(name: str, title: str, seconds: float) -> Scenario:
    return Scenario(
        name=name,
        family="keys",
        title=f"{title}, then it falls silent",
        steps=(
            *BEGIN,
            Skew(seconds),
            Burst(Phase.HEALTHY, SOME),
            Strike("silence"),
            Burst(Phase.FAULT, SOME),
            Repair(),
            Burst(Phase.HEALED, SOME),
        ),
        rules=_outage("silence"),
    )


# --- what must survive a restart --------------------------------------------------------------------------------------


def _memory() -> Sequence[Scenario]:
    crowd: Crowd = {**SOME, **KNOWN_BAD}
    return [
        Scenario(
            name="rejected-then-outage",
            family="memory",
            title="a token that was refused stays out in a later outage",
            steps=(
                *BEGIN,
                Refuse(3, 3),
                Strike("silence"),
                Burst(Phase.FAULT, crowd),
                Repair(),
                Burst(Phase.HEALED, crowd),
            ),
            rules=_outage("silence"),
        ),
        _restarted("restart-in-outage", "the door is restarted in the middle of an outage", kill=False),
        _restarted("killed-in-outage", "the door is killed in the middle of an outage, and started again", kill=True),
        _cold_name("cold-start-dns-stall", "the door starts while no name server answers", "dns-stall"),
        _cold_name("cold-start-dns-nxdomain", "the door starts while the name is gone", "dns-nxdomain"),
        _never_met(),
    ]


def _restarted(name: str, title: str, *, kill: bool) -> Scenario:
    crowd: Crowd = {**SOME, **KNOWN_BAD}
    return Scenario(
        name=name,
        family="memory",
        title=title,
        steps=(
            *BEGIN,
            Refuse(3, 3),
            Strike("silence"),
            Burst(Phase.FAULT, crowd),
            Restart(kill=kill),
            Burst(Phase.FAULT, crowd),
            Repair(),
            Burst(Phase.HEALED, crowd),
        ),
        rules=_outage("silence", remembers=False),
        quick=kill,
    )


def _cold_name(name: str, title: str, trouble: str) -> Scenario:
    return Scenario(
        name=name,
        family="memory",
        title=title,
        steps=(*BEGIN, Strike(trouble), Restart(), Burst(Phase.FAULT, SOME), Repair(), Burst(Phase.HEALED, SOME)),
        rules=_outage(trouble, remembers=False),
        trouble=trouble,
    )


def _never_met() -> Scenario:
    """Nothing proves anything yet, so nobody is let in; and nobody is called invalid either."""
    causes = TROUBLES["refused"].causes | {Cause.BREAKER_OPEN, Cause.STALE}
    during = Circumstances(Reach.NEVER, causes, keyset=False)
    healed = _well()
    # Without a key set every JWT is asked about; it comes with the first refresh after the repair.
    unread = expectations(Circumstances(Reach.ALWAYS, frozenset(), keyset=False))
    expect = {**expectations(during)}
    met = expectations(Circumstances(Reach.NEVER, causes))
    for kind in SOME:
        expect[Phase.HEALED, kind] = healed[Phase.HEALED, kind] | unread[Phase.HEALED, kind]
        # The canary may have met it when the half-open breaker has no permit for a second question.
        expect[Phase.REPAIR, kind] = expect[Phase.FAULT, kind] | met[Phase.FAULT, kind] | expect[Phase.HEALED, kind]
    return Scenario(
        name="never-met",
        family="memory",
        title="the auth service is away when the door starts for the first time",
        steps=(
            Burst(Phase.FAULT, SOME),
            Repair(),
            Burst(Phase.HEALED, SOME),
            Baseline(),
            Burst(Phase.HEALED, SOME),
        ),
        rules=Rules(expect),
        starts_well=False,
        trouble="refused",
    )


# --- clients at fault -------------------------------------------------------------------------------------------------


def _clients() -> Sequence[Scenario]:
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
        rules=Rules(_well(), recovery_seconds=None, strays={behaviour: rule}),
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
        rules=Rules(_well(), recovery_seconds=None, strays={behaviour: rule}),
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
        rules=Rules(_well(), recovery_seconds=None, strays={behaviour: rule}, neighbour=True),
    )


# --- crowds -----------------------------------------------------------------------------------------------------------


def _crowds() -> Sequence[Scenario]:
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
            rules=_outage("silence", crowded=True),
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
        rules=Rules(_well(), recovery_seconds=None, strays={Behaviour.SAYS_NOTHING: rule}),
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
