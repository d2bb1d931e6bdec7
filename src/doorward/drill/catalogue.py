"""All scenarios, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from doorward.drill import families, matrix
from doorward.drill.scenarios import Pause, Scenario
from doorward.errors import UsageError


def every_scenario() -> Sequence[Scenario]:
    """The heavy ones first, so that the light ones fill the gaps; of these the long ones, so that none is waited for at the end."""
    return sorted([*matrix.scenarios(), *families.scenarios()], key=lambda each: (-each.weight, -_pause_seconds(each)))


def chosen(only: Sequence[str], *, quick: bool) -> Sequence[Scenario]:
    """Those whose name or family matches one of the patterns.

    Args:
        only: names, or patterns as the shell has them; none: all of them.
        quick: only the few that stand for the rest.

    Raises:
        UsageError: a pattern matches nothing.
    """
    scenarios = [scenario for scenario in every_scenario() if scenario.quick or not quick]
    for pattern in only:
        if not any(_matches(scenario, pattern) for scenario in scenarios):
            raise UsageError(f"no scenario is called {pattern!r}; `doorward drill --list` shows them all")
    return [each for each in scenarios if not only or any(_matches(each, pattern) for pattern in only)]


def _pause_seconds(scenario: Scenario) -> float:
    return sum(step.seconds for step in scenario.steps if isinstance(step, Pause))


def _matches(scenario: Scenario, pattern: str) -> bool:
    return fnmatchcase(scenario.name, pattern) or scenario.family == pattern or scenario.name.startswith(f"{pattern}/")
