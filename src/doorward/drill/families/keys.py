"""Keys and clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from doorward.drill.families.common import BEGIN, SOME, outage, well
from doorward.drill.results import Kind, Phase
from doorward.drill.scenarios import Burst, Crowd, Pause, Repair, Rotate, Rules, Scenario, Skew, Strike

KEYS_OLD_SECONDS = 31.0
"""A key that is missing from a set younger than 30 s is known not to exist; an older set is looked at again."""


def scenarios() -> Sequence[Scenario]:
    rotated: Crowd = {Kind.JWT: 4, Kind.OPAQUE: 2, Kind.NEW_KEY: 4, Kind.NO_TOKEN: 1}
    later = outage("silence")
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
            rules=Rules(well(), recovery_seconds=None),
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
        rules=outage("silence"),
    )
