"""The alert rules: each names what exists, is explained, fires when it should and is silent when it should be."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, anchors, read
from tests.monitoring_support import PROMETHEUS, RULE_FILES, Rule, alerts, rules, unknown_in

from doorward import Settings
from doorward.adapters.prometheus import DECISION_BUCKETS, DELAY_BUCKETS

RUNBOOK = "docs/operations/runbook.md"
DOCS_BASE = '{{ or $externalLabels.doorward_docs "docs" }}'
SCENARIOS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERTS = alerts()


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fired_in(file: Path) -> list[set[str]]:
    """What is expected to fire at each moment that is looked at."""
    looks = re.split(r"^ +- eval_time: ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [set(re.findall(r'alertname="(\w+)"', look.partition("\n  - name:")[0])) for look in looks]


@pytest.mark.prometheus
def test_the_rules_and_the_example_are_well_formed() -> None:
    assert "FAILED" not in promtool("check", "rules", *RULE_FILES)
    for example in ("prometheus.yml", "drill.yml"):
        promtool("check", "config", PROMETHEUS / example)


@pytest.mark.prometheus
@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_alerts_fire_and_do_not_fire(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)


@pytest.mark.prometheus
def test_a_wrong_expectation_is_found(tmp_path: Path) -> None:
    for file in RULE_FILES:
        (tmp_path / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    wrong = tmp_path / "tests" / "wrong.yml"
    wrong.parent.mkdir()
    text = (PROMETHEUS / "tests" / "promises.yml").read_text(encoding="utf-8")
    assert text.count("316+15x60") == 1
    wrong.write_text(text.replace("316+15x60", "315+15x60"), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", wrong], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "DoorwardDecisionOver5s" in done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_is_seen_firing_and_not_firing(alert: Rule) -> None:
    moments = [moment for file in SCENARIOS for moment in fired_in(file)]
    assert any(alert.name in moment for moment in moments)
    assert any(alert.name not in moment for moment in moments)


def test_nothing_is_expected_to_fire_that_does_not_exist() -> None:
    expected = {name for file in SCENARIOS for moment in fired_in(file) for name in moment}
    assert expected == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_each_rule_names_what_exists(rule: Rule) -> None:
    assert unknown_in(rule.expr) == []
    assert "doorward" in rule.expr


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("rate(doorward_decision_total[5m])", ["doorward_decision_total"]),
        ('doorward_decisions_total{user="ada"}', ["doorward_decisions_total{user}"]),
        ("doorward:made_up > 0", ["doorward:made_up"]),
        ("doorward_decision_duration_seconds", ["doorward_decision_duration_seconds"]),
        ('doorward_decisions_total{reason!~"stale|x=y", job="a"}', []),
    ],
)
def test_a_name_that_nobody_shows_is_found(query: str, unknown: list[str]) -> None:
    assert unknown_in(query) == unknown


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_says_what_it_means_and_what_to_do(alert: Rule) -> None:
    assert re.search(r"severity: (page|ticket)\b", alert.text)
    assert alert.field("summary")
    assert alert.field("description")
    link = alert.field("runbook_url") or ""
    page, _, anchor = link.partition("#")
    assert page.replace(DOCS_BASE, "docs") == RUNBOOK, "under the docs of whoever runs it, not at an address of ours"
    assert anchor in anchors(ROOT / RUNBOOK)


def test_where_the_runbook_is_can_be_said_as_its_page_says(tmp_path: Path) -> None:
    shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
    commands = [line for line in read(RUNBOOK).splitlines() if line.startswith("sed ")]
    assert len(commands) == 1
    subprocess.run(commands[0], shell=True, check=True, cwd=tmp_path, timeout=30)
    links = re.findall(r"runbook_url: '(.*)'", (tmp_path / "alerts.yml").read_text(encoding="utf-8"))
    assert len(links) == len(ALERTS)
    assert {link.partition("#")[0] for link in links} == {f"https://git.example.com/doorward/{RUNBOOK}"}


def test_each_entry_of_the_runbook_says_what_to_do_and_how_to_know() -> None:
    entries = re.findall(r"^### `(\w+)`\n(.*?)(?=^#{2,3} |\Z)", read(RUNBOOK), re.MULTILINE | re.DOTALL)
    assert sorted(name for name, _ in entries) == sorted(alert.name for alert in ALERTS)
    for name, text in entries:
        assert re.findall(r"^\*\*(\w[\w ]+)\.\*\*", text, re.MULTILINE) == ["Check", "Do", "Healed when"], name


def test_the_bounds_in_the_rules_are_the_real_ones() -> None:
    """A bucket that does not exist makes a rule silent for ever; a bound that is not ours makes it ring too late."""
    settings = Settings()
    bounds = {
        float(bound) for rule in rules() for bound in re.findall(r'decision_duration\w+\{le="([\d.]+)"', rule.expr)
    }
    assert bounds == {0.25, 5.0}
    assert bounds <= {float(bound) for bound in DECISION_BUCKETS}
    assert 0.1 in DELAY_BUCKETS
    by_name = {alert.name: alert.expr for alert in ALERTS}
    limit = re.search(r"> (\d+)", by_name["DoorwardAbandonedCalls"])
    assert limit is not None
    assert int(limit[1]) == settings.limits.abandoned / 2
    assert str(int(settings.degrade.max_feed_age_seconds)) in by_name["DoorwardRevocationFeedOld"]
    assert settings.degrade.max_keyset_age_seconds - 18 * 3600 == 6 * 3600
    assert "> 64800" in by_name["DoorwardKeySetExpiring"]
