"""What comes after a line that was lost."""

from __future__ import annotations

import pytest

from doorward.client import Timing
from doorward.client.meaning import Reason
from doorward.client.persistence import Again, GiveUp, Persistence
from doorward.core.verdict import Action

LOST = Reason("CONNECTION_LOST", Action.RETRY)
REFUSED = Reason("TOKEN_EXPIRED", Action.SIGN_IN)


def waits(*reasons: Reason, uniform: float = 1.0, lasted: float | None = None) -> list[float]:
    persistence = Persistence(Timing())
    decisions = [persistence.lost(reason, lasted_seconds=lasted, uniform=uniform) for reason in reasons]
    return [decision.wait_seconds for decision in decisions if isinstance(decision, Again)]


def test_the_ceiling_doubles_and_has_a_cap() -> None:
    assert waits(*[LOST] * 9) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert waits(*[LOST] * 3, uniform=0.0) == [0.0, 0.0, 0.0]


def test_never_before_the_server_allows_it() -> None:
    later = Reason("OVERLOADED", Action.RETRY, retry_after_seconds=7.0)
    assert Persistence(Timing()).lost(later, lasted_seconds=None, uniform=0.0) == Again(7.0, 7.0)


def test_a_refused_token_is_replaced_at_once_and_then_ever_more_slowly() -> None:
    assert waits(REFUSED, REFUSED, REFUSED) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("lasted", "expected"), [(9.9, [0.5, 1.0, 2.0]), (10.0, [0.5, 0.5, 0.5])])
def test_only_a_connection_that_lasted_wipes_the_count(lasted: float, expected: list[float]) -> None:
    assert waits(LOST, LOST, LOST, lasted=lasted) == expected


def test_a_refusal_after_a_good_while_is_a_first_one_again() -> None:
    persistence = Persistence(Timing())
    for _ in range(3):
        assert persistence.lost(REFUSED, lasted_seconds=600.0, uniform=1.0) == Again(0.0)


def test_stop_is_the_end_but_for_a_404_where_there_was_a_chat() -> None:
    missing = Reason("HTTP_404", Action.STOP)
    assert Persistence(Timing()).lost(missing, lasted_seconds=None, uniform=1.0) == GiveUp()
    persistence = Persistence(Timing())
    persistence.lost(LOST, lasted_seconds=1.0, uniform=1.0)
    assert isinstance(persistence.lost(missing, lasted_seconds=None, uniform=1.0), Again)
    assert persistence.lost(Reason("FORBIDDEN", Action.STOP), lasted_seconds=None, uniform=1.0) == GiveUp()
