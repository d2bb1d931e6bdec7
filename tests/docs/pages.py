"""The pages of the documentation, taken apart: what its tests look at."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "clients").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[(?:[^\]\[]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *$", re.MULTILINE)
_EXAMPLE = re.compile(r"<!-- the whole of (?P<path>[\w./]+) -->\n\n$")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One fenced block. `example`: the file that it must be the whole of, where the page says so."""

    page: Path
    line: int
    language: str
    text: str
    example: Path | None

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(path: str) -> str:
    """A page by its path from the root."""
    return (ROOT / path).read_text(encoding="utf-8")


def snippets(*languages: str) -> list[Snippet]:
    return [snippet for page in PAGES for snippet in _snippets_of(page) if snippet.language in languages]


def block(page: str, language: str, word: str = "") -> str:
    """The one block in this language, with this word in it, on a page of `docs/how-to`."""
    (text,) = [
        one.text for one in snippets(language) if name_of(one.page) == f"docs/how-to/{page}.md" and word in one.text
    ]
    return text


def links(page: Path) -> Iterator[str]:
    """Every link target outside of code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return (match["target"] for match in _LINK.finditer(text))


def anchors(page: Path) -> set[str]:
    """What a heading can be linked by, as GitHub makes it."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {_slug(match["text"]) for match in _HEADING.finditer(text)}


def rows(page: str) -> Iterator[list[str]]:
    """The cells of every table row, headings and rulers left out."""
    for line in read(page).splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if cells and cells[0].startswith("`"):
            yield cells


def words(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def _snippets_of(page: Path) -> Iterator[Snippet]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] if line.strip() else line for line in match["text"].splitlines(keepends=True))
        marked = _EXAMPLE.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        yield Snippet(page, line, match["language"], body, ROOT / marked["path"] if marked else None)


def _slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    kept = (char for char in plain.lower() if char in " -_" or unicodedata.category(char)[0] in "LN")
    return "".join(kept).replace(" ", "-")
