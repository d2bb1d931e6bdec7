"""The rule files and queries of deploy/, and the metrics that they may name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, rows, words

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULE_FILES = (PROMETHEUS / "objectives.yml", PROMETHEUS / "alerts.yml")
METRICS = {
    cells[0].strip("`"): (cells[1], set(words(cells[2])))
    for cells in rows("docs/reference/metrics.md")
    if len(cells) == 4
}
"""What `/metrics` shows, by name: type and labels. Another test holds that page to the code."""

ADDED_LABELS = {"job", "instance", "le"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
_SELECTOR = re.compile(r"\b(?P<name>doorward_\w+|doorward:[\w:]+)(?:\{(?P<labels>[^}]*)\})?")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, as written. `name` of an alert or a recorded series."""

    kind: str
    name: str
    text: str

    @property
    def expr(self) -> str:
        match = re.search(r"^ +expr: >-\n(?P<expr>(?: {10,}.*\n)+)", self.text, re.MULTILINE)
        assert match is not None, self.name
        return match["expr"]

    def field(self, name: str) -> str | None:
        match = re.search(rf"^ +{name}: (.*)$", self.text, re.MULTILINE)
        return None if match is None else match[1].strip("'\"")


def rules() -> list[Rule]:
    return [rule for file in RULE_FILES for rule in _rules_of(file)]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if rule.kind == "alert"]


def _rules_of(file: Path) -> Iterator[Rule]:
    parts = re.split(r"^ +- (?=(?:alert|record): )", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for part in parts[1:]:
        kind, _, name = part.partition("\n")[0].partition(": ")
        yield Rule(kind, name, part)


def unknown_in(query: str) -> list[str]:
    """What the query names and nobody shows: metrics, recorded series, labels."""
    return [
        problem for match in _SELECTOR.finditer(query) for problem in _unknown(match["name"], match["labels"] or "")
    ]


def _unknown(name: str, labels: str) -> list[str]:
    if ":" in name:
        return [] if name in {rule.name for rule in rules() if rule.kind == "record"} else [name]
    family = next((each for each, (kind, _) in METRICS.items() if name in {each + s for s in _SUFFIXES[kind]}), None)
    if family is None:
        return [name]
    named = set(re.findall(r"(\w+)(?==~?|!)", re.sub(r'"[^"]*"', "", labels)))
    return [f"{name}{{{label}}}" for label in sorted(named - METRICS[family][1] - ADDED_LABELS)]
