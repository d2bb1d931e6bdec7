"""Pieces of HTML that the parts of the report share."""

from __future__ import annotations

from html import escape


def wide(content: str, name: str) -> str:
    """What may be wider than a phone: it moves by itself, by keyboard too, and the page does not."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">{content}</div>'


def table(head: str, rows: str, style: str = "") -> str:
    """A table with a head that paper repeats on each page. `style`: a class of the page's style."""
    attribute = f' class="{style}"' if style else ""
    return f"<table{attribute}><thead>{head}</thead><tbody>{rows}</tbody></table>"


def number_of(number: int, thing: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
