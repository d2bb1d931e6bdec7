"""The colours of the page are legible in both schemes (WCAG 2.2, success criteria 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re

import pytest

from doorward.web.pages import load_pages

TEXT = 4.5
EDGE = 3.0

PAIRS = (
    ("ink", "paper", TEXT),
    ("ink", "raised", TEXT),
    ("ink", "sunken", TEXT),
    ("ink", "accent-wash", TEXT),
    ("soft", "paper", TEXT),
    ("soft", "raised", TEXT),
    ("soft", "sunken", TEXT),
    ("accent", "paper", TEXT),
    ("on-accent", "accent", TEXT),
    ("ok", "accent-wash", TEXT),
    ("warn", "warn-wash", TEXT),
    ("warn", "paper", TEXT),
    ("bad", "bad-wash", TEXT),
    ("bad", "paper", TEXT),
    ("bad", "accent-wash", TEXT),
    ("edge", "raised", EDGE),
    ("edge", "paper", EDGE),
    ("accent", "raised", EDGE),
    ("ok", "paper", EDGE),
)


def colours(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", load_pages()["style.css"].body.decode(), re.DOTALL)
    block = blocks[0] if scheme == "light" else blocks[1]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
def test_contrast(scheme: str, front: str, back: str, least: float) -> None:
    found = colours(scheme)
    assert contrast(found[front], found[back]) >= least


def test_both_schemes_name_the_same_colours() -> None:
    assert set(colours("light")) == set(colours("dark"))
