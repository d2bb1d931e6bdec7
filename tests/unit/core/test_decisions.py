from __future__ import annotations

from dataclasses import replace

import pytest

from doorward.core.decisions import CachePolicy, TokenKey, VerdictCache
from doorward.core.verdict import Allow, Assurance, Principal, Source

WALL = 1_700_000_000.0
WHO = Principal("ada", "https://auth.example", expires_at=WALL + 600)
KEY = TokenKey(b"ada" * 8)


def cached(who: Principal = WHO, *, hint: float | None = None, policy: CachePolicy | None = None) -> VerdictCache:
    cache = VerdictCache(policy or CachePolicy())
    cache.put_valid(KEY, who, now=0.0, wall_now=WALL, hint_seconds=hint)
    return cache


def is_fresh(cache: VerdictCache, now: float, wall: float) -> bool:
    entry = cache.known(KEY)
    return entry is not None and entry.is_fresh(now, wall)


def fresh_for(cache: VerdictCache, wall: float = WALL) -> list[float]:
    """The seconds, of those asked, at which the entry was fresh."""
    return [now for now in (0.0, 4.9, 5.0, 29.9, 30.0, 59.9, 60.0) if is_fresh(cache, now, wall + now)]


def test_a_verdict_is_fresh_for_a_minute() -> None:
    assert fresh_for(cached()) == [0.0, 4.9, 5.0, 29.9, 30.0, 59.9]


def test_the_services_hint_makes_it_shorter_but_never_longer() -> None:
    assert fresh_for(cached(hint=5.0)) == [0.0, 4.9]
    assert fresh_for(cached(hint=0.0)) == []
    assert fresh_for(cached(hint=9_999.0)) == fresh_for(cached())


def test_the_tokens_expiry_makes_it_shorter() -> None:
    assert fresh_for(cached(replace(WHO, expires_at=WALL + 30))) == [0.0, 4.9, 5.0, 29.9]
    assert fresh_for(cached(replace(WHO, expires_at=WALL - 1))) == []
    assert fresh_for(cached(replace(WHO, expires_at=None))) == fresh_for(cached())


def test_a_wall_clock_that_jumps_past_the_expiry_ends_freshness() -> None:
    assert not is_fresh(cached(), 1.0, WALL + 600)


def test_a_stale_entry_stays_known_with_its_age() -> None:
    entry = cached().known(KEY)

    assert entry is not None
    assert (entry.principal, entry.validated_at) == (WHO, WALL)


def test_all_who_come_in_with_it_share_one_verdict() -> None:
    entry = cached().known(KEY)

    assert entry is not None
    assert entry.admission == Allow(WHO, Assurance.CACHED, Source.CACHE)


def test_a_no_is_remembered_for_five_seconds_and_drops_the_yes() -> None:
    cache = cached()
    cache.put_invalid(KEY, now=10.0)

    assert cache.known(KEY) is None
    assert [cache.is_rejected(KEY, now) for now in (10.0, 14.9, 15.0)] == [True, True, False]


def test_a_yes_drops_the_no() -> None:
    cache = VerdictCache(CachePolicy())
    cache.put_invalid(KEY, now=0.0)
    cache.put_valid(KEY, WHO, now=1.0, wall_now=WALL, hint_seconds=None)

    assert cache.is_rejected(KEY, 1.0) is False
    assert is_fresh(cache, 1.0, WALL)


def test_one_caller_a_period_refreshes_ahead() -> None:
    cache = cached()
    entry = cache.known(KEY)
    assert entry is not None

    assert [cache.claim_refresh(entry, now) for now in (0.0, 47.9, 48.0, 48.1, 59.9)] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_strangers_cannot_push_good_verdicts_out() -> None:
    cache = cached(policy=CachePolicy(negative_entries=2))
    strangers = [TokenKey(f"stranger {number}".encode()) for number in range(3)]
    for stranger in strangers:
        cache.put_invalid(stranger, now=0.0)

    assert cache.known(KEY) is not None
    assert [cache.is_rejected(stranger, 0.0) for stranger in strangers] == [False, True, True]


def test_the_least_recently_used_verdict_goes_first() -> None:
    cache = cached(policy=CachePolicy(positive_entries=1))
    other = TokenKey(b"bea" * 8)
    cache.put_valid(other, WHO, now=0.0, wall_now=WALL, hint_seconds=None)

    assert cache.known(KEY) is None
    assert cache.known(other) is not None


@pytest.mark.parametrize("digest", [b"\x00" * 32, b"\xff" * 32])
def test_the_short_form_is_a_part_of_the_digest(digest: bytes) -> None:
    assert TokenKey(digest).shown == digest[:6].hex()
