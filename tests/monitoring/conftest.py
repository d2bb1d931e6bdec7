"""Prometheus and promtool: from Debian's package, or not run and told so."""

from __future__ import annotations

import os
import shutil

import pytest

NOT_RUN = "NOT RUN: there is no prometheus with promtool here (tools/install-promtool)"
_MISSING = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.get_closest_marker("prometheus")]
    if not ours or all(shutil.which(name) for name in ("prometheus", "promtool")):
        return
    if os.environ.get("CI"):
        pytest.exit(f"{NOT_RUN}; CI must run the tests of the alert rules", returncode=1)
    for item in ours:
        item.add_marker(pytest.mark.skip(reason=NOT_RUN))
    config.stash[_MISSING] = len(ours)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if missing := config.stash.get(_MISSING, 0):
        terminalreporter.section("tests of the alert rules did not run", sep="!", red=True, bold=True)
        terminalreporter.line(f"{missing} tests: {NOT_RUN}")
