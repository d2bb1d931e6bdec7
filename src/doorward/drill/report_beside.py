"""The report's part about other doors: one table over all faults, then each fault by itself, like against like."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from doorward.drill import figures, panels
from doorward.drill.beside import OLD_WAY, columns_of, old_way_avoided
from doorward.drill.marks import legend
from doorward.drill.pieces import table, wide
from doorward.drill.results import OURS, Column, DrillResult, Sample, ScenarioResult, WaitAvoided
from doorward.drill.scenarios import DEADLINE_SECONDS
from doorward.drill.seen import counted, in_trouble, longest, middle, saw, span, waited


def section(result: DrillResult) -> str:
    """The same faults on other doors, measured in the same run; nothing if there were none."""
    measured = [scenario for scenario in result.scenarios if scenario.columns]
    if not measured:
        return ""
    shown = {saw(sample) for scenario in measured for column in columns_of(scenario) for sample in column.samples}
    return (
        "<h2>The same faults on other doors</h2><p>Measured in this run: the same crowd with good tokens, the same fault "
        "proxy, the same play. Ours is judged, the others are shown. Below each longest wait stands what people saw; "
        "whoever is refused comes back every five seconds, and counts again.</p>"
        f"{_overview(measured)}{_notes(measured)}{_pooled(measured)}"
        "<h3>Fault by fault</h3><p>Left in each picture: how long people waited, on a log scale. Right: what they were shown, "
        "second by second around the repair; the fault lasts through the shaded time, and the upright line is the moment from "
        "which everybody new was let in.</p>"
        f"{legend(shown)}{''.join(_card(scenario) for scenario in measured)}"
    )


def crowds(result: DrillResult) -> Sequence[str]:
    """Crowds of one size that came back to each door."""
    parts = []
    for scenario in result.scenarios:
        curves = {column.name: column.curve for column in columns_of(scenario) if column.samples}
        if any(curves.values()):
            parts.append(
                f"<p>The same crowd at each door, in the fault: {escape(scenario.title)}. Whoever is refused "
                "comes back with the next batch, as clients with a fixed timer do. All these pictures have one scale.</p>"
                f"{wide(figures.storm(curves), 'The same crowd at each door')}"
            )
    return parts


def _overview(measured: Sequence[ScenarioResult]) -> str:
    names = [column.name for column in columns_of(measured[0])]
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(_overview_row(scenario) for scenario in measured)
    head = f"<tr><th>the auth service</th>{heads}<th>wait avoided</th></tr>"
    return wide(table(head, rows, "doors"), "The longest waits")


def _overview_row(scenario: ScenarioResult) -> str:
    cells = "".join(_overview_cell(column) for column in columns_of(scenario))
    failed = "" if scenario.held else ' <b class="failed">FAILED</b>'
    name = escape(scenario.factors.get("fault", scenario.name))
    avoided = old_way_avoided(scenario)
    spared = "<small>not measured</small>" if avoided is None else f"<b>{_avoided(avoided)}</b>"
    return f'<tr><td><a href="#{name}">{escape(scenario.title)}</a>{failed}</td>{cells}<td>{spared}</td></tr>'


def _overview_cell(column: Column) -> str:
    samples = in_trouble(column.samples)
    if not samples:
        return "<td><small>not tried</small></td>"
    people = "<br>".join(counted(samples))
    return f'<td class="{_how_bad(samples)}">{waited(longest(samples))}<small>{people}</small></td>'


def _how_bad(samples: Sequence[Sample]) -> str:
    """A class of the page's style: everybody got in within the deadline, or somebody did not."""
    good = all(saw(sample).startswith("let in") and sample.seconds <= DEADLINE_SECONDS for sample in samples)
    return "fine" if good else "ill"


def _notes(measured: Sequence[ScenarioResult]) -> str:
    notes = {column.name: column.note for scenario in measured for column in scenario.columns if column.note}
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(note)}</dd>" for name, note in notes.items())
    avoided = (
        f"<dt>wait avoided</dt><dd>the longest wait at {escape(OLD_WAY)} less the longest at ours, in the same fault of this run"
        "</dd>"
    )
    late = [
        column.lag_seconds for scenario in measured for column in scenario.columns if column.lag_seconds is not None
    ]
    lag = (
        f"<dt>the clients</dt><dd>their own loop was late by {span(max(late))} at most, and waits include that</dd>"
        if late
        else ""
    )
    return f'<dl class="notes">{items}{avoided}{lag}</dl>'


def _pooled(measured: Sequence[ScenarioResult]) -> str:
    """Like with like: only the faults that every door which could be tried at all was tried in."""
    able = {column.name for each in measured for column in columns_of(each) if in_trouble(column.samples)}
    common = [
        each for each in measured if able == {column.name for column in columns_of(each) if in_trouble(column.samples)}
    ]
    if not common:
        return ""
    pooled: dict[str, list[Sample]] = {}
    for scenario in common:
        for column in columns_of(scenario):
            if column.name in able:
                pooled.setdefault(column.name, []).extend(in_trouble(column.samples))
    figure = figures.waits(pooled, deadline_seconds=DEADLINE_SECONDS)
    over = f"the {len(common)} faults" if len(common) > 1 else "the one fault"
    return (
        f"<h3>How long people waited, over {over} that all doors were tried in</h3><p>Each line to the right is ten times the one "
        f"before.</p>{wide(figure, 'Waits by door')}"
    )


def _card(scenario: ScenarioResult) -> str:
    columns = columns_of(scenario)
    tried = [column for column in columns if in_trouble(column.samples)]
    head = (
        '<tr><th>door</th><th>what people saw</th><th class="n opt">half within</th><th class="n">longest</th>'
        '<th class="n">healed</th><th class="n opt">wait avoided</th></tr>'
    )
    rows = "".join(_row(column) for column in columns)
    pictures = (
        f"<figure>{panels.waits(tried, deadline_seconds=DEADLINE_SECONDS)}</figure>"
        f"<figure>{panels.timeline(tried)}</figure>"
        if tried
        else ""
    )
    name = escape(scenario.factors.get("fault", scenario.name))
    return (
        f'<article class="card" id="{name}"><h4>{name}<small>{escape(scenario.title)}</small></h4>'
        f"<div class=sides>{table(head, rows)}"
        f"<div class=panels>{pictures}</div></div></article>"
    )


def _row(column: Column) -> str:
    samples = in_trouble(column.samples)
    name = f"<b>{escape(column.name)}</b>" if column.name == OURS else escape(column.name)
    if not samples:
        why_not = f"<small>not tried: {escape(column.why_not or 'nobody came')}</small>"
        return f'<tr><td>{name}</td><td colspan="5">{why_not}</td></tr>'
    healed = "not yet" if column.recovery_seconds is None else span(column.recovery_seconds)
    return (
        f'<tr><td>{name}</td><td>{"<br>".join(counted(samples))}</td><td class="n opt">{waited(middle(samples))}</td>'
        f'<td class="n">{waited(longest(samples))}</td><td class="n">{healed}</td>'
        f'<td class="n opt">{_avoided(column.wait_avoided)}</td></tr>'
    )


def _avoided(avoided: WaitAvoided | None) -> str:
    return "" if avoided is None else span(avoided.longest_seconds, at_least=avoided.at_least)
