"""The judge: evidence in, findings out. Pure: it opens nothing, waits for nothing and knows no clock.

Every rule says what was measured and what it was held against, so that a finding can be argued with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from doorward.core.verdict import TABLE, Code, Row
from doorward.drill.evidence import Evidence
from doorward.drill.results import Decision, Finding, Kind, Outcome, Phase, Reading, Sample
from doorward.drill.scenarios import Behaviour, Rules
from doorward.drill.spread import Second, Told, seconds

NEVER_LET_IN = frozenset({Kind.FORGED, Kind.EXPIRED, Kind.NO_TOKEN, Kind.STRANGER, Kind.REJECTED, Kind.REVOKED})
UNPROVEN = frozenset({Kind.OPAQUE})
"""Good, but only the auth service can say so: never let in on less than an answer of its own."""

UNSEEN_LAG_SECONDS = 0.07
"""The door looks for its lag each 50 ms, the clients for theirs each 20 ms."""

SHOWN = 3
"""So many examples a finding gives."""

_ROWS: dict[tuple[str, str | None], Row] = {}
for _row in TABLE:
    _ROWS.setdefault((_row.code, _row.cause), _row)
    _ROWS.setdefault((_row.code, None), _row)


def judge(rules: Rules, evidence: Evidence) -> tuple[Finding, ...]:
    """Hold the evidence against the rules. It holds up if every finding does."""
    findings = [_played(evidence), *_proof(evidence), _verdicts(rules, evidence), _wire(rules, evidence)]
    findings.append(_answered_in_time(rules, evidence))
    if rules.inside:
        findings += [_overrun(rules, evidence), _slowest(rules, evidence), _unlogged(rules, evidence)]
        findings += [_agrees(evidence), *_leaks(evidence)]
    if rules.felt:
        findings.append(Finding("felt", evidence.felt > 0, f"the fault was met {evidence.felt} times"))
    if rules.recovery_seconds is not None:
        findings.append(_recovery(rules.recovery_seconds, evidence))
    findings += _strays(rules, evidence)
    if rules.neighbour:
        findings.append(_neighbour(rules, evidence))
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
    unproven = sample.kind in UNPROVEN and sample.assurance not in {"live", "cached", None}
    return sample.kind in NEVER_LET_IN or unproven


def _also(text: str, unasked: Sequence[str]) -> str:
    return f"{text}; called live or cached without a question: {', '.join(unasked[:SHOWN])}" if unasked else text


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
    """An answer that nobody has thought of is no right one."""
    allowed = rules.expect.get((sample.phase, sample.kind), frozenset())
    return told(sample) in allowed or _loosely(told(sample), allowed)


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
    """On the clients' clocks, which also see the network, the server and their own lag; a null server tells how much.

    A stall may come before the scope, where the deadline has not begun, and another one after it.
    """
    limit = rules.deadline_seconds + rules.overrun_seconds + evidence.allowance_seconds + evidence.stall_seconds
    slowest = max((sample.seconds for sample in evidence.samples), default=0.0)
    silent = sum(sample.censored for sample in evidence.samples)
    text = f"the slowest client waited {slowest:.3f} s, of at most {limit:.3f} s"
    if silent:
        text = f"{silent} clients got no answer; {text}"
    return Finding("in-time", slowest <= limit and not silent, text, round(slowest, 4), round(limit, 4))


def _overrun(rules: Rules, evidence: Evidence) -> Finding:
    """On the door's own clock: from the scope to the last send of a refusal, or to where the app is called, which then accepts."""
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


def _unlogged(rules: Rules, evidence: Evidence) -> Finding:
    """What a client waited beyond the door's own figure for it: before the scope, and from there to the greeting.

    The door's clock does not see these, so a null server says how long they may take. On either side of the scope a stall of
    either loop may come on top, and be longer than it was measured: it began before the timer that noticed it was due.
    """
    logged = {decision.id: decision.ms / 1000 for decision in evidence.decisions}
    waits = [each.seconds - logged[each.decision_id] for each in evidence.samples if each.decision_id in logged]
    longest = max(waits, default=0.0)
    stalls = evidence.stall_seconds + UNSEEN_LAG_SECONDS
    limit = rules.overrun_seconds + 2 * stalls + evidence.null_seconds
    text = f"a client waited at most {longest * 1000:.0f} ms beyond what the log says, of {limit * 1000:.0f} ms allowed"
    return Finding("unlogged", longest <= limit, text, round(longest, 5), round(limit, 5))


def _agrees(evidence: Evidence) -> Finding:
    """Every answer names its decision, the log has a line for it, and it says the same."""
    logged = {decision.id: decision for decision in evidence.decisions}
    answers = [sample for sample in evidence.samples if sample.outcome not in {Outcome.SILENT, Outcome.BROKEN}]
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
        if was is None or now is None:
            # Where there is no process table nobody can count open files; all else is in the door's own metrics.
            unseen = name == "open files" and was is now
            yield Finding(f"leaks: {name}", unseen, f"the number of {name} could not be read")
            continue
        limit = 0 if name in _NONE_IN_THE_END else was
        text = f"{now} {name} at the end, {was} at the start"
        yield Finding(f"leaks: {name}", now <= limit, text, float(now), float(limit))


_NONE_IN_THE_END = frozenset({"admitted sockets", "abandoned calls"})
"""Every client has left, and every call is over: what was there at the start is no excuse."""


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
        wrong = [stray for stray in strays if stray.end not in rule.ends or stray.seconds > limit]
        slowest = max((stray.seconds for stray in strays), default=0.0)
        share = f"{len(strays) - len(wrong)} of {rule.clients}"
        text = f"{share} clients were {' or '.join(sorted(rule.ends))} within {limit:.2f} s; the slowest took {slowest:.2f} s"
        if wrong:
            ends = Counter(stray.end or "left open" for stray in wrong)
            text += f"; of the others: {', '.join(f'{end} ({count})' for end, count in ends.most_common(SHOWN))}"
        held = len(strays) == rule.clients and not wrong
        yield Finding(f"stray: {behaviour}", held, text, round(slowest, 3), round(limit, 3))
        if rule.at_once is not None:
            yield _bounded(behaviour, rule.at_once, evidence)


def _bounded(behaviour: Behaviour, limit: int, evidence: Evidence) -> Finding:
    most = max((reading.connections or 0 for reading in evidence.readings), default=0)
    text = f"the door held {most} connections at once, of at most {limit}"
    return Finding(f"bounded: {behaviour}", 0 < most <= limit, text, float(most), float(limit))


def _neighbour(rules: Rules, evidence: Evidence) -> Finding:
    """A client that was in all the while is served while others misbehave."""
    limit = rules.deadline_seconds + rules.overrun_seconds + evidence.allowance_seconds
    answered = [seconds for seconds in evidence.echoes if seconds is not None]
    slowest = max(answered, default=0.0)
    text = f"{len(answered)} of {len(evidence.echoes)} questions of a neighbour were answered, the slowest in {slowest:.3f} s"
    held = bool(answered) and len(answered) == len(evidence.echoes) and slowest <= limit
    return Finding("neighbour", held, text, round(slowest, 4), round(limit, 4))


def _storm(rules: Rules, evidence: Evidence) -> Iterable[Finding]:
    storm = rules.storm
    if storm is None:
        return
    within = evidence.returned_within_seconds
    sent_away = len(evidence.returns) >= storm.clients
    all_in = sent_away and evidence.returned >= storm.clients and within is not None and within <= storm.within_seconds
    after = "never" if within is None else f"after {within:.1f} s"
    text = f"{evidence.returned} of {storm.clients} clients were in again, the last of them {after}"
    yield Finding("storm: all back", all_in, text, within, storm.within_seconds)
    yield _spread(storm.rate_per_second, evidence)


def _spread(rate_per_second: float, evidence: Evidence) -> Finding:
    """Second by second, against the law of the advice (`spread`): too many in one of them are no chance."""
    curve = seconds(
        [_told_to_wait(sample, row) for sample in evidence.samples if (row := _advised(sample)) is not None],
        evidence.returns,
        rate_per_second=rate_per_second,
        lag_seconds=evidence.client_lag_seconds,
        origin=evidence.repaired_at,
    )
    if not curve:
        return Finding("storm: spread out", held=False, text="nobody came back")
    over = [second for second in curve if second.count > second.limit]
    shown = (
        max(over, key=lambda second: second.count - second.limit) if over else max(curve, key=lambda each: each.count)
    )
    text = (
        f"{len(over)} seconds saw more clients come back than their advice explains" if over else "the crowd was spread"
    )
    return Finding(
        "storm: spread out", not over, f"{text}; {_of_second(shown)}", float(shown.count), round(shown.limit, 1)
    )


def _of_second(second: Second) -> str:
    when = f"{second.at + 1:.0f} s after" if second.at >= 0 else f"{-second.at:.0f} s before"
    return (
        f"{second.count} came in the second that ended {when} the repair, {second.expected:.0f} were to be expected "
        f"and at most {second.limit:.0f} are chance"
    )


def _advised(sample: Sample) -> Row | None:
    """The row of the table that the client's advice to wait comes from."""
    if sample.retry_after_ms is None:
        return None
    row = _ROWS.get((sample.code or "", sample.cause)) or _ROWS.get((sample.code or "", None))
    return row if row is not None and row.retry_seconds is not None else None


def _told_to_wait(sample: Sample, row: Row) -> Told:
    least, most = row.retry_seconds or (0.0, 0.0)
    return Told(sample.at_seconds, sample.at_seconds + sample.seconds, least, most)


def _examples(samples: Sequence[Sample]) -> str:
    """The commonest cases, each with its count."""
    cases = Counter(f"{sample.kind} in the {_phrase(sample.phase)} was told {told(sample)}" for sample in samples)
    return ", ".join(f"{case} ({count})" for case, count in cases.most_common(SHOWN))


def _phrase(phase: Phase) -> str:
    return {Phase.HEALTHY: "healthy phase", Phase.FAULT: "fault", Phase.REPAIR: "repair", Phase.HEALED: "healed phase"}[
        phase
    ]
