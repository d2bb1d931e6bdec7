"""Where a number lies in a picture, and the SVG that the pictures share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

LEAST_SECONDS, MOST_SECONDS = 0.001, 100.0
DECADES = 5
BINS_PER_DECADE = 12
TICKS = ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s"), (10.0, "10 s"), (100.0, "100 s"))


@dataclass(frozen=True, slots=True)
class LogAxis:
    """1 ms to 100 s: each decade is as wide as the next. What lies outside is drawn at the edge."""

    left: float
    right: float

    def x(self, seconds: float) -> float:
        return self.left + _decades(seconds) / DECADES * (self.right - self.left)

    def edges(self, bin_number: int) -> tuple[float, float]:
        """From where to where a bin of `bin_of` reaches."""
        wide = (self.right - self.left) / (DECADES * BINS_PER_DECADE)
        return self.left + bin_number * wide, self.left + (bin_number + 1) * wide


def bin_of(seconds: float) -> int:
    return min(int(_decades(seconds) * BINS_PER_DECADE), DECADES * BINS_PER_DECADE - 1)


def _decades(seconds: float) -> float:
    return math.log10(min(max(seconds, LEAST_SECONDS), MOST_SECONDS) / LEAST_SECONDS)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Seconds around the repair."""

    left: float
    right: float
    first: float
    last: float

    def x(self, seconds: float) -> float:
        return self.left + (seconds - self.first) / (self.last - self.first) * (self.right - self.left)

    def holds(self, seconds: float) -> bool:
        return self.first <= seconds <= self.last


def vertical(x: float, top: float, bottom: float, style: str = "grid") -> str:
    return f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:g}" y2="{bottom:g}"/>'


def horizontal(left: float, right: float, y: float, style: str = "grid") -> str:
    return f'<line class="{style}" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def text(x: float, y: float, words: str, style: str = "") -> str:
    attribute = f' class="{style}"' if style else ""
    return f'<text{attribute} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def bar(left: float, right: float, base: float, height: float, style: str = "bar") -> str:
    """At least a hair wide and high: one client among thousands is seen."""
    wide, tall = max(right - left - 1, 1.0), max(height, 1.0)
    return f'<rect class="{style}" x="{left:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'


def seconds_label(seconds: float) -> str:
    """As it stands under a time axis: `-5 s` with a real minus sign, `repair` at 0."""
    return "repair" if seconds == 0 else f"{seconds:+g} s".replace("-", "\u2212")


def svg(width: float, height: float, title: str, parts: Iterable[str], *, style: str = "") -> str:
    """
    Args:
        style: a class of the page's style; `fluid` pictures are as wide as the page, and have larger letters where it is small.
    """
    attribute = f' class="{style}"' if style else ""
    inner = "".join(parts)
    return f'<svg{attribute} viewBox="0 0 {width:g} {height:.0f}" role="img" aria-label="{escape(title)}">{inner}</svg>'
