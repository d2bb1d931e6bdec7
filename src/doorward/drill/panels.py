"""The small pictures of one fault on every door: how long people waited, and when it was well again. SVG text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from doorward.drill.axes import TICKS, LogAxis, TimeAxis, bar, bin_of, seconds_label, svg, text, vertical
from doorward.drill.marks import drawn
from doorward.drill.results import OURS, Column
from doorward.drill.seen import GOOD_TOKENS, in_trouble, saw

WIDTH = 420
LEFT = 108
RIGHT = 16
ROW = 22
TOP = 20
LOG = LogAxis(LEFT, WIDTH - RIGHT)
AROUND = TimeAxis(LEFT, WIDTH - RIGHT, -15.0, 40.0)
SECONDS = (-10, 0, 10, 20, 30)


def waits(columns: Sequence[Column], *, deadline_seconds: float) -> str:
    """A histogram for each door, all on the same log scale."""
    bottom = TOP + len(columns) * ROW
    x = LOG.x(deadline_seconds)
    parts = [
        *(vertical(LOG.x(tick), TOP, bottom) for tick, _ in TICKS),
        *(text(LOG.x(tick), bottom + 14, words, "soft mid") for tick, words in TICKS),
        *(_waits_row(column, TOP + (number + 1) * ROW - 3) for number, column in enumerate(columns)),
        vertical(x, TOP - 4, bottom, "limit"),
        text(x, TOP - 8, f"deadline {deadline_seconds:g} s", "label mid"),
    ]
    return svg(WIDTH, bottom + 20, "How long people waited at each door, on a log scale", parts)


def _waits_row(column: Column, base: float) -> str:
    samples = in_trouble(column.samples)
    bins = Counter(bin_of(sample.seconds) for sample in samples)
    most = max(bins.values())
    style = "bar ours" if column.name == OURS else "bar"
    bars = "".join(bar(*LOG.edges(each), base, count / most * (ROW - 5), style) for each, count in sorted(bins.items()))
    return text(0, base - 3, column.name) + bars


def timeline(columns: Sequence[Column]) -> str:
    """What people were shown around the repair, a line for each door, and the moment from which all was well."""
    bottom = TOP + len(columns) * ROW
    parts = [
        *(vertical(AROUND.x(each), TOP - 2, bottom) for each in SECONDS),
        *(text(AROUND.x(each), TOP - 8, seconds_label(each), "soft mid") for each in SECONDS),
        *(_timeline_row(column, TOP + number * ROW + ROW / 2) for number, column in enumerate(columns)),
    ]
    return svg(WIDTH, bottom + 4, "What people were shown at each door, by the second around the repair", parts)


def _timeline_row(column: Column, y: float) -> str:
    repair = column.marks.get("repair", 0.0)
    begin = AROUND.x(max(column.marks.get("fault", repair) - repair, AROUND.first))
    wide = AROUND.x(0) - begin
    trouble = f'<rect class="trouble" x="{begin:.1f}" y="{y - 8:g}" width="{wide:.1f}" height="16"/>'
    told = [
        (saw(sample), sample.at_seconds + sample.seconds - repair)
        for sample in column.samples
        if sample.kind in GOOD_TOKENS
    ]
    marks = drawn([(each, AROUND.x(at)) for each, at in told if AROUND.holds(at)], y)
    well = ""
    if column.recovery_seconds is not None and AROUND.holds(column.recovery_seconds):
        well = vertical(AROUND.x(column.recovery_seconds), y - 9, y + 9, "well")
    return text(0, y + 4, column.name) + trouble + well + marks
