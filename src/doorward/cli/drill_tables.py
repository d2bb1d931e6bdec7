"""What `doorward drill` prints: its results, its scenarios, and two drills beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from doorward.cli.output import console
from doorward.drill.beside import FAMILY, FAULTS, OLD_WAY, columns_of, old_way_avoided
from doorward.drill.compare import Compared
from doorward.drill.faults import TROUBLES
from doorward.drill.pieces import number_of
from doorward.drill.results import OURS, Column, DrillResult, ScenarioResult
from doorward.drill.scenarios import Scenario
from doorward.drill.seen import counted, in_trouble, longest, span, waited

PLAIN_COLUMNS = 140
"""A table for a file is not folded to the width of a terminal that is not there."""

WAIT_AVOIDED = f"wait avoided: the longest wait at {OLD_WAY} less the longest at {OURS}, in the same fault of this run"


def tell(outcome: DrillResult) -> None:
    """All results, and every rule that did not hold."""
    out = _paper()
    alone = [each for each in outcome.scenarios if not each.columns]
    beside = [each for each in outcome.scenarios if each.columns]
    if alone:
        out.print(_own(alone))
    if beside:
        out.print(*([""] if alone else []), _doors(beside), WAIT_AVOIDED, sep="\n")
    for each in outcome.scenarios:
        for finding in each.findings:
            if not finding.held:
                out.print(Text(f"\n{each.name}: {finding.rule}: {finding.text}", "red"), soft_wrap=True)
    failed = sum(not each.held for each in outcome.scenarios)
    verdict = "every rule held" if outcome.held else f"{number_of(failed, 'scenario')} failed"
    pairs = f", {outcome.pairs} of them pairs of the matrix" if outcome.pairs else ""
    out.print(
        f"\n{number_of(len(outcome.scenarios), 'scenario')}{pairs}: {verdict}. {outcome.seconds:.0f} s, seed {outcome.seed}."
    )


def _paper() -> Console:
    out = console()
    if not out.is_terminal:
        out.width = max(out.width, PLAIN_COLUMNS)
    return out


def _own(scenarios: Sequence[ScenarioResult]) -> Table:
    """Our own door alone."""
    heads = (
        "scenario",
        "held",
        "good tokens in the fault",
        "slowest",
        "past deadline",
        "loop lag",
        "healed",
        "clients",
    )
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for each in scenarios:
        people = in_trouble(each.samples)
        table.add_row(
            each.name,
            _held(held=each.held),
            ", ".join(counted(people)) if people else "-",
            *(_milliseconds(value) for value in (_slowest_ms(each), each.overrun_ms, each.lag_ms)),
            _span(each.recovery_seconds),
            str(len(each.samples)),
        )
    return table


def _slowest_ms(scenario: ScenarioResult) -> float | None:
    """On the door's own clock where it can be read, else on the clients'."""
    if scenario.slowest_ms is not None:
        return scenario.slowest_ms
    return max((sample.seconds * 1000 for sample in scenario.samples), default=None)


def _doors(scenarios: Sequence[ScenarioResult]) -> Table:
    """One fault on every door: the longest wait, what people saw, and when it was well again."""
    names = [column.name for column in columns_of(scenarios[0])]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("fault", no_wrap=True)
    for name in ("held", *names, "wait avoided"):
        table.add_column(name)
    for each in scenarios:
        avoided = old_way_avoided(each)
        table.add_row(
            each.factors.get("fault", each.name),
            _held(held=each.held),
            *(Text("\n".join(_cell(column)), "" if column.name == OURS else "dim") for column in columns_of(each)),
            "not measured" if avoided is None else span(avoided.longest_seconds, at_least=avoided.at_least),
        )
    return table


def _cell(column: Column) -> Iterator[str]:
    people = in_trouble(column.samples)
    if not people:
        yield "not tried"
        return
    yield waited(longest(people))
    yield from counted(people)
    yield "not healed" if column.recovery_seconds is None else f"healed {span(column.recovery_seconds)}"


def print_list(scenarios: Sequence[Scenario]) -> None:
    """Every scenario, and the faults that `--baseline` plays on every door."""
    out = _paper()
    table = Table("scenario", "family", "what happens", box=None, pad_edge=False, header_style="bold")
    for each in scenarios:
        table.add_row(each.name, each.family + (" *" if each.quick else ""), each.title)
    for name in FAULTS:
        table.add_row(f"{FAMILY}/{name}", f"{FAMILY} +", TROUBLES[name].title)
    out.print(table)
    pairs = sum(each.family == "matrix" for each in scenarios)
    out.print(
        f"\n{len(scenarios)} scenarios, {pairs} of them pairs of the matrix; * is in --quick. "
        f"{len(FAULTS)} more, marked +, are played on other doors too, with --baseline."
    )


def print_comparison(rows: Sequence[Compared], names: tuple[str, str], max_ratio: float) -> None:
    """Two drills beside each other: what is worse stands in red."""
    out = _paper()
    table = Table("scenario", "measured", *names, "ratio", "", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        cells = (row.scenario, row.measure, _span(row.before), _span(row.after), ratio, row.text)
        table.add_row(*(Text(cell, "" if row.held else "bold red") for cell in cells))
    out.print(table)
    worse = sum(not row.held for row in rows)
    slower = sum(not row.held and row.ratio is not None for row in rows)
    if worse:
        out.print(f"\n{worse} of {len(rows)} are worse, {slower} of them by being more than {max_ratio:g} times slower")
    else:
        out.print(f"\nno measure is more than {max_ratio:g} times slower, every rule held and nothing is missing")


def _held(*, held: bool) -> Text:
    return Text("yes", "green") if held else Text("NO", "bold red")


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else span(value / 1000)


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)
