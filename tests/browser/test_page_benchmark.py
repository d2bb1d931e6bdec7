"""The benchmark of the page, at two turns: that it measures, not how much."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import machine
from benchmarks.page import BACK, BACK_OFF, CATCH_UP, FIRST_WORDS, p95

pytestmark = pytest.mark.browser


def test_it_measures_on_the_page_from_the_cut(tmp_path: Path) -> None:
    result = tmp_path / "page.json"
    command = [sys.executable, "-m", "benchmarks.page", "--turns", "2", "--json", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=machine.ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert FIRST_WORDS in done.stdout
    samples = json.loads(result.read_text())["milliseconds"]
    assert [len(samples[name]) for name in (FIRST_WORDS, BACK, BACK_OFF, CATCH_UP)] == [2, 2, 2, 2]
    assert all(value > 0 for values in samples.values() for value in values)
    for whole, waited, caught_up in zip(samples[BACK], samples[BACK_OFF], samples[CATCH_UP], strict=True):
        assert whole == pytest.approx(waited + caught_up)


def test_the_95th_percentile_is_one_of_the_samples() -> None:
    assert p95([3.0]) == 3.0
    assert p95([float(number) for number in range(20, 0, -1)]) == 19.0
