"""Markdown that is still being written: which part of it is finished, and will look the same whatever comes. Pure."""

from __future__ import annotations

import unicodedata

from markdown_it import MarkdownIt

_PARSER = MarkdownIt("commonmark").enable("table")
_KEPT = "\n\t"
_HIDING = frozenset({"Cc", "Cf", "Cs", "Co"})
"""Controls, format characters, surrogates: what moves the cursor, sets colours, or makes text look like another."""
_JOINERS = "\u200c\u200d\ufe0f"
"""Format characters that Persian, Hindi and emoji are made with."""


def split_finished(text: str) -> tuple[str, str]:
    """The blocks that are finished, and the last one, which may still grow.

    Only the last top-level block of a Markdown text can be changed by what is written behind it.
    """
    starts = [token.map[0] for token in _PARSER.parse(text) if token.level == 0 and token.map is not None]
    if not starts:
        return "", text
    lines = text.split("\n")  # as the parser counts them
    finished = "".join(f"{line}\n" for line in lines[: starts[-1]])
    return finished, text[len(finished) :]


def printable(text: str) -> str:
    """Foreign text that may be put on a terminal: nothing in it moves the cursor, sets a colour, or turns the writing round."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        each for each in text if each in _KEPT or each in _JOINERS or unicodedata.category(each) not in _HIDING
    )


def one_line(text: str, limit: int) -> str:
    """Printable, on one line, and not longer than this."""
    words = " ".join(printable(text).split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"
