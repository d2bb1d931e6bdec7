"""The verdicts as docs/reference/websocket.md shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.conformance.cases import FAMILIES, every_case
from tests.conformance.play import Verdict
from tests.conformance.subjects import Verdicts

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "websocket.md"
BEGIN: Final = "<!-- Measured by `python -m tests.conformance --write`. -->\n"
END: Final = "<!-- End of what was measured. -->\n"
WORDS: Final = {
    Verdict.OK: "as it must",
    Verdict.NON_STRICT: "not strictly",
    Verdict.FAILED: "wrong",
    Verdict.HANG: "hangs",
}


def table(seen: Verdicts) -> str:
    """A row for each family, and one for each case that is not as it must be somewhere."""
    return "\n".join((*_families(seen), "", *_exceptions(seen), ""))


def with_table(page: str, made: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def _families(seen: Verdicts) -> Iterator[str]:
    yield f"| family | cases | {' | '.join(seen)} |"
    yield "|---" * (len(seen) + 2) + "|"
    cases = every_case()
    for family, name in FAMILIES.items():
        names = [case.name for case in cases if case.family == family]
        cells = (_cell(Counter(of_subject[each] for each in names)) for of_subject in seen.values())
        yield f"| {family}: {name} | {len(names)} | {' | '.join(cells)} |"
    cells = (_cell(Counter(of_subject.values())) for of_subject in seen.values())
    yield f"| all | {len(cases)} | {' | '.join(cells)} |"


def _cell(counted: Counter[Verdict]) -> str:
    return ", ".join(f"{counted[each]} {WORDS[each]}" for each in Verdict if counted[each])


def _exceptions(seen: Verdicts) -> Iterator[str]:
    rows = [
        f"| {case.name} | {case.what} | {' | '.join(WORDS[of_subject[case.name]] for of_subject in seen.values())} |"
        for case in every_case()
        if any(of_subject[case.name] is not Verdict.OK for of_subject in seen.values())
    ]
    if rows:
        yield f"| case | the client sends | {' | '.join(seen)} |"
        yield "|---" * (len(seen) + 2) + "|"
        yield from rows
