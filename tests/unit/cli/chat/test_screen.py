"""What is on a terminal: the finished text once, the growing text at the bottom and gone when it is over."""

from __future__ import annotations

import io
import re

from rich.console import Console

from doorward.cli.chat.scene import Kind, Piece
from doorward.cli.chat.screen import REDRAW_SECONDS, SPARE_LINES, Screen

HEIGHT = 20


def screen(*, width: int = 60) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=width, height=HEIGHT, highlight=False, markup=False, emoji=False
    )
    return Screen(console), out


def lines_of(text: str) -> list[str]:
    """What a terminal shows in the end: an interpreter of the little that rich uses."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x1b\x07]*(?:\x1b\\|\x07)|[^\x1b]", text):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            continue
        elif match := re.fullmatch(r"\x1b\[(\d*)A", piece):
            row = max(row - int(match[1] or 1), 0)
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith("\x1b"):
            lines[row] += piece
    return [line.rstrip() for line in lines]


def test_what_is_finished_stays_and_what_grew_is_gone() -> None:
    shown, out = screen()
    shown.draw("Half a sen", "answering", "")
    assert any("Half a sen" in line for line in lines_of(out.getvalue()))
    shown.forget_growing()
    shown.show(Piece(Kind.ANSWER, "Half a sentence is *whole* now.\n"))
    shown.rest()
    text = lines_of(out.getvalue())
    assert [line for line in text if line] == ["Half a sentence is whole now."]


def test_a_line_of_an_answer_can_be_copied_without_spaces_behind_it() -> None:
    shown, out = screen()
    shown.show(Piece(Kind.ANSWER, "short\n\n- one\n- two\n"))
    assert not re.search(r" +(\x1b\[0m)?\n", out.getvalue())


def test_growing_text_takes_no_more_than_the_window_has() -> None:
    shown, out = screen()
    shown.draw("\n\n".join(f"line {number}" for number in range(100)), "answering", "")
    text = [line for line in lines_of(out.getvalue()) if line]
    assert text[-2] == "line 99"
    assert "answering" in text[-1]
    assert len(lines_of(out.getvalue())) <= HEIGHT - SPARE_LINES + 2
    shown.rest()
    assert not any(lines_of(out.getvalue()))


def test_the_banner_stands_instead_of_what_goes_on() -> None:
    shown, out = screen()
    shown.draw("text", "answering", "The server cannot be reached.")
    text = lines_of(out.getvalue())
    assert "The server cannot be reached." in text
    assert not any("answering" in line for line in text)
    shown.rest()


def test_it_is_drawn_no_more_often_than_the_eye_can_see() -> None:
    shown, out = screen()
    shown.draw("a", "answering", "")
    before = len(out.getvalue())
    shown.draw("ab", "answering", "")
    assert len(out.getvalue()) == before, f"within {REDRAW_SECONDS} s"
    shown.rest()
    shown.rest()


def test_each_kind_is_told_apart_and_links_show_where_they_lead() -> None:
    shown, out = screen()
    for kind in (Kind.QUESTION, Kind.THOUGHT, Kind.TOOL, Kind.NOTE, Kind.FAILURE):
        shown.show(Piece(kind, f"the {kind}"))
    shown.show(Piece(Kind.ANSWER, "see [here](https://example.com/there)"))
    shown.note("from us")
    text = "\n".join(lines_of(out.getvalue()))
    for line in ("> the question", "thought: the thought", "used the tool", "the note", "the failure", "from us"):
        assert line in text
    assert "https://example.com/there" in text
    assert "\x1b]8;" not in out.getvalue(), "no link hides its address"
