"""The scenarios beside the matrix, a file for each family."""

from __future__ import annotations

from collections.abc import Sequence

from doorward.drill.families import clients, crowds, keys, memory
from doorward.drill.scenarios import Scenario


def scenarios() -> Sequence[Scenario]:
    return [*keys.scenarios(), *memory.scenarios(), *clients.scenarios(), *crowds.scenarios()]
