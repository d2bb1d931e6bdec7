"""The wide pictures of the report, as SVG text. Colours and type come from the page's own style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from doorward.drill.axes import (
    TICKS,
    LogAxis,
    TimeAxis,
    bar,
    bin_of,
    horizontal,
    seconds_label,
    svg,
    text,
    vertical,
)
from doorward.drill.marks import drawn
from doorward.drill.results import OURS, CurvePoint, Sample, ScenarioResult
from doorward.drill.seen import GOOD_TOKENS, longest, middle, saw, waited

WIDTH = 960
RIGHT = 24
LOG = LogAxis(44, WIDTH - 44)
ROW = 84
WORDS = 30
"""Of a row's height, for the line of words above its picture: high enough for the large letters of a small screen."""

BEFORE_SECONDS, AFTER_SECONDS = 8.0, 6.0
LANES = TimeAxis(300, WIDTH - RIGHT, -BEFORE_SECONDS, AFTER_SECONDS)
LANE_HEIGHT = 16

LEAST_STORM_SECONDS = 10.0


def waits(columns: Mapping[str, Sequence[Sample]], *, deadline_seconds: float) -> str:
    """How long clients waited, a row for each column, on a log scale: 1 ms and 90 s in one picture."""
    rows = [_wait_row(name, samples, WORDS + number * ROW) for number, (name, samples) in enumerate(columns.items())]
    bottom = WORDS + len(rows) * ROW + 6
    x = LOG.x(deadline_seconds)
    parts = [
        *(vertical(LOG.x(tick), WORDS, bottom) for tick, _ in TICKS),
        *(text(LOG.x(tick), bottom + 26, words, "soft mid") for tick, words in TICKS),
        vertical(x, WORDS, bottom, "limit"),
        *rows,
        text(x, WORDS - 6, f"deadline {deadline_seconds:g} s", "label mid"),
    ]
    return svg(WIDTH, bottom + 34, "How long clients waited while the fault lasted", parts, style="fluid")


def _wait_row(name: str, samples: Sequence[Sample], top: float) -> str:
    base = top + ROW
    bins = Counter(bin_of(sample.seconds) for sample in samples)
    most = max(bins.values())
    half, last = waited(middle(samples)), waited(longest(samples))
    style = "bar ours" if name == OURS else "bar"
    return "".join(
        [
            text(0, top + 24, f"{name}: half within {half}, the longest {last}", "over"),
            *(
                bar(*LOG.edges(each), base, count / most * (ROW - WORDS - 6), style)
                for each, count in sorted(bins.items())
            ),
            horizontal(LOG.left, LOG.right, base),
        ]
    )


def lanes(scenarios: Sequence[ScenarioResult]) -> str:
    """What people with good tokens were told, second by second, around the repair."""
    bottom = 34 + len(scenarios) * LANE_HEIGHT
    seconds = range(-int(BEFORE_SECONDS), int(AFTER_SECONDS) + 1, 2)
    parts = [
        *(vertical(LANES.x(each), 22, bottom - 8) for each in seconds),
        *(text(LANES.x(each), 14, seconds_label(each), "soft mid") for each in seconds),
        *(_lane(scenario, 34 + number * LANE_HEIGHT) for number, scenario in enumerate(scenarios)),
    ]
    return svg(WIDTH, bottom, "What clients with a good token were told, by the second around the repair", parts)


def _lane(scenario: ScenarioResult, y: float) -> str:
    repair = scenario.marks.get("repair", 0.0)
    fault = scenario.marks.get("fault", repair) - repair
    begin = LANES.x(max(fault, -BEFORE_SECONDS))
    trouble = (
        f'<rect class="trouble" x="{begin:.1f}" y="{y - 7:g}" width="{max(LANES.x(0) - begin, 0):.1f}" height="14"/>'
    )
    told = [
        (saw(sample), sample.at_seconds + sample.seconds - repair)
        for sample in scenario.samples
        if sample.kind in GOOD_TOKENS
    ]
    marks = drawn([(each, LANES.x(at)) for each, at in told if LANES.holds(at)], y)
    return text(LANES.left - 10, y + 4, _short(scenario.name), "end") + trouble + marks


def storm(curves: Mapping[str, Sequence[CurvePoint]], *, rate: float | None = None) -> str:
    """Clients that came back in each second after the repair, a picture for each door, on one scale.

    Args:
        rate: the line that was asked for.
    """
    points = [point for curve in curves.values() for point in curve]
    most = max([rate or 1.0, *(point.count for point in points)])
    last = max([LEAST_STORM_SECONDS, *(point.at_seconds for point in points)])
    wide = (WIDTH - RIGHT) / (last + 1)
    tall = ROW - WORDS if rate is None else 2 * ROW
    rows = []
    for number, (name, curve) in enumerate(curves.items()):
        base = (number + 1) * (tall + WORDS)
        rows.append(_storm_row(name, curve, base, tall, wide, most))
        if rate is not None:
            rows.append(_asked_for(rate, base - rate / most * tall))
    bottom = len(curves) * (tall + WORDS)
    step = 5 if last <= 40 else 10
    labels = [
        text((second + 0.5) * wide, bottom + 26, f"{second} s", "soft mid") for second in range(0, int(last) + 1, step)
    ]
    title = "Clients that came back, by the second after the repair"
    return svg(WIDTH, bottom + 34, title, [*rows, *labels], style="fluid")


def _storm_row(name: str, curve: Sequence[CurvePoint], base: float, tall: float, wide: float, most: float) -> str:
    busiest = max((point.count for point in curve), default=0)
    returns = sum(point.count for point in curve)
    words = f"{returns:,} returns, {busiest} in the busiest second" if returns else "nobody had to come back"
    style = "bar ours" if name == OURS else "bar"
    bars = [
        bar(point.at_seconds * wide, (point.at_seconds + 1) * wide, base, point.count / most * (tall - 6), style)
        for point in curve
        if point.count
    ]
    return text(0, base - tall - 4, f"{name}: {words}", "over") + "".join(bars) + horizontal(0, WIDTH - RIGHT, base)


def _asked_for(rate: float, y: float) -> str:
    line = horizontal(0, WIDTH - RIGHT, y, "limit")
    return line + text(WIDTH - RIGHT, y - 6, f"told to come at {rate:.0f} /s", "label end")


def _short(name: str) -> str:
    return (
        name.replace("/with-keys", ", keys")
        .replace("/without-keys", ", no keys")
        .replace("/breaker-", ", ")
        .replace("/", ", ")
    )
