from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from doorward.core.incomplete import Incomplete


def test_below_the_limit_nobody_goes() -> None:
    incomplete: Incomplete[int] = Incomplete(3)

    assert [incomplete.enter(key, "a") for key in range(3)] == [None, None, None]
    assert len(incomplete) == 3


def test_the_oldest_of_the_largest_holder_goes() -> None:
    incomplete: Incomplete[str] = Incomplete(4)
    for key, address in [("honest", "h"), ("first", "crowd"), ("second", "crowd"), ("third", "crowd")]:
        incomplete.enter(key, address)

    assert incomplete.enter("new", "n") == "first"
    assert incomplete.enter("newer", "m") == "second"
    assert incomplete.held_by("crowd") == 1
    assert incomplete.held_by("h") == 1


def test_the_crowd_pays_for_its_own_next_one() -> None:
    incomplete: Incomplete[str] = Incomplete(2)
    incomplete.enter("honest", "h")
    incomplete.enter("first", "crowd")

    assert incomplete.enter("second", "crowd") == "first"
    assert incomplete.held_by("h") == 1


def test_where_all_hold_one_the_newest_stays() -> None:
    incomplete: Incomplete[int] = Incomplete(3)
    for key in range(3):
        incomplete.enter(key, str(key))

    assert incomplete.enter(3, "3") == 0
    assert incomplete.enter(4, "4") == 1


def test_leaving_twice_is_harmless() -> None:
    incomplete: Incomplete[str] = Incomplete(1)
    incomplete.enter("a", "x")

    assert "a" in incomplete
    assert incomplete.leave("a") is True
    assert "a" not in incomplete
    assert incomplete.leave("a") is False
    assert len(incomplete) == 0
    assert incomplete.enter("b", "x") is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=120), st.integers(1, 6))
def test_any_history_keeps_the_books(history: list[tuple[bool, int]], limit: int) -> None:
    incomplete: Incomplete[int] = Incomplete(limit)
    present: dict[int, str] = {}
    for key, (enters, address) in enumerate(history):
        if enters:
            counts = Counter([*present.values(), str(address)])
            victim = incomplete.enter(key, str(address))
            present[key] = str(address)
            if victim is None:
                assert len(present) <= limit
            else:
                assert victim != key
                assert counts[present[victim]] == max(counts.values())
                assert victim == min(other for other in present if present[other] == present[victim])
                del present[victim]
        elif present:
            key = sorted(present)[address % len(present)]
            assert incomplete.leave(key)
            del present[key]
        assert len(incomplete) == len(present) <= limit
        assert all(incomplete.held_by(str(a)) == list(present.values()).count(str(a)) for a in range(6))
