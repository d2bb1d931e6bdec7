"""The report: one HTML page that needs nothing else, for a screen by day and by night, and for paper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from doorward.drill import figures, report_beside
from doorward.drill.beside import old_way_avoided
from doorward.drill.judge import NEVER_LET_IN
from doorward.drill.marks import legend
from doorward.drill.pieces import number_of, table, wide
from doorward.drill.results import OURS, DrillResult, Finding, Outcome, Phase, ScenarioResult
from doorward.drill.scenarios import DEADLINE_SECONDS
from doorward.drill.seen import GOOD_TOKENS, counted, in_trouble, saw, span

WATCHED_FAMILIES = frozenset({"matrix", "memory", "keys", "outside"})
SECTIONS = {
    "doors": "Other doors",
    "waits": "Waits",
    "scenarios": "Scenarios",
    "seconds": "Second by second",
    "crowd": "The crowd comes back",
    "rules": "Every rule",
    "where": "Where and how",
}


def page(result: DrillResult) -> str:
    """The whole page."""
    template = Template(files("doorward.drill").joinpath("report.html").read_text("utf-8"))
    parts = {
        "doors": report_beside.section(result),
        "waits": _waits(result),
        "scenarios": _table(result),
        "seconds": _lanes(result),
        "crowd": _crowd(result),
        "rules": _rules(result),
        "where": _conditions(result),
    }
    sections = [f'<section id="{name}">{part}</section>' for name, part in parts.items() if part]
    links = "".join(f'<a href="#{name}">{SECTIONS[name]}</a>' for name, part in parts.items() if part)
    nav = f'<nav aria-label="Sections">{links}</nav>'
    body = [_head(result), _failures(result), _numbers(result), nav, *sections]
    return template.substitute(title=escape(_title(result)), body="\n".join(body))


def _title(result: DrillResult) -> str:
    held = sum(scenario.held for scenario in result.scenarios)
    return f"Doorward drill: {held} of {len(result.scenarios)} scenarios held"


def _head(result: DrillResult) -> str:
    held = sum(scenario.held for scenario in result.scenarios)
    total = len(result.scenarios)
    verdict = (
        f'<span class="held">every rule held</span> in {number_of(total, "scenario")}'
        if result.held
        else f'<span class="failed">{total - held} of {number_of(total, "scenario")} failed</span>'
    )
    return (
        f"<h1>Doorward drill: {verdict}</h1>"
        f'<p class="soft">{escape(result.target)}, {escape(result.began_at.replace("T", " "))}, {result.seconds:.0f} s. '
        f"<code>{escape(result.command)}</code></p>"
    )


def _failures(result: DrillResult) -> str:
    """What failed, before all else: the first broken rule of each scenario, the names of the others; nothing if all held."""
    items = "".join(_failure(scenario) for scenario in result.scenarios if not scenario.held)
    return f'<section id="failed" aria-label="What failed"><ul class="failures">{items}</ul></section>' if items else ""


def _failure(scenario: ScenarioResult) -> str:
    first, *others = [finding for finding in scenario.findings if not finding.held]
    more = f" (and {', '.join(other.rule for other in others)})" if others else ""
    return (
        f'<li><a href="#{escape(_place(scenario))}">{escape(scenario.name)}</a> '
        f'<p><b class="failed">{escape(first.rule)}</b>{escape(more)}: {escape(first.text)}</p></li>'
    )


def _place(scenario: ScenarioResult) -> str:
    """The id of its rules on the page."""
    return f"rules/{scenario.name}"


def _numbers(result: DrillResult) -> str:
    samples = [sample for scenario in result.scenarios for sample in scenario.samples]
    unproven = sum(sample.outcome is Outcome.ALLOW and sample.kind in NEVER_LET_IN for sample in samples)
    slowest = [scenario.slowest_ms for scenario in result.scenarios if scenario.slowest_ms is not None]
    overruns = [scenario.overrun_ms for scenario in result.scenarios if scenario.overrun_ms is not None]
    healed = [scenario.recovery_seconds for scenario in result.scenarios if scenario.recovery_seconds is not None]
    avoided = [each for scenario in result.scenarios if (each := old_way_avoided(scenario)) is not None]
    facts = {
        "handshakes opened": f"{len(samples):,}",
        "without any answer": str(sum(sample.censored for sample in samples)),
        "let in without proof": str(unproven),
    }
    if slowest:
        facts["slowest decision, the door\u2019s clock"] = span(max(slowest) / 1000)
    if overruns:
        facts["furthest past its deadline"] = span(max(overruns) / 1000)
    if healed:
        facts["slowest to heal"] = span(max(healed))
    if avoided:
        most = max(avoided, key=lambda each: each.longest_seconds)
        facts["longest wait avoided, to the old way"] = span(most.longest_seconds, at_least=most.at_least)
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return f'<dl class="figures">{tiles}</dl>'


def _waits(result: DrillResult) -> str:
    samples = [
        sample
        for scenario in result.scenarios
        if not scenario.columns
        for sample in scenario.samples
        if sample.phase is Phase.FAULT
    ]
    if not samples:
        return ""
    figure = figures.waits({OURS: samples}, deadline_seconds=DEADLINE_SECONDS)
    return (
        "<h2>How long people waited while the fault lasted</h2>"
        "<p>Every handshake of every scenario of this door alone, with good tokens and bad ones, from the client\u2019s connect to "
        "its answer: on the client\u2019s clock, with the network and the lag of its own loop, for which the rule in-time allows. "
        f"Each line to the right is ten times the one before.</p>{wide(figure, 'Waits')}"
    )


def _table(result: DrillResult) -> str:
    alone = [scenario for scenario in result.scenarios if not scenario.columns]
    if not alone:
        return ""
    head = (
        '<tr><th>scenario</th><th class="opt">verdict</th><th>good tokens in the fault</th><th class="n">slowest</th>'
        '<th class="n opt">past deadline</th><th class="n opt">loop lag</th><th class="n">healed</th>'
        '<th class="n opt">handshakes</th></tr>'
    )
    parts = []
    for family, scenarios in _by_family(alone).items():
        rows = "".join(row for scenario in scenarios for row in _scenario_rows(scenario))
        parts.append(f"<h3>{escape(family)}</h3>{wide(table(head, rows, 'own'), family)}")
    pairs = (
        f" {result.pairs} of them are pairs of the matrix: every fault meets both values of each state."
        if result.pairs
        else ""
    )
    return f"<h2>Scenarios</h2><p>{number_of(len(alone), 'scenario')} of this door alone.{pairs}</p>{''.join(parts)}"


def _scenario_rows(scenario: ScenarioResult) -> Iterator[str]:
    slowest = None if scenario.slowest_ms is None else scenario.slowest_ms / 1000
    slowest = slowest if slowest is not None else max((sample.seconds for sample in scenario.samples), default=None)
    mark = '<span class="held">held</span>' if scenario.held else '<span class="failed">FAILED</span>'
    state = ", ".join(f"{name} {value}" for name, value in scenario.factors.items() if name != "fault")
    name = scenario.factors.get("fault", scenario.name)
    people = in_trouble(scenario.samples)
    yield (
        f"<tr{'' if scenario.held else ' class=wrong'}><td>{escape(name)}"
        f'<span class="phone">{mark}</span><small>{escape(state or scenario.title)}</small></td>'
        f'<td class="opt">{mark}</td>'
        f"<td>{'<br>'.join(counted(people)) if people else '-'}</td>"
        f'<td class="n">{_span(slowest)}</td>'
        f'<td class="n opt">{_span(_seconds(scenario.overrun_ms))}</td><td class="n opt">{_span(_seconds(scenario.lag_ms))}</td>'
        f'<td class="n">{_span(scenario.recovery_seconds)}</td><td class="n opt">{len(scenario.samples)}</td></tr>'
    )
    for finding in scenario.findings:
        if not finding.held:
            yield f'<tr class="why"><td colspan="8">{escape(finding.rule)}: {escape(finding.text)}</td></tr>'


def _lanes(result: DrillResult) -> str:
    watched = [each for each in result.scenarios if each.family in WATCHED_FAMILIES and "repair" in each.marks]
    if not watched:
        return ""
    shown = {saw(sample) for scenario in watched for sample in scenario.samples if sample.kind in GOOD_TOKENS}
    return (
        "<h2>What people saw, second by second</h2><p>Clients with a good token, at the moment of their answer. "
        "The fault lasts through the shaded time. Nobody here should ever be told that the token is bad.</p>"
        f"{legend(shown)}{wide(figures.lanes(watched), 'What people saw, second by second')}"
    )


def _crowd(result: DrillResult) -> str:
    """Ours against the rate that was asked for; and crowds of one size at every door, on a scale of their own."""
    parts = []
    for scenario in result.scenarios:
        if scenario.curve and scenario.expected_rate_per_second is not None:
            figure = figures.storm({OURS: scenario.curve}, rate=scenario.expected_rate_per_second)
            parts.append(
                f"<p>{escape(scenario.title)}. Each was told when; the line is "
                f"<code>limits.reconnect_rate_per_second</code>.</p>{wide(figure, scenario.title)}"
            )
    parts += report_beside.crowds(result)
    return f"<h2>The crowd comes back</h2>{''.join(parts)}" if parts else ""


def _rules(result: DrillResult) -> str:
    parts = [
        f'<details id="{escape(_place(scenario))}"{"" if scenario.held else " open"}>'
        f"<summary>{escape(scenario.name)}, {number_of(len(scenario.findings), 'rule')}, "
        f"{'all held' if scenario.held else '<b class=failed>not all held</b>'}</summary>{_findings(scenario.findings)}</details>"
        for scenario in result.scenarios
    ]
    return f"<h2>Every rule, and what was measured</h2>{''.join(parts)}"


def _findings(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><td>{escape(finding.rule)}</td><td>{'held' if finding.held else '<b class=failed>FAILED</b>'}</td>"
        f"<td>{escape(finding.text)}</td></tr>"
        for finding in findings
    )
    return f"<table>{rows}</table>"


def _conditions(result: DrillResult) -> str:
    machine = result.machine
    versions = "".join(f"<dt>{escape(name)}</dt><dd>{escape(number)}</dd>" for name, number in machine.versions.items())
    return (
        f"<h2>Where and how</h2><p>{escape(machine.system)}, {number_of(machine.processors, 'processor')}, "
        f"Python {escape(machine.python)}. Seed {result.seed}. It took {result.seconds:.0f} s.</p>"
        f"<p>The exact command:</p><p><code>{escape(result.command)}</code></p>"
        f'<dl class="versions">{versions}</dl>'
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
