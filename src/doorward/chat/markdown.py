"""Markdown of strangers as HTML that a page may show: CommonMark, tables and strikethrough, and nothing that acts.

Two walls, either of which would do: the parser takes no HTML, and what it makes is cleaned by an allow-list.

Some texts take the parser a time that grows with the square of their length, and there will be more of them than anybody knows of.
So it looks at the clock at each step, and a text that takes too long is shown as it is written.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

MAX_NESTING: Final = 20
"""Quotes in lists in quotes: deeper ones stay as they are written."""

MAX_CELLS_MADE_UP: Final = 4_096
"""Of one table: at the row with which its short rows lack more cells, it ends. It is made in one step."""

CPU_SECONDS: Final = 0.5
"""For one call's texts; some ten times what 64 KiB of an answer take."""

SCHEMES: Final = frozenset({"http", "https", "mailto"})
HEADING_SHIFT: Final = 2
"""An answer stands in a page that has its own first and second level."""

_DEEPEST_HEADING: Final = 6
_BLOCKS: Final = ("blockquote", "br", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul")
_INLINE: Final = ("a", "code", "em", "s", "strong")
_TABLE: Final = ("table", "tbody", "td", "th", "thead", "tr")
_LANGUAGE: Final = re.compile(r"language-[A-Za-z0-9_+#.-]{1,32}")
_NEWLINE: Final = re.compile(r"\r\n?|\n")
_BUDGET: Final = "budget"
_ALIGNMENTS: Final = frozenset({"left", "center", "right"})


def _attribute(tag: str, name: str, value: str) -> str | None:
    """The value that an allowed attribute may have, else nothing."""
    if (tag, name) == ("code", "class"):
        return value if _LANGUAGE.fullmatch(value) else None
    if (tag, name) == ("ol", "start"):
        return value if value.isascii() and value.isdigit() and len(value) <= 9 else None
    if name == "align":
        return value if value in _ALIGNMENTS else None
    return value


_CLEANER: Final = nh3.Cleaner(
    tags={*_BLOCKS, *_INLINE, *_TABLE},
    attributes={"*": set(), "a": {"href"}, "code": {"class"}, "ol": {"start"}, "td": {"align"}, "th": {"align"}},
    attribute_filter=_attribute,
    link_rel="noopener noreferrer nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes=set(SCHEMES),
    url_relative="deny",
)


@dataclass(frozen=True, slots=True)
class Growing:
    """A text that is still being written, as HTML, and how much of it will stay so whatever is written next.

    The first `settled_lines` lines of the text (ending in `\\n`, `\\r\\n` or `\\r`) are the first `settled_elements`
    top-level elements of `html`. The text after them can be rendered by itself.
    """

    html: str
    settled_lines: int
    settled_elements: int


class Budget:
    """How long what is rendered with it may keep this thread's processor busy. A step that was begun is not broken off."""

    def __init__(self, seconds: float = CPU_SECONDS) -> None:
        self._ends_at = time.thread_time() + seconds

    def check(self) -> None:
        if time.thread_time() > self._ends_at:
            raise _TooSlow


class _TooSlow(Exception):
    """The budget is spent."""


def render(text: str, budget: Budget | None = None) -> str:
    """`text` as HTML: a fragment of block elements, safe to be put into a page.

    Raw HTML comes out as the text that it is. Links are absolute `http`, `https` or `mailto`, open another tab and pass
    nothing on. An image becomes a link to it: a page must not fetch what an answer names. Headings begin at `<h3>`, the
    language of a fenced block is its `class="language-..."`, a table's alignment is `align`.

    Takes about two milliseconds a kilobyte: call it in a thread. What the budget does not suffice for comes out as it is written.

    Args:
        text: any text; bound its length before.
        budget: shared by the texts of one call; default: one of its own.

    Source:
        CommonMark 0.31; the tables and strikethrough of GitHub Flavored Markdown.
    """
    whole = _whole(text)
    try:
        made = _PARSER.render(whole, {_BUDGET: budget or Budget()})
    except _TooSlow:
        return _as_written(whole)
    return _CLEANER.clean(made)


def render_growing(text: str, budget: Budget | None = None) -> Growing:
    """As `render`, for the end of a text that goes on. Takes up to twice as long.

    Only the last block that complete lines have begun can still change: a paragraph into a heading or a table, a list into
    a longer one. All before it is settled, but for links whose address is only given further down (`[1]: https://...`).
    """
    whole = _whole(text)
    try:
        return _growing(whole, {_BUDGET: budget or Budget()})
    except _TooSlow:
        return Growing(_as_written(whole), 0, 0)


def _growing(whole: str, env: dict[str, Any]) -> Growing:
    complete = _PARSER.parse(whole[: _end_of_lines(whole)], env)
    begins = [index for index, token in enumerate(complete) if token.level == 0 and token.nesting >= 0]
    last = begins[-1] if len(begins) > 1 else 0
    settled, lines = complete[:last], (complete[last].map or [0])[0] if last else 0
    rest = _PARSER.parse(_after_lines(whole, lines), env)
    parts = (_CLEANER.clean(_PARSER.renderer.render(tokens, _PARSER.options, env)) for tokens in (settled, rest))
    return Growing("".join(parts), lines, max(len(begins) - 1, 0))


def _as_written(whole: str) -> str:
    return _CLEANER.clean(f"<p>{html.escape(whole)}</p>".replace("\n", "<br>\n"))


def _whole(text: str) -> str:
    """Half of a surrogate pair, as JSON may hold one, is no text."""
    return text.encode("utf-8", "replace").decode()


def _end_of_lines(text: str) -> int:
    """Where the last line that is complete ends. A `\\r` at the very end may be half of an ending."""
    return max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1


def _after_lines(text: str, count: int) -> str:
    starts = (0, *(match.end() for match in _NEWLINE.finditer(text)))
    return text[starts[count] :]


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": MAX_NESTING})
    parser.enable(["table", "strikethrough"])
    parser.block.ruler.before(
        "table", _BUDGET, _check_at_block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.inline.ruler.before("text", _BUDGET, _check_at_inline)
    parser.core.ruler.push("shift_headings", _shift_headings)
    parser.core.ruler.push("align_cells", _align_cells)
    parser.core.ruler.push("unpicture", _unpicture)
    return parser


def _check_at_block(state: StateBlock, _start: int, _end: int, _silent: bool) -> bool:
    state.env[_BUDGET].check()
    return False


def _check_at_inline(state: StateInline, _silent: bool) -> bool:
    state.env[_BUDGET].check()
    return False


def _shift_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1:]) + HEADING_SHIFT, _DEEPEST_HEADING)}"


def _align_cells(state: StateCore) -> None:
    """`align`, for `style` is neither in the allow-list nor in a strict Content-Security-Policy."""
    for token in state.tokens:
        style = token.attrs.pop("style", None) if token.type in {"td_open", "th_open"} else None
        if style is not None:
            token.attrs["align"] = str(style).removeprefix("text-align:")


def _unpicture(state: StateCore) -> None:
    """Each image becomes a link to it, or plain words where it stands in a link already."""
    for token in state.tokens:
        if token.children:
            token.children = _without_images(token.children)


def _without_images(tokens: Sequence[Token]) -> list[Token]:
    kept: list[Token] = []
    in_link = False
    for token in tokens:
        if token.type in {"link_open", "link_close"}:
            in_link = token.nesting > 0
        if token.type != "image":
            kept.append(token)
            continue
        address = str(token.attrs.get("src", ""))
        words = Token("text", "", 0, content=token.content or address)
        link = [Token("link_open", "a", 1, attrs={"href": address}), words, Token("link_close", "a", -1)]
        kept += [words] if in_link else link
    return kept


# The parser has no option for it. Its own bound, 65,536 cells that a table's short rows lack, takes seconds.
import_module("markdown_it.rules_block.table").__dict__["MAX_AUTOCOMPLETED_CELLS"] = MAX_CELLS_MADE_UP
_PARSER: Final = _parser()
