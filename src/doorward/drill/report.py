"""The report: one HTML page that needs nothing else, for a screen by day and by night, and for paper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from doorward.drill import figures
from doorward.drill.figures import span
from doorward.drill.judge import NEVER_LET_IN
from doorward.drill.results import OURS, Column, DrillResult, Finding, Outcome, Phase, Sample, ScenarioResult
from doorward.drill.scenarios import DEADLINE_SECONDS

WATCHED_FAMILIES = frozenset({"matrix", "memory", "keys", "outside"})


def page(result: DrillResult) -> str:
    """The whole page."""
    template = Template(files("doorward.drill").joinpath("report.html").read_text("utf-8"))
    parts = [_head(result), _numbers(result), _waits(result), _others(result), _table(result), _lanes(result)]
    parts += [_storm(result), _rules(result), _conditions(result)]
    return template.substitute(title=escape(_title(result)), body="\n".join(part for part in parts if part))


def _title(result: DrillResult) -> str:
    held = sum(scenario.held for scenario in result.scenarios)
    return f"Doorward drill: {held} of {len(result.scenarios)} scenarios held"


def _head(result: DrillResult) -> str:
    held = sum(scenario.held for scenario in result.scenarios)
    total = len(result.scenarios)
    verdict = (
        f'<span class="held">Every rule held</span> in {total} scenarios'
        if result.held
        else f'<span class="failed">{total - held} of {total} scenarios failed</span>'
    )
    return (
        f"<h1>Doorward drill: {verdict}</h1>"
        f'<p class="soft">{escape(result.target)}, {escape(result.began_at.replace("T", " "))}, {result.seconds:.0f} s. '
        f"<code>{escape(result.command)}</code></p>"
    )


def _numbers(result: DrillResult) -> str:
    samples = [sample for scenario in result.scenarios for sample in scenario.samples]
    unproven = sum(sample.outcome is Outcome.ALLOW and sample.kind in NEVER_LET_IN for sample in samples)
    slowest = [scenario.slowest_ms for scenario in result.scenarios if scenario.slowest_ms is not None]
    overruns = [scenario.overrun_ms for scenario in result.scenarios if scenario.overrun_ms is not None]
    healed = [scenario.recovery_seconds for scenario in result.scenarios if scenario.recovery_seconds is not None]
    facts = {
        "handshakes opened": str(len(samples)),
        "without any answer": str(sum(sample.censored for sample in samples)),
        "let in without proof": str(unproven),
        "slowest decision, the door's clock": span(max(slowest) / 1000) if slowest else "-",
        "furthest past its deadline": span(max(overruns) / 1000) if overruns else "-",
        "slowest to heal": span(max(healed)) if healed else "-",
    }
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="figures">{tiles}</dl>'


def _waits(result: DrillResult) -> str:
    columns: dict[str, list[Sample]] = {OURS: []}
    for scenario in result.scenarios:
        columns[OURS] += [sample for sample in scenario.samples if sample.phase is Phase.FAULT]
        for column in scenario.columns:
            columns.setdefault(column.name, []).extend(s for s in column.samples if s.phase is Phase.FAULT)
    if not any(columns.values()):
        return ""
    figure = figures.waits(
        {name: samples for name, samples in columns.items() if samples}, deadline_seconds=DEADLINE_SECONDS
    )
    return (
        "<h2>How long people waited while the fault lasted</h2>"
        "<p>Every handshake of every scenario, from the client's connect to its answer. Each line to the right is "
        f'ten times the one before.</p><figure class="wide">{figure}</figure>'
    )


def _others(result: DrillResult) -> str:
    """The same faults on other doors, measured in the same run."""
    measured = [scenario for scenario in result.scenarios if scenario.columns]
    if not measured:
        return ""
    notes = {column.name: column.note for scenario in measured for column in scenario.columns if column.note}
    numbers = "".join(f'<th class="n">{name}</th>' for name in ("got in", "half within", "longest", "healed"))
    groups = "".join(_other_rows(scenario) for scenario in measured)
    return (
        "<h2>The same faults on other doors</h2><p>Measured in this run, with the same clients and the same fault proxy. "
        f'Ours is judged.</p><div class="wide"><table><tr><th>door</th>{numbers}</tr>{groups}</table></div>'
        f'<dl class="notes">{"".join(f"<dt>{escape(name)}</dt><dd>{escape(note)}</dd>" for name, note in notes.items())}</dl>'
    )


def _other_rows(scenario: ScenarioResult) -> str:
    """One fault: a heading, and a row for each door."""
    ours = Column(OURS, scenario.samples, scenario.recovery_seconds)
    rows = "".join(_other_row(column) for column in [*([ours] if scenario.samples else []), *scenario.columns])
    return f'<tbody><tr class="group"><th colspan="5">{escape(scenario.title)}</th></tr>{rows}</tbody>'


def _other_row(column: Column) -> str:
    samples = [sample for sample in column.samples if sample.phase is Phase.FAULT]
    if not samples:
        why = escape(column.note or "not measured")
        return f'<tr><td>{escape(column.name)}</td><td colspan="4"><small>{why}</small></td></tr>'
    waits = sorted(sample.seconds for sample in samples)
    over = "&gt; " if any(sample.censored for sample in samples) else ""
    entered = sum(sample.outcome is Outcome.ALLOW for sample in samples)
    healed = "-" if column.recovery_seconds is None else span(column.recovery_seconds)
    return (
        f'<tr><td>{escape(column.name)}</td><td class="n">{entered} of {len(samples)}</td>'
        f'<td class="n">{span(waits[len(waits) // 2])}</td><td class="n">{over}{span(waits[-1])}</td>'
        f'<td class="n">{healed}</td></tr>'
    )


def _table(result: DrillResult) -> str:
    head = (
        '<tr><th>scenario</th><th>verdict</th><th class="n">slowest</th><th class="n opt">past deadline</th>'
        '<th class="n opt">loop lag</th><th class="n">healed</th><th class="n opt">clients</th></tr>'
    )
    parts = []
    for family, scenarios in _by_family(result.scenarios).items():
        rows = "".join(row for scenario in scenarios for row in _scenario_rows(scenario))
        parts.append(f'<h3>{escape(family)}</h3><div class="wide"><table>{head}{rows}</table></div>')
    pairs = (
        f" {result.pairs} of them are pairs of the matrix: every fault meets both values of each state."
        if result.pairs
        else ""
    )
    return f"<h2>Scenarios</h2><p>{len(result.scenarios)} were played.{pairs}</p>{''.join(parts)}"


def _scenario_rows(scenario: ScenarioResult) -> Iterator[str]:
    slowest = None if scenario.slowest_ms is None else scenario.slowest_ms / 1000
    slowest = slowest if slowest is not None else max((sample.seconds for sample in scenario.samples), default=None)
    mark = '<span class="held">held</span>' if scenario.held else '<span class="failed">FAILED</span>'
    state = ", ".join(f"{name} {value}" for name, value in scenario.factors.items() if name != "fault")
    name = scenario.factors.get("fault", scenario.name)
    yield (
        f"<tr{'' if scenario.held else ' class=wrong'}><td>{escape(name)}<small>{escape(state or scenario.title)}</small></td>"
        f'<td>{mark}</td><td class="n">{_span(slowest)}</td>'
        f'<td class="n opt">{_span(_seconds(scenario.overrun_ms))}</td><td class="n opt">{_span(_seconds(scenario.lag_ms))}</td>'
        f'<td class="n">{_span(scenario.recovery_seconds)}</td><td class="n opt">{len(scenario.samples)}</td></tr>'
    )
    for finding in scenario.findings:
        if not finding.held:
            yield f'<tr class="why"><td colspan="7">{escape(finding.rule)}: {escape(finding.text)}</td></tr>'


def _lanes(result: DrillResult) -> str:
    watched = [each for each in result.scenarios if each.family in WATCHED_FAMILIES and "repair" in each.marks]
    if not watched:
        return ""
    return (
        "<h2>What people saw, second by second</h2><p>Clients with a good token, at the moment of their answer. "
        "The fault lasts through the shaded time. Nobody here should ever be told that the token is bad.</p>"
        f'{figures.legend(figures.SHAPES)}<figure class="wide">{figures.lanes(watched)}</figure>'
    )


def _storm(result: DrillResult) -> str:
    scenario = next((each for each in result.scenarios if each.curve), None)
    if scenario is None or scenario.expected_rate_per_second is None:
        return ""
    others = [column for each in result.scenarios for column in each.columns if column.curve]
    figure = figures.storm(scenario.curve, others, rate=scenario.expected_rate_per_second)
    return (
        f"<h2>The crowd comes back</h2><p>{escape(scenario.title)}. Each was told when; the line is "
        f'<code>limits.reconnect_rate_per_second</code>.</p><figure class="wide">{figure}</figure>'
    )


def _rules(result: DrillResult) -> str:
    parts = [
        f"<details><summary>{escape(scenario.name)}, {len(scenario.findings)} rules, "
        f"{'all held' if scenario.held else 'not all held'}</summary>{_findings(scenario.findings)}</details>"
        for scenario in result.scenarios
    ]
    return f"<h2>Every rule, and what was measured</h2>{''.join(parts)}"


def _findings(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><td>{escape(finding.rule)}</td><td>{'held' if finding.held else '<b class=failed>FAILED</b>'}</td>"
        f"<td>{escape(finding.text)}</td></tr>"
        for finding in findings
    )
    return f'<div class="wide"><table>{rows}</table></div>'


def _conditions(result: DrillResult) -> str:
    machine = result.machine
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return (
        f"<h2>Where and how</h2><p>{escape(machine.system)}, {machine.processors} processors, Python {escape(machine.python)}; "
        f"{escape(versions)}. Seed {result.seed}.</p><p><code>{escape(result.command)}</code></p>"
    )


def _by_family(scenarios: Sequence[ScenarioResult]) -> Mapping[str, Sequence[ScenarioResult]]:
    families: dict[str, list[ScenarioResult]] = defaultdict(list)
    for scenario in scenarios:
        families[scenario.family].append(scenario)
    return families


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)
