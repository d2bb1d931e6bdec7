"""Metrics, from the registry that `doorward serve` shows, and the closed sets that its labels are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from doorward import Settings
from doorward.adapters.prometheus import (
    BOUNDED_STEPS,
    BREAKER_STATES,
    DEGRADED_ASSURANCES,
    PROBE_RESULTS,
    VERDICTS,
    PrometheusMetrics,
)
from doorward.asgi.opening import Cut
from doorward.chat.mailbox import Ending
from doorward.chat.outbox import Slow
from doorward.chat.subscription import Start
from doorward.chat.telemetry import FORWARD_RESULTS
from doorward.cli.serve import assemble
from doorward.core.verdict import Assurance, Source
from reference_pages.markdown import MADE, plain, table

MORE = {
    "doorward_e2e_admits_total": "[what that is](../how-to/test-degraded-mode.md)",
    "doorward_untrusted_forwards_total": "[what to do](../how-to/behind-a-proxy.md)",
}
STEPS = {"patience": "let in provisionally", "remote": "a question ran into the deadline"}
CUTS = {
    Cut.SILENT: "sent nothing",
    Cut.HEADER: "a request that was not complete in time",
    Cut.BODY: "a body that stalled",
    Cut.UNREAD: "does not read what we send",
    Cut.EVICTED: "one too many incomplete",
    Cut.EARLY: "bytes before our answer to an upgrade",
    Cut.PIPELINED: "a request that cannot be answered any more",
}
SLOW = {
    Slow.STALLED: "took nothing for ten seconds",
    Slow.BUDGET: "all sockets together had more unsent than `chat.unsent_bytes`, and this one most of it",
}
STARTS = {
    Start.RESUMED: "from its own position",
    Start.NEW: "gave no position",
    Start.EPOCH: "its position is of another epoch",
    Start.WINDOW: "its position is not retained, inside a joined range or past the head",
    Start.BEHIND: "slower than the log forgets",
}
FORWARDS = {
    "answered": "by the service, a refusal included",
    "refused": "too large",
    "deadline": "no answer in time",
    "upstream": "no answer, or a broken one",
    "config": "there is no address of the service",
    "overloaded": "too many at once",
}


def page() -> str:
    rooms: dict[str, list[tuple[str, str, Sequence[str], str]]] = {}
    for row in described(registry()):
        rooms.setdefault(_room(row[0]), []).append(row)
    values = {
        "The door": _door_values(),
        "The opening handshake": {"reason": _explained(CUTS, Cut)},
        "The chat": _chat_values(),
    }
    parts = "\n\n".join(f"## {room}\n\n{_metrics(rooms[room])}\n\n{_values(values[room])}" for room in values)
    return f"""{MADE}

# Metrics

`doorward serve` shows them at `/metrics`, for Prometheus. Open to loopback peers that forward for nobody; from elsewhere with
`Authorization: Bearer <serve.metrics_token>`. Every label is a closed set: never a user, a token, a thread or a path. Before your
own app, the same numbers are in `app.door.metrics.registry`, a `prometheus_client` registry (the last two parts belong to `serve`).

Histograms have the usual `_bucket`, `_sum` and `_count`.

Prometheus counts growth, and a series that appears at 1 never grew. So everything that an alert of ours asks about, every way of
letting in and nearly every way of *could not ask* is shown as 0 from the start of the process; other label values appear with their
first event. In a rule of your own on such a rare one, add `or (metric > 0 unless metric offset 5m)`.

{parts}
"""


def registry() -> CollectorRegistry:
    """What `/metrics` of `doorward serve` shows."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), auth={"url": "http://127.0.0.1:9", "service_secret": "unused"})
        metrics = assemble(settings).door.metrics
    metrics.watch(bars=lambda: 0, abandoned_tasks=lambda: 0, connections=lambda: 0)
    return metrics.registry


def described(shown: CollectorRegistry) -> Iterator[tuple[str, str, Sequence[str], str]]:
    """Name, type, labels and meaning of each metric. A family that has no sample yet still knows its labels."""
    collectors: Iterable[Any] = shown._collector_to_names  # noqa: SLF001 - it shows them nowhere else
    for collector in collectors:
        for family in collector.collect():
            sampled = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
            known = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", None) or tuple(sampled)
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield name, family.type, known, family.documentation


def _room(name: str) -> str:
    if name.startswith("doorward_chat_"):
        return "The chat"
    return "The door" if name in _of_the_door() else "The opening handshake"


@cache
def _of_the_door() -> frozenset[str]:
    metrics = PrometheusMetrics()
    metrics.watch(bars=lambda: 0, abandoned_tasks=lambda: 0, connections=lambda: 0)
    return frozenset(name for name, *_ in described(metrics.registry))


def _metrics(rows: Iterable[tuple[str, str, Sequence[str], str]]) -> str:
    return table(
        ["metric", "type", "labels", "what it is"],
        (
            [f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels) or "-", _meaning(name, text)]
            for name, kind, labels, text in rows
        ),
    )


def _meaning(name: str, text: str) -> str:
    return f"{plain(text)}: {MORE[name]}" if name in MORE else plain(text)


def _values(by_label: Mapping[str, str]) -> str:
    return table(["label", "values"], ([f"`{label}`", values] for label, values in by_label.items()))


def _door_values() -> Mapping[str, str]:
    return {
        "verdict": _words(VERDICTS),
        "source": f"the step that decided: {_words(Source)}",
        "reason": (
            f"allow: {_words([*Assurance.__members__.values()][:3])}, or after an outage began "
            f"{_words(f'degraded_{each}' for each in (*DEGRADED_ASSURANCES, Assurance.TEST))}; "
            "deny: the code in lower case; unavailable: the cause, or the code in lower case"
        ),
        "issuer": "`auth`, and the names of [`[[issuers]]`](settings.md#issuers)",
        "step": _explained(STEPS, BOUNDED_STEPS),
        "result": (
            "of an attempt: `valid`, `invalid`, or the [kind of error](errors.md#could-not-ask); "
            f"of a probe: {_words(PROBE_RESULTS)}; of a re-validation: a verdict"
        ),
        "state": _words(BREAKER_STATES),
        "to": "the same",
        "assurance": _words(DEGRADED_ASSURANCES),
    }


def _chat_values() -> Mapping[str, str]:
    return {
        "ending": _words(Ending),
        "code": "the [code word](close-codes.md)",
        "why": _explained(SLOW, Slow),
        "start": _explained(STARTS, Start),
        "result": _explained(FORWARDS, FORWARD_RESULTS),
    }


def _words(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _explained(meanings: Mapping[str, str], values: Iterable[str]) -> str:
    """Every value has a meaning here, or the page cannot be made."""
    return "; ".join(f"`{value}`: {meanings[value]}" for value in values)
