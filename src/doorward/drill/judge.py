"""The judge: evidence in, findings out. Pure: it opens nothing, waits for nothing and knows no clock.

Every rule says what was measured and what it was held against, so that a finding can be argued with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from doorward.core.verdict import TABLE, Code, Row
from doorward.drill.results import CurvePoint, Decision, Finding, Kind, Outcome, Phase, Reading, Sample
from doorward.drill.scenarios import Behaviour, Rules

NEVER_LET_IN = frozenset({Kind.FORGED, Kind.EXPIRED, Kind.NO_TOKEN, Kind.STRANGER, Kind.REJECTED, Kind.REVOKED})
UNPROVEN = frozenset({Kind.OPAQUE})
"""Good, but only the auth service can say so: never let in on less than a live answer."""

SHOWN = 3
"""So many examples a finding gives."""

_ROWS: dict[tuple[str, str | None], Row] = {}
for _row in TABLE:
    _ROWS.setdefault((_row.code, _row.cause), _row)
    _ROWS.setdefault((_row.code, None), _row)


@dataclass(frozen=True, slots=True)
class Stray:
    """How a misbehaving client ended. `seconds` until its end, or until it was not waited for any longer."""

    behaviour: Behaviour
    seconds: float
    ended: bool
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was seen of a play.

    `null_seconds`: the slowest answer of a server that lets everybody in, under the same burst. `client_lag_seconds`: the largest
    lag of the clients' own loop. `asked_in_vain`: tokens that a local look could refuse, and that were asked about all the same.
    `unasked`: decisions that claim a live answer about a token that nobody asked about.
    """

    samples: Sequence[Sample] = ()
    decisions: Sequence[Decision] = ()
    readings: Sequence[Reading] = ()
    baseline: Reading | None = None
    final: Reading | None = None
    null_seconds: float = 0.0
    client_lag_seconds: float = 0.0
    recovery_seconds: float | None = None
    strays: Sequence[Stray] = ()
    curve: Sequence[CurvePoint] = ()
    returned: int = 0
    returned_within_seconds: float | None = None
    asked_in_vain: int = 0
    unasked: Sequence[str] = ()
    lost_lines: int = 0
    troubles: Sequence[str] = ()
    """What kept the play from being played to its end: a door that did not start, or did not stop."""

    @property
    def lag_seconds(self) -> float:
        return max((reading.lag_seconds for reading in self.readings), default=0.0)


def judge(rules: Rules, evidence: Evidence) -> tuple[Finding, ...]:
    """Hold the evidence against the rules. It holds up if every finding does."""
    findings = [_played(evidence), *_proof(evidence), _verdicts(rules, evidence), _wire(rules, evidence)]
    findings.append(_answered_in_time(rules, evidence))
    if rules.inside:
        findings += [_overrun(rules, evidence), _slowest(rules, evidence), _agrees(evidence), *_leaks(evidence)]
    if rules.recovery_seconds is not None:
        findings.append(_recovery(rules.recovery_seconds, evidence))
    findings += _strays(rules, evidence)
    if rules.storm is not None:
        findings += _storm(rules, evidence)
    return tuple(findings)


def told(sample: Sample) -> str:
    """What a client was told, in the words of the expectations."""
    if sample.outcome is Outcome.ALLOW:
        return f"allow:{sample.assurance or 'unsaid'}"
    if sample.outcome in {Outcome.SILENT, Outcome.BROKEN}:
        return sample.outcome.value
    words = sample.code or str(sample.close or sample.status)
    return f"{sample.outcome}:{words}/{sample.cause}" if sample.cause else f"{sample.outcome}:{words}"


def _played(evidence: Evidence) -> Finding:
    return Finding(
        "played",
        not evidence.troubles and bool(evidence.samples or evidence.strays),
        "; ".join(evidence.troubles) or f"{len(evidence.samples)} handshakes were opened",
    )


def _proof(evidence: Evidence) -> Iterable[Finding]:
    """The one rule that outweighs all others: nobody gets in without proof."""
    wrong = [sample for sample in evidence.samples if sample.outcome is Outcome.ALLOW and _lacks_proof(sample)]
    text = f"let in without proof: {_examples(wrong)}" if wrong else "nobody was let in without proof"
    yield Finding("proof", not wrong and not evidence.unasked, _also(text, evidence.unasked), float(len(wrong)), 0.0)
    if evidence.asked_in_vain:
        yield Finding(
            "asked-in-vain",
            held=False,
            text=f"{evidence.asked_in_vain} tokens were asked about that a local look refuses",
            measured=float(evidence.asked_in_vain),
            limit=0.0,
        )


def _lacks_proof(sample: Sample) -> bool:
    unproven = sample.kind in UNPROVEN and sample.assurance not in {"live", None}
    return sample.kind in NEVER_LET_IN or unproven


def _also(text: str, unasked: Sequence[str]) -> str:
    return f"{text}; called live without a question: {', '.join(unasked[:SHOWN])}" if unasked else text


def _verdicts(rules: Rules, evidence: Evidence) -> Finding:
    """The right word for each, as the table says. *No* and *could not ask* are never confused."""
    wrong = [sample for sample in evidence.samples if not _expected(rules, sample)]
    if not wrong:
        return Finding("verdict", held=True, text="every answer was the right one", measured=0.0, limit=0.0)
    text = f"{len(wrong)} of {len(evidence.samples)} answers were wrong: {_examples(wrong)}"
    confused = [sample for sample in wrong if sample.outcome is Outcome.DENY and _was_good(rules, sample)]
    if confused:
        text = f"an outage was told as a refusal, {len(confused)} times; {text}"
    return Finding("verdict", held=False, text=text, measured=float(len(wrong)), limit=0.0)


def _expected(rules: Rules, sample: Sample) -> bool:
    allowed = rules.expect.get((sample.phase, sample.kind))
    return allowed is None or told(sample) in allowed or _loosely(told(sample), allowed)


def _loosely(answer: str, allowed: frozenset[str]) -> bool:
    """`allow:*` and `unavailable:*` stand for all of their kind."""
    return f"{answer.partition(':')[0]}:*" in allowed


def _was_good(rules: Rules, sample: Sample) -> bool:
    """No refusal was right here."""
    allowed = rules.expect.get((sample.phase, sample.kind), frozenset())
    return not any(answer.startswith("deny:") for answer in allowed)


def _wire(rules: Rules, evidence: Evidence) -> Finding:
    """The word, the HTTP status, the close code and the advice to come back belong together (one row of the table)."""
    wrong = [sample for sample in evidence.samples if rules.inside and sample.code and not _belongs(sample)]
    text = (
        f"a word with the wrong status, close code or advice: {_examples(wrong)}" if wrong else "words and codes agree"
    )
    return Finding("wire", not wrong, text, float(len(wrong)), 0.0)


def _belongs(sample: Sample) -> bool:
    code = sample.code or Code.INTERNAL
    row = _ROWS.get((code, sample.cause)) or _ROWS[code, None]
    by_frame = sample.close is not None
    right_number = sample.close == row.close if by_frame else sample.status == row.http
    if row.retry_seconds is None:
        return right_number and sample.retry_after_ms is None
    return right_number and sample.retry_after_ms is not None and sample.retry_after_ms >= row.retry_seconds[0] * 1000


def _answered_in_time(rules: Rules, evidence: Evidence) -> Finding:
    """On the clients' clocks, which also see the network, the server and their own lag; a null server tells how much."""
    limit = rules.deadline_seconds + rules.overrun_seconds + evidence.lag_seconds
    limit += evidence.client_lag_seconds + evidence.null_seconds
    slowest = max((sample.seconds for sample in evidence.samples), default=0.0)
    silent = sum(sample.censored for sample in evidence.samples)
    text = f"the slowest client waited {slowest:.3f} s, of at most {limit:.3f} s"
    if silent:
        text = f"{silent} clients got no answer; {text}"
    return Finding("in-time", slowest <= limit and not silent, text, round(slowest, 4), round(limit, 4))


def _overrun(rules: Rules, evidence: Evidence) -> Finding:
    """On the door's own clock: from the scope to the last send."""
    overrun = max((decision.overrun_ms for decision in evidence.decisions), default=0.0) / 1000
    limit = rules.overrun_seconds + evidence.lag_seconds
    text = f"at most {overrun * 1000:.1f} ms past the deadline, of {limit * 1000:.1f} ms allowed"
    return Finding("overrun", overrun <= limit, text, round(overrun, 5), round(limit, 5))


def _slowest(rules: Rules, evidence: Evidence) -> Finding:
    """No decision in the log took longer than the deadline, whatever the door believes its deadline to be."""
    slowest = max((decision.ms for decision in evidence.decisions), default=0.0) / 1000
    limit = rules.deadline_seconds + rules.overrun_seconds + evidence.lag_seconds
    text = f"the slowest decision took {slowest:.3f} s, of at most {limit:.3f} s"
    return Finding("decision", slowest <= limit and bool(evidence.decisions), text, round(slowest, 5), round(limit, 5))


def _agrees(evidence: Evidence) -> Finding:
    """The log has a line for every answer that names its decision, and it says the same."""
    logged = {decision.id: decision for decision in evidence.decisions}
    answers = [sample for sample in evidence.samples if sample.decision_id is not None]
    wrong = [sample for sample in answers if not _same(sample, logged.get(sample.decision_id or ""))]
    text = f"the log tells another story: {_examples(wrong)}" if wrong else "the log tells what the clients saw"
    if evidence.lost_lines:
        text = f"{evidence.lost_lines} lines of the log could not be read; {text}"
    return Finding("log", not wrong and not evidence.lost_lines, text, float(len(wrong)), 0.0)


def _same(sample: Sample, decision: Decision | None) -> bool:
    return decision is not None and decision.verdict == sample.outcome.value and decision.code == sample.code


def _leaks(evidence: Evidence) -> Iterable[Finding]:
    """Everything that was taken is given back. Connections kept alive to the auth service are held on purpose."""
    before, after = evidence.baseline, evidence.final
    if before is None or after is None:
        yield Finding("leaks", held=False, text="the door was not looked at, before or after")
        return
    read: dict[str, Callable[[Reading], int | None]] = {
        "tasks": lambda reading: reading.tasks,
        "sockets": lambda reading: reading.connections,
        "admitted sockets": lambda reading: reading.admitted,
        "abandoned calls": lambda reading: reading.abandoned,
        "open files": lambda reading: None if reading.files is None else reading.files - reading.upstream,
    }
    for name, of in read.items():
        was, now = of(before), of(after)
        if was is not None and now is not None:
            text = f"{now} {name} at the end, {was} at the start"
            yield Finding(f"leaks: {name}", now <= was, text, float(now), float(was))


def _recovery(limit: float, evidence: Evidence) -> Finding:
    seconds = evidence.recovery_seconds
    if seconds is None:
        return Finding("recovery", held=False, text=f"not back to live {limit:g} s after the repair", limit=limit)
    return Finding(
        "recovery", seconds <= limit, f"live again {seconds:.2f} s after the repair", round(seconds, 3), limit
    )


def _strays(rules: Rules, evidence: Evidence) -> Iterable[Finding]:
    for behaviour, rule in rules.strays.items():
        strays = [stray for stray in evidence.strays if stray.behaviour is behaviour]
        limit = rule.within_seconds + rules.overrun_seconds + evidence.lag_seconds + evidence.client_lag_seconds
        wrong = [each for each in strays if not each.ended or each.seconds > limit or each.status != rule.status]
        slowest = max((stray.seconds for stray in strays), default=0.0)
        end = f"answered {rule.status}" if rule.status else "cut"
        share = f"{len(strays) - len(wrong)} of {len(strays)}"
        text = f"{share} clients were {end} within {limit:.2f} s; the slowest took {slowest:.2f} s"
        yield Finding(f"stray: {behaviour}", bool(strays) and not wrong, text, round(slowest, 3), round(limit, 3))


def _storm(rules: Rules, evidence: Evidence) -> Iterable[Finding]:
    storm = rules.storm
    if storm is None:
        return
    within = evidence.returned_within_seconds
    all_in = evidence.returned >= storm.clients and within is not None and within <= storm.within_seconds
    after = "never" if within is None else f"after {within:.1f} s"
    text = f"{evidence.returned} of {storm.clients} clients were in again, the last of them {after}"
    yield Finding("storm: all back", all_in, text, within, storm.within_seconds)
    peak = max((point.count for point in evidence.curve), default=0)
    limit = storm.rate_per_second * storm.peak_factor
    text = f"the busiest second saw {peak} clients come back, of at most {limit:.0f}"
    yield Finding("storm: spread out", 0 < peak <= limit, text, float(peak), limit)


def _examples(samples: Sequence[Sample]) -> str:
    """The commonest cases, each with its count."""
    cases = Counter(f"{sample.kind} in the {_phrase(sample.phase)} was told {told(sample)}" for sample in samples)
    return ", ".join(f"{case} ({count})" for case, count in cases.most_common(SHOWN))


def _phrase(phase: Phase) -> str:
    return {Phase.HEALTHY: "healthy phase", Phase.FAULT: "fault", Phase.REPAIR: "repair", Phase.HEALED: "healed phase"}[
        phase
    ]
