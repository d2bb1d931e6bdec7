"""Advice on when to come back: who counts as one of a crowd, and who does not."""

from __future__ import annotations

import pytest

from doorward.asgi.denial import Denier
from doorward.core.verdict import Cause, Code, Deny, Source, Unavailable
from doorward.testing import ManualClock

RESTARTING = Unavailable(Code.RESTARTING, Source.DRAIN)
DOWN = Unavailable(Code.SERVICE_UNAVAILABLE, Source.REMOTE, Cause.UPSTREAM)
TOO_MANY = Unavailable(Code.RATE_LIMITED, Source.ADMIT)
FULL = Unavailable(Code.OVERLOADED, Source.ADMIT)
CROWD = 1_000


@pytest.fixture
def denier() -> Denier:
    return Denier(
        clock=ManualClock(),
        uniform=lambda: 0.999,
        style="iana",
        mode="auto",
        max_lingering=128,
        reconnect_rate_per_second=100.0,
    )


def wait_seconds(denier: Denier) -> float:
    """What somebody else is told: row minimum and nearly the whole width."""
    waits = denier.refusal(RESTARTING, "id").retry_after_ms
    assert waits is not None
    return waits / 1000


@pytest.mark.parametrize("refused", [DOWN, FULL])
def test_who_is_sent_away_and_comes_back_is_one_of_a_crowd(denier: Denier, refused: Unavailable) -> None:
    for _ in range(CROWD):
        denier.refusal(refused, "id")
    assert wait_seconds(denier) > 9


@pytest.mark.parametrize("refused", [TOO_MANY, Deny(Code.TOKEN_EXPIRED, Source.LOCAL)])
def test_one_address_that_asks_too_often_is_no_crowd(denier: Denier, refused: Deny | Unavailable) -> None:
    """Else it would send everybody else away for minutes."""
    for _ in range(CROWD):
        denier.refusal(refused, "id")
    assert wait_seconds(denier) <= 5


def test_who_stays_connected_does_not_come_back(denier: Denier) -> None:
    for _ in range(CROWD):
        denier.refusal(DOWN, "id", stays=True)
    assert wait_seconds(denier) <= 5
