"""What people saw at a door and how long they waited, in numbers and in words. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

from doorward.drill.results import Column, Kind, Outcome, Phase, Sample, WaitAvoided

GOOD_TOKENS = frozenset({Kind.JWT, Kind.WARM_JWT, Kind.OPAQUE, Kind.WARM_OPAQUE, Kind.NEW_KEY})

MINUS = "\u2212"


class Saw(StrEnum):
    """What somebody with a good token was shown, in a few words. The order is from the best to the worst."""

    LIVE = "let in"
    PROVEN = "let in on proof"
    """The auth service could not be asked; what is proven was enough."""
    AWAY = "told when to return"
    ERROR = "got an error"
    """With no word about when to come back."""
    NO = "called bad"
    """Of a good token: they are signed out."""
    CUT = "cut off"
    NOTHING = "left waiting"
    """No answer until they gave up, or until nobody watched any longer."""


def saw(sample: Sample) -> Saw:
    """What this one was shown."""
    match sample.outcome:
        case Outcome.ALLOW:
            return Saw.LIVE if sample.assurance in {"live", "unsaid", None} else Saw.PROVEN
        case Outcome.UNAVAILABLE:
            return Saw.ERROR if sample.retry_after_ms is None else Saw.AWAY
        case Outcome.DENY:
            return Saw.NO
        case Outcome.BROKEN:
            return Saw.CUT
        case Outcome.SILENT:
            return Saw.NOTHING


def in_trouble(samples: Iterable[Sample]) -> Sequence[Sample]:
    """Those who came with a good token while the fault lasted."""
    return [sample for sample in samples if sample.phase is Phase.FAULT and sample.kind in GOOD_TOKENS]


def counted(samples: Sequence[Sample]) -> Sequence[str]:
    """How many saw what, the best first: `10 let in`, `40 called bad`; `all 40 let in` where all saw the same."""
    counts = Counter(saw(sample) for sample in samples)
    if len(counts) == 1:
        return [f"all {len(samples)} {next(iter(counts))}"]
    return [f"{counts[each]} {each}" for each in Saw if counts[each]]


def middle(samples: Sequence[Sample]) -> Sample:
    """Half of the people waited no longer than this one. There must be somebody."""
    return sorted(samples, key=lambda sample: sample.seconds)[len(samples) // 2]


def longest(samples: Sequence[Sample]) -> Sample:
    """Who waited longest. There must be somebody."""
    return max(samples, key=lambda sample: sample.seconds)


def waited(sample: Sample) -> str:
    """How long, in words: `35.2 s`, or `> 90 s` of somebody who gave up."""
    return span(sample.seconds, at_least=sample.censored)


def wait_avoided(ours: Column, other: Column) -> WaitAvoided | None:
    """The measured difference between two doors in one trouble; `None` where one of them was not tried."""
    here, there = in_trouble(ours.samples), in_trouble(other.samples)
    if not here or not there:
        return None
    return WaitAvoided(
        half_seconds=round(middle(there).seconds - middle(here).seconds, 4),
        longest_seconds=round(longest(there).seconds - longest(here).seconds, 4),
        at_least=any(sample.censored for sample in there),
    )


def span(seconds: float, *, at_least: bool = False) -> str:
    """A length of time as people say it: `4.2 ms`, `501 ms`, `2.03 s`, `35.2 s`, `> 90 s`; a negative one with a minus sign."""
    size = abs(seconds)
    if size < 0.9995:
        text = f"{size * 1000:.1f} ms" if size < 0.00995 else f"{size * 1000:.0f} ms"
    elif size < 9.995:
        text = f"{size:.2f} s"
    else:
        text = f"{math.floor(size)} s" if at_least else f"{size:.1f} s"
    return ("> " if at_least else "") + (MINUS if seconds < 0 else "") + text
