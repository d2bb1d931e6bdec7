"""The metrics as a scraper sees them."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from doorward.adapters.prometheus import DECISION_BUCKETS, PrometheusMetrics
from doorward.runtime.telemetry import Metrics


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


def value(metrics: PrometheusMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"doorward_{name}", labels)


def test_it_is_the_port(metrics: PrometheusMetrics) -> None:
    port: Metrics = metrics
    port.loop_lag(0.002)
    assert value(metrics, "event_loop_lag_seconds_count") == 1


def test_a_decision_is_counted_and_timed(metrics: PrometheusMetrics) -> None:
    metrics.decision("allow", "remote", "live", 0.003)
    metrics.decision("allow", "remote", "live", 0.3)
    metrics.decision("allow", "remote", "degraded_local", 0.3)
    assert value(metrics, "decisions_total", verdict="allow", source="remote", reason="live") == 2
    assert value(metrics, "decision_duration_seconds_count", verdict="allow", source="remote") == 3
    assert value(metrics, "decision_duration_seconds_bucket", verdict="allow", source="remote", le="0.005") == 1


def test_the_buckets_hold_the_five_seconds_that_must_never_be_reached(metrics: PrometheusMetrics) -> None:
    metrics.decision("deny", "local", "token_expired", 0.0001)
    bounds = {
        float(sample.labels["le"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "doorward_decision_duration_seconds_bucket"
    }
    assert bounds == {*DECISION_BUCKETS, math.inf}
    assert 5 in bounds


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("decisions_total", {"verdict": "unavailable", "source": "fallback", "reason": "stale"}),
        ("decision_duration_seconds_count", {"verdict": "unavailable", "source": "internal"}),
        ("auth_attempt_duration_seconds_count", {"issuer": "acme", "result": "identity_mismatch"}),
        ("health_probe_duration_seconds_count", {"issuer": "acme", "result": "failure"}),
        ("breaker_transitions_total", {"issuer": "acme", "to": "open"}),
    ],
)
def test_what_never_happened_is_at_0(metrics: PrometheusMetrics, name: str, labels: dict[str, str]) -> None:
    metrics.begin("acme")
    assert value(metrics, name, **labels) == 0


def test_attempts_and_probes(metrics: PrometheusMetrics) -> None:
    for _ in range(3):
        metrics.attempt("acme", "connect_timeout", 0.7)
    metrics.probe("acme", "success", 0.01)
    assert value(metrics, "auth_attempt_duration_seconds_count", issuer="acme", result="connect_timeout") == 3
    assert value(metrics, "health_probe_duration_seconds_count", issuer="acme", result="success") == 1
    assert value(metrics, "health_probe_duration_seconds_count", issuer="acme", result="connect_timeout") is None
    assert value(metrics, "health_probe_duration_seconds_count", issuer="auth", result="success") is None


def test_each_breaker_is_in_one_state(metrics: PrometheusMetrics) -> None:
    def states(issuer: str) -> dict[str, float | None]:
        names = ("closed", "open", "half_open")
        return {state: value(metrics, "breaker_state", issuer=issuer, state=state) for state in names}

    for issuer in ("auth", "acme"):
        metrics.breaker(issuer, "closed")
    metrics.breaker("acme", "open")
    metrics.breaker_transition("acme", "open")
    assert states("auth") == {"closed": 1, "open": 0, "half_open": 0}
    assert states("acme") == {"closed": 0, "open": 1, "half_open": 0}
    assert value(metrics, "breaker_transitions_total", issuer="acme", to="open") == 1


def test_the_other_counters(metrics: PrometheusMetrics) -> None:
    metrics.wait_bounded("remote")
    metrics.degraded_admit("local")
    metrics.e2e_admit()
    metrics.expiry_grace()
    metrics.revalidation("allow")
    metrics.deadline_overrun(0.02)
    assert value(metrics, "wait_bounded_total", step="remote") == 1
    assert value(metrics, "degraded_admits_total", assurance="local") == 1
    assert value(metrics, "e2e_admits_total") == 1
    assert value(metrics, "expiry_grace_total") == 1
    assert value(metrics, "revalidations_total", result="allow") == 1
    assert value(metrics, "deadline_overrun_seconds_sum") == 0.02


def test_what_is_watched_is_read_at_the_scrape(metrics: PrometheusMetrics) -> None:
    ages = {"keyset": 10.0}
    metrics.watch_issuer("acme", keyset_age=lambda: ages["keyset"], feed_age=lambda: None)
    metrics.watch_issuer("auth", keyset_age=lambda: 1.0, feed_age=lambda: 2.0)
    metrics.watch(bars=lambda: 3, abandoned_tasks=lambda: 0, connections=lambda: 7)
    assert value(metrics, "keyset_age_seconds", issuer="acme") == 10
    ages["keyset"] = 20.0
    assert value(metrics, "keyset_age_seconds", issuer="acme") == 20
    assert math.isnan(value(metrics, "revocation_feed_age_seconds", issuer="acme") or 0.0)
    assert value(metrics, "revocation_feed_age_seconds", issuer="auth") == 2
    assert [value(metrics, name) for name in ("bars", "abandoned_tasks", "connections")] == [3, 0, 7]


def test_doors_of_one_process_do_not_share_and_a_registry_can_be_given() -> None:
    shared = CollectorRegistry()
    given, own = PrometheusMetrics(shared), PrometheusMetrics()
    given.expiry_grace()
    assert b"doorward_expiry_grace_total 1.0" in generate_latest(shared)
    assert b"doorward_expiry_grace_total 0.0" in generate_latest(own.registry)
