"""The pictures of the report, as SVG text. Colours and type come from the page's own style."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from doorward.drill.results import Column, CurvePoint, Kind, Outcome, Sample, ScenarioResult

WIDTH = 960
LEFT = 170
RIGHT = 20
LEAST_SECONDS, MOST_SECONDS = 0.001, 100.0
BINS_PER_DECADE = 12
TICKS = ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"), (100.0, "100 s"))
GOOD_TOKENS = frozenset({Kind.JWT, Kind.WARM_JWT, Kind.OPAQUE, Kind.WARM_OPAQUE, Kind.NEW_KEY})
BEFORE_SECONDS, AFTER_SECONDS = 8.0, 6.0

SHAPES: Mapping[str, tuple[str, str]] = {
    "live": ('<circle r="3.2" class="live"/>', "let in, live answer"),
    "degraded": ('<path d="M0-4 4 0 0 4-4 0Z" class="degraded"/>', "let in on what is proven"),
    "away": ('<path d="M0-4 4 3H-4Z" class="away"/>', "told to come back, and when"),
    "no": ('<rect x="-3" y="-3" width="6" height="6" class="no"/>', "told that the token is bad"),
    "none": ('<path d="M-3-3 3 3M3-3-3 3" class="none"/>', "no answer"),
}


def legend(shapes: Iterable[str]) -> str:
    """What the marks mean."""
    items = "".join(
        f'<li><svg viewBox="-6 -6 12 12" aria-hidden="true">{SHAPES[name][0]}</svg>{SHAPES[name][1]}</li>'
        for name in shapes
    )
    return f'<ul class="legend">{items}</ul>'


def waits(columns: Mapping[str, Sequence[Sample]], *, deadline_seconds: float) -> str:
    """How long clients waited, a row for each column, on a log scale: 1 ms and 90 s in one picture."""
    height = 76
    rows = [
        _wait_row(name, samples, 24 + number * height, height - 26)
        for number, (name, samples) in enumerate(columns.items())
    ]
    bottom = 24 + len(rows) * height
    x = _log_x(deadline_seconds)
    parts = [
        *(
            f'<line class="grid" x1="{_log_x(tick):.1f}" x2="{_log_x(tick):.1f}" y1="20" y2="{bottom}"/>'
            for tick, _ in TICKS
        ),
        *(f'<text class="soft mid" x="{_log_x(tick):.1f}" y="{bottom + 16}">{text}</text>' for tick, text in TICKS),
        *rows,
        f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{bottom}"/>',
        f'<text class="label mid" x="{x:.1f}" y="14">deadline {deadline_seconds:g} s</text>',
    ]
    return _svg(bottom + 24, "How long clients waited while the fault lasted", parts)


def _wait_row(name: str, samples: Sequence[Sample], top: float, height: float) -> str:
    base = top + height
    if not samples:
        return f'<text x="0" y="{base:.0f}">{escape(name)}</text>'
    bins = Counter(_bin(sample.seconds) for sample in samples)
    most = max(bins.values())
    parts = [f'<text x="0" y="{base - 14:.0f}">{escape(name)}</text>']
    parts.append(f'<text class="soft" x="0" y="{base:.0f}">{len(samples)} clients</text>')
    for each, count in sorted(bins.items()):
        left, right = _log_x(_edge(each)), _log_x(_edge(each + 1))
        tall = max(count / most * height, 1.0)
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{base - tall:.1f}" width="{max(right - left - 1, 1):.1f}" height="{tall:.1f}"/>'
        )
    ordered = sorted(sample.seconds for sample in samples)
    median, longest = ordered[len(ordered) // 2], ordered[-1]
    x = _log_x(median)
    parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 6}"/>')
    over = "&gt; " if any(sample.censored for sample in samples) else ""
    parts.append(
        f'<text class="soft" x="{LEFT}" y="{base + 16:.0f}">half within {span(median)}, the longest {over}{span(longest)}</text>'
    )
    return "".join(parts)


def lanes(scenarios: Sequence[ScenarioResult]) -> str:
    """What people with good tokens were told, second by second, around the repair."""
    height = 16
    rows = []
    for number, scenario in enumerate(scenarios):
        rows.append(_lane(scenario, 34 + number * height))
    bottom = 34 + len(scenarios) * height
    seconds = range(-int(BEFORE_SECONDS), int(AFTER_SECONDS) + 1, 2)
    parts = [
        *(
            f'<line class="grid" x1="{_lane_x(each):.1f}" x2="{_lane_x(each):.1f}" y1="22" y2="{bottom - 8}"/>'
            for each in seconds
        ),
        *(f'<text class="soft mid" x="{_lane_x(each):.1f}" y="14">{_second(each)}</text>' for each in seconds),
        *rows,
    ]
    return _svg(bottom, "What clients with a good token were told, by the second around the repair", parts)


def _second(seconds: int) -> str:
    return "repair" if seconds == 0 else f"{seconds:+d} s".replace("-", "\u2212")


def _lane(scenario: ScenarioResult, y: float) -> str:
    repair = scenario.marks.get("repair", 0.0)
    fault = scenario.marks.get("fault", repair) - repair
    begin = _lane_x(max(fault, -BEFORE_SECONDS))
    parts = [
        f'<text x="{LEFT + LANE_SHIFT - 8}" y="{y + 4:.0f}" class="end">{escape(_short(scenario.name))}</text>',
        f'<rect class="trouble" x="{begin:.1f}" y="{y - 7:.0f}" width="{max(_lane_x(0) - begin, 0):.1f}" height="14"/>',
    ]
    for sample in scenario.samples:
        at = sample.at_seconds + sample.seconds - repair
        if sample.kind in GOOD_TOKENS and -BEFORE_SECONDS <= at <= AFTER_SECONDS:
            parts.append(f'<g transform="translate({_lane_x(at):.1f} {y:.0f})">{SHAPES[_shape(sample)][0]}</g>')
    return "".join(parts)


def storm(ours: Sequence[CurvePoint], others: Sequence[Column], *, rate: float) -> str:
    """Clients that came back in each second after the repair, a picture for each door, on one scale."""
    curves = [("doorward", ours), *((column.name, column.curve) for column in others if column.curve)]
    most = max([rate, *(point.count for _, curve in curves for point in curve)])
    last = max([10.0, *(point.at_seconds for _, curve in curves for point in curve)])
    height = 130
    parts = [
        _storm_row(name, curve, 20 + number * height, height - 40, most, last, rate)
        for number, (name, curve) in enumerate(curves)
    ]
    return _svg(20 + len(curves) * height, "Clients that came back, by the second after the repair", parts)


def _storm_row(
    name: str, curve: Sequence[CurvePoint], top: float, height: float, most: float, last: float, rate: float
) -> str:
    base = top + height
    wide = (WIDTH - LEFT - RIGHT) / (last + 1)
    level = base - rate / most * height
    parts = [
        f'<text x="0" y="{base - 14:.0f}">{escape(name)}</text>',
        f'<text class="soft" x="0" y="{base:.0f}">{sum(point.count for point in curve)} returns</text>',
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>',
        f'<text class="soft end" x="{LEFT - 8}" y="{top + 10:.0f}">{most:.0f} /s</text>',
    ]
    for point in curve:
        tall = point.count / most * height
        x = LEFT + point.at_seconds * wide
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{base - tall:.1f}" width="{max(wide - 1, 1):.1f}" height="{tall:.1f}"/>'
        )
    step = 5 if last <= 40 else 10
    parts.extend(
        f'<text class="soft mid" x="{LEFT + (second + 0.5) * wide:.1f}" y="{base + 16:.0f}">{second} s</text>'
        for second in range(0, int(last) + 1, step)
    )
    parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>')
    parts.append(
        f'<text class="label end" x="{WIDTH - RIGHT}" y="{level - 5:.1f}">told to come at {rate:.0f} /s</text>'
    )
    return "".join(parts)


def span(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.0f} s"


LANE_SHIFT = 130


def _lane_x(seconds: float) -> float:
    left = LEFT + LANE_SHIFT
    return left + (seconds + BEFORE_SECONDS) / (BEFORE_SECONDS + AFTER_SECONDS) * (WIDTH - left - RIGHT)


def _short(name: str) -> str:
    return (
        name.replace("/with-keys", ", keys")
        .replace("/without-keys", ", no keys")
        .replace("/breaker-", ", ")
        .replace("/", ", ")
    )


def _shape(sample: Sample) -> str:
    if sample.outcome is Outcome.ALLOW:
        return "live" if sample.assurance in {"live", "unsaid", None} else "degraded"
    return {Outcome.DENY: "no", Outcome.UNAVAILABLE: "away"}.get(sample.outcome, "none")


def _log_x(seconds: float) -> float:
    share = math.log10(min(max(seconds, LEAST_SECONDS), MOST_SECONDS) / LEAST_SECONDS) / math.log10(
        MOST_SECONDS / LEAST_SECONDS
    )
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _bin(seconds: float) -> int:
    return int(math.log10(min(max(seconds, LEAST_SECONDS), MOST_SECONDS) / LEAST_SECONDS) * BINS_PER_DECADE)


def _edge(number: int) -> float:
    return LEAST_SECONDS * 10 ** (number / BINS_PER_DECADE)


def _svg(height: float, title: str, parts: Iterable[str]) -> str:
    inner = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">{inner}</svg>'
