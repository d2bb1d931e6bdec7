"""The words around what was searched for: why a thread was found, in one line."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Final

import msgspec

CHARACTERS_BEFORE: Final = 30
CHARACTERS_AFTER: Final = 90

_SPACE: Final = re.compile(r"\s+")


class Excerpt(msgspec.Struct, frozen=True):
    """Plain text of a message: what was found, and what stands around it, with an ellipsis where more was said."""

    before: str
    match: str
    after: str


def excerpt_of(text: str, words: str) -> Excerpt | None:
    """Around the first place of `words`, which are case folded; `None` where they are not in it."""
    folded = text.casefold()
    at = folded.find(words)
    if at < 0:
        return None
    begin, end = at, at + len(words)
    if len(folded) > len(text):  # folding makes two or three characters of some
        places = [*accumulate(map(len, map(str.casefold, text)), initial=0)]
        begin, end = bisect_right(places, begin) - 1, bisect_left(places, end)
    return Excerpt(_before(text[:begin]), _line(text[begin:end]), _after(text[end:]))


def _before(text: str) -> str:
    """The last words of it, none of them cut."""
    near = _line(text[-CHARACTERS_BEFORE:])
    if len(text) <= CHARACTERS_BEFORE:
        return near
    _, space, whole = near.partition(" ")
    return "…" + (whole if space else near)


def _after(text: str) -> str:
    """The first words of it, none of them cut."""
    near = _line(text[:CHARACTERS_AFTER])
    if len(text) <= CHARACTERS_AFTER:
        return near
    whole, space, _ = near.rpartition(" ")
    return (whole if space else near) + "…"


def _line(text: str) -> str:
    return _SPACE.sub(" ", text)
