"""The page about the Python client says what the code says."""

from __future__ import annotations

import re
from dataclasses import fields

from tests.docs.pages import read

import doorward.client
from doorward.client import Client, StateName, Threads, Timing
from doorward.core.verdict import TABLE, Action, close_code

PAGE = read("docs/reference/client.md")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]


def test_every_public_name_is_on_the_page() -> None:
    assert [name for name in doorward.client.__all__ if not re.search(rf"\b{name}\b", PAGE)] == []


def test_every_call_is_on_the_page() -> None:
    for kind in (Client, Threads):
        calls = [name for name, found in vars(kind).items() if not name.startswith("_") and callable(found)]
        assert [name for name in calls if name != "aclose" and f"{name}(" not in PAGE] == []


def test_every_state_and_every_bound_is_in_its_table() -> None:
    words = {word.strip("` ") for row in ROWS for word in row[0].split(",")}
    assert {name.name for name in StateName} <= words
    numbers = {
        name.strip("` "): float(number)
        for row in ROWS
        if "_seconds" in row[0] and re.fullmatch(r"[\d., ]+", row[1])
        for name, number in zip(row[0].split(","), row[1].split(","), strict=True)
    }
    assert numbers == {field.name: field.default for field in fields(Timing)}


def test_every_refusal_is_beside_its_numbers_and_what_is_done() -> None:
    for row in TABLE:
        closes, status, _, done = next(cells for cells in ROWS if len(cells) == 4 and f"`{row.code}`" in cells[2])
        if row.close:
            assert {str(row.close), str(close_code(row, style="http"))} <= set(re.findall(r"\d+", closes)), (
                row.situation
            )
        if row.http:
            assert str(row.http) in status, row.situation
        word = {Action.STOP: "`STOPPED`", Action.RETRY: "waits and tries again", Action.SIGN_IN: "`SIGNED_OUT` only if"}
        assert word[row.action] in done, row.situation
