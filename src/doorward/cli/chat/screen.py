"""The terminal: what is finished scrolls away, what grows stays at the bottom, and only that is drawn again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.text import Text

from doorward.cli.chat.scene import Kind, Piece

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

REDRAW_SECONDS = 0.08
SPARE_LINES = 6
"""Of the window, for what is not the growing text."""
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_STYLES = {Kind.THOUGHT: "dim italic", Kind.TOOL: "dim", Kind.NOTE: "yellow", Kind.FAILURE: "red"}
_MARKS = {Kind.THOUGHT: "thought: ", Kind.TOOL: "used ", Kind.NOTE: "", Kind.FAILURE: ""}


class Screen:
    """Draws on a console. Text that is given to it is printable already."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None
        self._drawn: tuple[str, str, str] | None = None
        self._drawn_at = 0.0
        self._is_answering = False

    def show(self, piece: Piece) -> None:
        """Put something finished where it stays."""
        if piece.kind is Kind.ANSWER and not self._is_answering:
            self.say("")
        self._is_answering = piece.kind is Kind.ANSWER
        self.say(_finished(piece))

    def say(self, what: RenderableType) -> None:
        self.console.print(what)

    def note(self, words: str, style: str = "yellow") -> None:
        """A word from us, not from the chat."""
        self._is_answering = False
        self.say(Text(words, style=style))

    def draw(self, growing: str, now: str, banner: str) -> None:
        """Draw what is not finished. Cheap to call often: it draws no more often than the eye can see.

        Args:
            growing: Markdown.
            now: what goes on.
            banner: how the connection is, where that is worth a word.
        """
        at = time.monotonic()
        state = growing, now, banner
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        elif at - self._drawn_at < REDRAW_SECONDS or (state == self._drawn and not now):
            return
        self._drawn, self._drawn_at = state, at
        self._live.update(self._picture(growing, now, banner, at), refresh=True)

    def forget_growing(self) -> None:
        """What grew is about to be shown as finished: it must not be there twice."""
        if self._live is not None and self._drawn is not None:
            _, now, banner = self._drawn
            self._live.update(self._picture("", now, banner, time.monotonic()), refresh=True)

    def forget_banner(self) -> None:
        """It is no longer true."""
        if self._live is not None and self._drawn is not None:
            growing, now, _ = self._drawn
            self._drawn = growing, now, ""
            self._live.update(self._picture(growing, now, "", time.monotonic()), refresh=True)

    def rest(self) -> None:
        """Nothing grows any more. Twice is once."""
        live, self._live, self._drawn = self._live, None, None
        self._is_answering = False
        if live is not None:
            live.update(Text(""), refresh=False)
            live.stop()

    def _picture(self, growing: str, now: str, banner: str, at: float) -> RenderableType:
        parts: list[RenderableType] = []
        if growing.strip():
            parts.append(_Lines(growing, only_the_end=True))
        if banner:
            parts.append(Text(banner, style="yellow"))
        elif now:
            parts.append(
                Text(f"{_SPINNER[int(at * 10) % len(_SPINNER)]} {now}", style="dim", no_wrap=True, overflow="ellipsis")
            )
        return Group(*parts)


class _Lines:
    """Markdown without empty lines around it; of what grows only the last lines, as many as the window has room for."""

    def __init__(self, text: str, *, only_the_end: bool = False) -> None:
        self._markdown = Markdown(text, hyperlinks=False)
        self._only_the_end = only_the_end

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._markdown, options.update(height=None), pad=False)
        while lines and _is_empty(lines[0]):
            lines.pop(0)
        while lines and _is_empty(lines[-1]):
            lines.pop()
        if self._only_the_end:
            lines = lines[-max(console.size.height - SPARE_LINES, 3) :]
        for line in lines:
            yield Segments(_without_padding(line))
            yield Segment.line()


def _without_padding(line: list[Segment]) -> list[Segment]:
    """Without the spaces that fill a line up: whoever copies an answer does not want them. A coloured ground stays whole."""
    kept = list(line)
    while kept and not kept[-1].text.strip() and not (kept[-1].style and kept[-1].style.bgcolor):
        kept.pop()
    if kept and not (kept[-1].style and kept[-1].style.bgcolor):
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept


def _is_empty(line: list[Segment]) -> bool:
    return not "".join(segment.text for segment in line).strip()


def _finished(piece: Piece) -> RenderableType:
    match piece.kind:
        case Kind.QUESTION:
            return Text(f"\n> {piece.text}", style="bold")
        case Kind.ANSWER:
            return Group(_Lines(piece.text), Text(""))
        case _:
            return Text(_MARKS[piece.kind] + piece.text, style=_STYLES[piece.kind])
