"""The Grafana board is what its script makes, and each of its queries asks for something that is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT
from tests.monitoring_support import DEPLOY, METRICS, unknown_in

TOOL = ROOT / "tools" / "make-board"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "doorward.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = BOARD["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]


def run(tool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, tool, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_the_board_is_what_the_script_makes(tmp_path: Path) -> None:
    assert run(TOOL, "--check").returncode == 0
    copy = tmp_path / "tools" / "make-board"
    copy.parent.mkdir()
    shutil.copy(TOOL, copy)
    made = tmp_path / "deploy" / "grafana" / "doorward.json"
    assert run(copy, "--check").returncode == 1
    assert run(copy, "--chekc").returncode == 2
    assert not made.exists()
    assert run(copy).returncode == 0
    assert json.loads(made.read_text(encoding="utf-8")) == BOARD


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[f"{title}-{at}" for at, (title, _) in enumerate(QUERIES)])
def test_each_query_names_what_exists(title: str, query: str) -> None:
    assert unknown_in(query) == []
    assert "doorward_" in query
    assert query.count('job=~"$job", instance=~"$instance"') >= query.count("doorward_"), "for the chosen doors only"


def test_nothing_that_is_measured_is_left_out() -> None:
    shown = " ".join(query for _, query in QUERIES)
    assert [name for name in METRICS if not re.search(rf"\b{name}(_bucket|_count)?\b", shown)] == []


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in PANELS:
        for target in panel.get("targets", []):
            kept = set(re.split(r", ", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_panels_do_not_overlap_and_fit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.mark.prometheus
def test_each_query_is_promql(tmp_path: Path) -> None:
    filled = [re.sub(r"\$__\w+", "5m", query).replace("$job", ".+").replace("$instance", ".+") for _, query in QUERIES]
    rules = [{"record": f"board:query{at}", "expr": query} for at, query in enumerate(filled)]
    file = tmp_path / "board.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8")  # JSON is YAML
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
