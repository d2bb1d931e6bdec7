from __future__ import annotations

import pytest

from doorward.core.limits import Lane
from doorward.core.revocation import Bars, RevocationSet
from doorward.core.verdict import Principal

NOW = 1_700_000_000.0
LATER = NOW + 3_600


def who(
    user: str = "ada", *, jti: str | None = "j1", session: str | None = "s1", issued_at: float | None = NOW
) -> Principal:
    return Principal(user, "https://auth.example", session_id=session, jti=jti, issued_at=issued_at)


def test_a_token_is_revoked_by_its_id_or_its_session() -> None:
    revoked = RevocationSet()
    revoked.revoke_jti("j1", LATER)
    revoked.revoke_session("s2", LATER)

    assert revoked.is_revoked(who(jti="j1", session=None)) is True
    assert revoked.is_revoked(who(jti=None, session="s2")) is True
    assert revoked.is_revoked(who(jti="j2", session="s1")) is False
    assert revoked.is_revoked(who(jti=None, session=None)) is False
    assert len(revoked) == 2


def test_a_user_is_revoked_up_to_a_moment() -> None:
    revoked = RevocationSet()
    revoked.revoke_user("ada", NOW, LATER)

    assert [revoked.is_revoked(who(issued_at=at)) for at in (NOW - 1, NOW, NOW + 0.001)] == [True, True, False]
    assert revoked.is_revoked(who("eve", issued_at=NOW - 1)) is False


@pytest.mark.parametrize(("good_at", "expected"), [(None, True), (NOW, True), (NOW + 1, False)])
def test_for_a_token_without_a_date_the_last_live_yes_stands_in(good_at: float | None, expected: bool) -> None:
    revoked = RevocationSet()
    revoked.revoke_user("ada", NOW, LATER)

    assert revoked.is_revoked(who(issued_at=None), good_at) is expected


def test_a_late_yes_does_not_make_an_old_token_new() -> None:
    revoked = RevocationSet()
    revoked.revoke_user("ada", NOW, LATER)

    assert revoked.is_revoked(who(issued_at=NOW - 1), NOW + 100) is True


def test_items_in_any_order_leave_the_strictest() -> None:
    revoked = RevocationSet()
    for moment, forget_at in [(NOW, LATER), (NOW - 50, LATER + 50)]:
        revoked.revoke_user("ada", moment, forget_at)
        revoked.revoke_jti("j9", forget_at)
        revoked.revoke_session("s9", forget_at)
    revoked.revoke_jti("j9", NOW)
    revoked.revoke_session("s9", NOW)
    revoked.forget(LATER)

    assert revoked.is_revoked(who(jti=None, session=None, issued_at=NOW)) is True
    assert revoked.is_revoked(who("eve", jti="j9")) is True
    assert revoked.is_revoked(who("eve", session="s9")) is True


def test_each_kind_is_forgotten_in_its_time() -> None:
    revoked = RevocationSet()
    revoked.revoke_jti("j1", NOW + 1)
    revoked.revoke_session("s1", NOW + 2)
    revoked.revoke_user("ada", NOW, NOW + 3)

    counts = []
    for second in range(4):
        revoked.forget(NOW + second)
        counts.append(len(revoked))
    assert counts == [3, 2, 1, 0]
    assert revoked.is_revoked(who()) is False


def test_a_bar_holds_until_its_time() -> None:
    bars = Bars()
    assert bars.add(b"a", LATER, Lane.PROVEN) is True

    assert [bars.holds(b"a", now) for now in (NOW, LATER - 0.001, LATER)] == [True, True, False]
    assert bars.holds(b"b", NOW) is False


def test_only_a_live_yes_lifts_a_bar() -> None:
    bars = Bars()
    bars.add(b"a", LATER, Lane.PROVEN)

    assert [bars.lift(b"a"), bars.lift(b"a")] == [True, False]
    assert bars.holds(b"a", NOW) is False
    assert len(bars) == 0


def test_a_bar_laid_again_counts_once_and_takes_the_new_time() -> None:
    bars = Bars(capacity=1)
    assert bars.add(b"a", NOW + 1, Lane.UNPROVEN) is True
    assert bars.add(b"a", LATER, Lane.PROVEN) is True

    assert bars.holds(b"a", NOW + 2) is True
    assert len(bars) == 1
    assert bars.add(b"b", LATER, Lane.UNPROVEN) is True
    assert bars.add(b"c", LATER, Lane.PROVEN) is False


def test_a_lane_that_overflowed_is_incomplete_until_what_it_missed_has_run_out() -> None:
    bars = Bars(capacity=1)
    assert bars.complete(Lane.UNPROVEN, NOW) is True
    bars.add(b"a", LATER, Lane.UNPROVEN)
    assert bars.add(b"b", NOW + 10, Lane.UNPROVEN) is False
    assert bars.add(b"c", NOW + 5, Lane.UNPROVEN) is False

    assert [bars.complete(Lane.UNPROVEN, now) for now in (NOW, NOW + 9.9, NOW + 10)] == [False, False, True]


def test_a_stranger_cannot_fill_the_lane_of_the_proven() -> None:
    bars = Bars(capacity=2)
    for number in range(10):
        bars.add(f"stranger-{number}".encode(), LATER, Lane.UNPROVEN)

    assert bars.complete(Lane.PROVEN, NOW) is True
    assert bars.add(b"known", LATER, Lane.PROVEN) is True


def test_bars_that_ran_out_make_room() -> None:
    bars = Bars(capacity=1)
    bars.add(b"a", NOW, Lane.PROVEN)
    bars.forget(NOW)

    assert len(bars) == 0
    assert bars.add(b"b", LATER, Lane.PROVEN) is True
    bars.forget(NOW)
    assert bars.holds(b"b", NOW) is True
