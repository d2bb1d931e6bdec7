"""Which part of a growing Markdown text is finished, and what may be put on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.cli.chat.blocks import one_line, printable, split_finished

TEXT = """# Title

One paragraph
of two lines.

1. first
   - inner

   more
2. second

```python
# no heading

x = 1
```

| a | b |
|---|---|
| 1 | 2 |

> quoted

***

last"""


def grown(text: str, size: int) -> list[str]:
    """The blocks as they finish while the text comes in pieces."""
    finished, growing = [], ""
    for start in range(0, len(text), size):
        done, growing = split_finished(growing + text[start : start + size])
        finished += [done] if done else []
    return [*finished, growing]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_nothing_is_lost_and_no_block_is_torn(size: int) -> None:
    pieces = grown(TEXT, size)
    assert "".join(pieces) == TEXT
    for block in (
        "1. first\n   - inner\n\n   more\n2. second\n",
        "# no heading\n\nx = 1\n```",
        "| a | b |\n|---|---|\n| 1 | 2 |\n",
    ):
        assert any(block in piece for piece in pieces)


def test_a_block_is_finished_as_soon_as_the_next_one_begins() -> None:
    assert split_finished("one\n\n") == ("", "one\n\n")
    assert split_finished("one\n\ntwo") == ("one\n\n", "two")
    assert split_finished("one\n\n# two") == ("one\n\n", "# two")
    assert split_finished("- a\n- b\n\nthen") == ("- a\n- b\n\n", "then")


def test_a_fence_that_is_open_holds_everything_behind_it() -> None:
    assert split_finished("```\n\n# not a heading\n\n- nor a list\n") == (
        "",
        "```\n\n# not a heading\n\n- nor a list\n",
    )


@given(st.text(alphabet="ab \n#-`>|1.*\t\u2028\x0b", max_size=60), st.integers(1, 5))
def test_whatever_comes_nothing_is_lost(text: str, size: int) -> None:
    assert "".join(grown(text, size)) == text


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]8;;https://evil\x07here", "]8;;https://evilhere"),
        ("a\rb\x08c\x00d\x7f", "abcd"),
        ("\x9b31m \x85", "31m "),
        ("abc\u202edef\u2066", "abcdef"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("grüße 你好 नमस्ते", "grüße 你好 नमस्ते"),
        ("👨\u200d👩\u200d👧 ❤\ufe0f", "👨\u200d👩\u200d👧 ❤\ufe0f"),
    ],
)
def test_foreign_text_cannot_move_the_cursor_or_dress_up(foreign: str, shown: str) -> None:
    assert printable(foreign) == shown


@given(st.text(max_size=40))
def test_no_control_character_passes(text: str) -> None:
    assert not set(printable(text)) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}


def test_one_line_is_one_line_and_short() -> None:
    assert one_line("  two\n\nlines\x1b ", 20) == "two lines"
    assert one_line("x" * 30, 10) == "x" * 9 + "…"
