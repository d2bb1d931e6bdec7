"""Each metric that the product shows is on the page with its type and labels, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.docs.pages import PAGES, name_of, rows, words

from doorward import Settings, errors
from doorward.adapters.prometheus import BREAKER_STATES
from doorward.asgi.opening import Cut
from doorward.chat.mailbox import Ending
from doorward.cli.serve import assemble
from doorward.core.verdict import Source
from doorward.runtime.inquiry import label_of

PAGE = "docs/reference/metrics.md"
DOCUMENTED = {cells[0].strip("`"): (cells[1], words(cells[2])) for cells in rows(PAGE) if len(cells) == 4}
VALUES = [(cells[0].strip("`"), set(words(cells[1]))) for cells in rows(PAGE) if len(cells) == 2]


@pytest.fixture
def registry(tmp_path: Path) -> CollectorRegistry:
    """What `/metrics` of `doorward serve` shows."""
    settings = Settings(data_dir=tmp_path, auth={"url": "http://127.0.0.1:9", "service_secret": "made-up"})
    metrics = assemble(settings).door.metrics
    metrics.watch(bars=lambda: 0, abandoned_tasks=lambda: 0, connections=lambda: 0)
    return metrics.registry


def shown(registry: CollectorRegistry) -> dict[str, str]:
    families = registry.collect()
    return {f"{each.name}_total" if each.type == "counter" else each.name: each.type for each in families}


def labels(registry: CollectorRegistry) -> dict[str, list[str]]:
    """By metric. A family that has no sample yet still knows its labels."""
    collectors: Iterable[Any] = registry._collector_to_names
    found = {}
    for collector in collectors:
        if hasattr(collector, "_labelnames"):
            name = collector.describe()[0].name
            found[f"{name}_total" if collector._type == "counter" else name] = list(collector._labelnames)
        else:
            for family in collector.collect():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                sampled = sorted({label for sample in family.samples for label in sample.labels})
                found[name] = list(getattr(family, "_labelnames", sampled))
    return found


def test_every_metric_is_described_and_nothing_else(registry: CollectorRegistry) -> None:
    assert sorted(DOCUMENTED) == sorted(shown(registry))


def test_types_are_right(registry: CollectorRegistry) -> None:
    assert {name: kind for name, (kind, _) in DOCUMENTED.items()} == shown(registry)


def test_labels_are_right(registry: CollectorRegistry) -> None:
    assert {name: names for name, (_, names) in DOCUMENTED.items()} == labels(registry)


def test_every_label_has_its_values(registry: CollectorRegistry) -> None:
    described = {name for name, _ in VALUES}
    used = {label for names in labels(registry).values() for label in names}
    assert used == described


def test_the_values_are_the_real_ones() -> None:
    by_label = dict(reversed(VALUES))
    assert by_label["source"] == {source.value for source in Source}
    assert by_label["state"] == set(BREAKER_STATES)
    assert by_label["reason"] >= {"live", "degraded_local"}
    assert {cut.value for cut in Cut} in [values for name, values in VALUES if name == "reason"]
    assert by_label["ending"] == {ending.value for ending in Ending}


def test_metrics_that_other_pages_name_exist() -> None:
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {name + suffix for name in DOCUMENTED for suffix in suffixes} | {
        "doorward_docs"
    }  # a label, of Prometheus' own
    for page in PAGES:
        named = re.findall(r"\b(doorward_[a-z_]+)(?=[{\[`_]|\))", page.read_text(encoding="utf-8"))
        assert sorted(set(named) - known) == [], name_of(page)


def test_every_kind_of_error_has_its_label_and_meaning() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    described = {cells[0].strip("`"): cells for cells in rows("docs/reference/errors.md")}
    assert sorted(described) == sorted(each.__name__ for each in found)
    for each in found:
        if issubclass(each, errors.BackendError):
            assert described[each.__name__][1] == f"`{label_of(each.__new__(each))}`"
