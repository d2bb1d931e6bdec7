"""The scenarios beside the matrix: keys and clocks, what must survive a restart, clients at fault, and crowds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from doorward.core.verdict import Cause
from doorward.drill.expectations import Circumstances, expectations
from doorward.drill.faults import TROUBLES, Reach
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import (
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
)

SOME: Crowd = {Kind.JWT: 6, Kind.OPAQUE: 2, Kind.FORGED: 2, Kind.EXPIRED: 2, Kind.NO_TOKEN: 1}
KNOWN_BAD: Crowd = {Kind.REJECTED: 3, Kind.REVOKED: 3}
TWO_HUNDRED: Crowd = {Kind.JWT: 80, Kind.EXPIRED: 30, Kind.FORGED: 30, Kind.OPAQUE: 40, Kind.NO_TOKEN: 20}
BEGIN: tuple[Step, ...] = (Burst(Phase.HEALTHY, SOME), Baseline())
SILENT_SECONDS = 3.0
KEYS_OLD_SECONDS = 31.0
"""A key that is missing from a set younger than 30 s is known not to exist; an older set is looked at again."""

REFUSED_WITHIN_SECONDS = 0.1
RECONNECT_RATE = 100.0
STORM_CLIENTS = 2_000
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
    for kind in SOME:
        expect[Phase.HEALED, kind] = healed[Phase.HEALED, kind] | unread[Phase.HEALED, kind]
        expect[Phase.REPAIR, kind] = expect[Phase.FAULT, kind] | expect[Phase.HEALED, kind]
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
        _stray(Behaviour.HALF_SENT, "100 clients send half an upgrade", StrayRule(DEADLINE_SECONDS + 0.1)),
        _stray(Behaviour.SAYS_NOTHING, "100 clients never send a byte", StrayRule(SILENT_SECONDS + 0.1)),
        _stray(Behaviour.BIG_COOKIE, "a cookie of 9 KB", StrayRule(REFUSED_WITHIN_SECONDS, 431), clients=10),
        _stray(Behaviour.MANY_HEADERS, "200 header lines", StrayRule(REFUSED_WITHIN_SECONDS, 431), clients=10),
        _stray(Behaviour.STOPS_READING, "20 clients ask for much and read nothing", None, clients=20),
    ]


def _stray(behaviour: Behaviour, title: str, rule: StrayRule | None, *, clients: int = 100) -> Scenario:
    seconds = min(rule.within_seconds, 4.0) if rule is not None else 4.0
    return Scenario(
        name=behaviour.value,
        family="clients",
        title=title,
        steps=(*BEGIN, Misbehave(behaviour, clients, 10.0, max(seconds, 1.0)), Burst(Phase.HEALED, SOME)),
        rules=Rules(_well(), recovery_seconds=None, strays={behaviour: rule} if rule is not None else {}),
        settings={"limits.silent_seconds": SILENT_SECONDS},
        quick=behaviour in {Behaviour.HALF_SENT, Behaviour.BIG_COOKIE},
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
        Scenario(
            name="silent-siege",
            family="crowds",
            title="200 silent connections a second from 200 addresses, while honest clients come",
            steps=(*BEGIN, Siege(200.0, 8.0, 10.0), Burst(Phase.HEALED, SOME)),
            rules=Rules(_well(), recovery_seconds=None),
            weight=2,
        ),
        Scenario(
            name="reconnect-storm",
            family="crowds",
            title=f"{STORM_CLIENTS} clients are sent away in an outage, and come back",
            steps=(
                *BEGIN,
                Strike("refused"),
                Storm(STORM_CLIENTS, over_seconds=4.0, repair_after_seconds=4.5, within_seconds=60.0),
                Burst(Phase.HEALED, SOME),
            ),
            rules=replace(
                _outage("refused", crowded=True),
                storm=StormRule(RECONNECT_RATE, STORM_CLIENTS, within_seconds=45.0),
            ),
            settings={"limits.reconnect_rate_per_second": RECONNECT_RATE},
            weight=ALONE,
        ),
    ]
