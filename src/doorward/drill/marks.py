"""The marks of the report's pictures: one shape for each thing that people can be shown, the same in every picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from doorward.drill.seen import Saw


@dataclass(frozen=True, slots=True)
class Mark:
    """`path` is SVG path data relative to its middle; `style` a class of the page's own style."""

    path: str
    style: str
    text: str


MARKS: Mapping[Saw, Mark] = {
    Saw.LIVE: Mark("m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", "live", "let in, live answer"),
    Saw.PROVEN: Mark("m0-4l4 4-4 4-4-4z", "degraded", "let in on what is proven"),
    Saw.AWAY: Mark("m0-4l4 7h-8z", "away", "told to come back, and when"),
    Saw.ERROR: Mark("m0 3.5l-3.5-6.5h7z", "error", "given an error"),
    Saw.NO: Mark("m-3-3h6v6h-6z", "no", "told that the token is bad"),
    Saw.CUT: Mark("m-3.5 0h7m-3.5-3.5v7", "none", "cut off"),
    Saw.NOTHING: Mark("m-3-3l6 6m0-6l-6 6", "none", "left without an answer"),
}


def legend(shown: Iterable[Saw]) -> str:
    """What the marks mean, from the best to the worst."""
    wanted = set(shown)
    items = "".join(
        f'<li><svg viewBox="-6 -6 12 12" aria-hidden="true"><path class="{mark.style}" d="M0 0{mark.path}"/></svg>{mark.text}</li>'
        for each, mark in MARKS.items()
        if each in wanted
    )
    return f'<ul class="legend">{items}</ul>'


def drawn(places: Iterable[tuple[Saw, float]], y: float) -> str:
    """Marks on one line: a path for each shape; those that would cover each other are drawn once."""
    by_shape: dict[Saw, set[float]] = {}
    for each, x in places:
        by_shape.setdefault(each, set()).add(round(x * 2) / 2)
    return "".join(
        f'<path class="{MARKS[each].style}" d="{"".join(f"M{x:g} {y:g}{MARKS[each].path}" for x in sorted(by_shape[each]))}"/>'
        for each in Saw
        if each in by_shape
    )
