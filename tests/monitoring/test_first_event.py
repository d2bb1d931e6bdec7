"""What an alert waits for is at 0 on a real door's `/metrics` before it happens: what appears at 1 never grew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from tests.monitoring_support import alerts, rules

from doorward.drill.clients import Dialer
from doorward.drill.peers import OURS_TOO
from doorward.drill.results import Kind, Outcome, Phase
from doorward.drill.stand_ins import stand_ins

Labels = frozenset[tuple[str, str]]
Numbers = Mapping[tuple[str, Labels], float]

_CHOSEN = re.compile(r"(doorward_\w+)\{([^}]*)\}")
MISMATCH = (
    "doorward_auth_attempt_duration_seconds_count",
    frozenset({("issuer", "auth"), ("result", "identity_mismatch")}),
)


async def numbers(address: str) -> Numbers:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def chosen() -> set[tuple[str, Labels]]:
    """Each metric with labels that a rule names, and the values that it names."""
    return {
        (name, frozenset(re.findall(r'(\w+)="([^"]+)"', labels)))
        for rule in rules()
        for name, labels in _CHOSEN.findall(rule.expr)
    }


async def test_the_first_event_is_a_step_from_0_to_1(tmp_path: Path) -> None:
    async with stand_ins() as services, OURS_TOO.start(services.upstream(services.auth.url), tmp_path) as url:
        address = url.split("/")[2]
        before = await numbers(address)
        missing = [
            (name, labels)
            for name, labels in chosen()
            if not any(name == shown and labels <= of for shown, of in before)
        ]
        assert not missing

        services.auth.answer_with(200, {"valid": True, "user_id": "eve"})
        dialer = Dialer(url, began=asyncio.get_running_loop().time(), give_up_seconds=20.0)
        sample = await dialer.ask(Phase.FAULT, Kind.JWT, services.auth.issue("ada"))
        after = await numbers(address)

    assert sample.outcome is Outcome.UNAVAILABLE
    assert (before[MISMATCH], after[MISMATCH]) == (0, 1)
    grown = {(name, labels) for (name, labels), value in after.items() if value > before.get((name, labels), 0.0)}
    asked_about = {
        (name, labels) for name, labels in grown if any(name == each and of <= labels for each, of in chosen())
    }
    assert asked_about <= set(before), "everything that the rules count was there before it happened"
    assert any(("verdict", "unavailable") in labels for _, labels in asked_about)


def test_an_alert_on_one_event_asks_for_a_first_one_too() -> None:
    """However a series came, an event must ring: also the one before the first scrape."""
    single = [alert for alert in alerts() if re.search(r"increase\([^()]*\)\)? > 0", alert.expr)]
    assert len(single) >= 9
    for alert in single:
        counted = re.findall(r"increase\(([^()]*)\[5m\]\)", alert.expr)
        assert counted, alert.name
        for each in counted:
            again = rf"{re.escape(each)}(?: > 0)? unless {re.escape(each)} offset 5m"
            assert re.search(again, " ".join(alert.expr.split())), alert.name
