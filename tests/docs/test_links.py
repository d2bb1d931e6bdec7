"""Every link inside the repository leads somewhere, and every page is reachable."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, anchors, links, name_of

ELSEWHERE = ("https://", "http://", "mailto:")


def followed(page: Path) -> list[tuple[str, Path, str]]:
    """Links of a page inside the repository: as written, the file, the anchor."""
    inside = [target for target in links(page) if not target.startswith(ELSEWHERE)]
    split = [(target, *target.partition("#")[::2]) for target in inside]
    return [(target, (page.parent / path).resolve() if path else page, anchor) for target, path, anchor in split]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [target for target, file, _ in followed(page) if not file.exists()]
    assert not broken
    lost = [target for target, file, anchor in followed(page) if anchor and anchor not in anchors(file)]
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_leaves_the_repository_by_its_path(page: Path) -> None:
    assert all(file.is_relative_to(ROOT) for _, file, _ in followed(page))


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        waiting.extend(file for _, file, _ in followed(page) if file.suffix == ".md" and file.exists())
    assert sorted(name_of(page) for page in PAGES if page not in reached) == []


def test_every_decision_record_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = [file.name for _, file, _ in followed(folder / "index.md") if file.parent == folder]
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert listed == records
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
