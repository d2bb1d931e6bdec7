from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from doorward.core.decisions import CachePolicy, TokenKey, VerdictCache
from doorward.core.verdict import Principal

# More tokens than the cache has room for.
keys = st.sampled_from([TokenKey(name) for name in (b"a", b"b", b"c", b"d")])
EPOCH = 1_700_000_000.0


class AnyTraffic(RuleBasedStateMachine):
    """The cache against a plain record of what was last said of each token."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.skew = 0.0
        self.cache = VerdictCache(CachePolicy(positive_entries=2, negative_entries=2))
        self.said: dict[TokenKey, tuple[Principal, float, float | None] | float] = {}

    @property
    def wall(self) -> float:
        return EPOCH + self.now + self.skew

    @rule(seconds=st.floats(0, 90))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.floats(0, 600))
    def wall_clock_jumps_ahead(self, seconds: float) -> None:
        self.skew += seconds

    @rule(key=keys, life=st.none() | st.floats(-10, 600), hint=st.none() | st.floats(0, 600))
    def valid(self, key: TokenKey, life: float | None, hint: float | None) -> None:
        who = Principal(f"user of {key.shown}", "i", expires_at=None if life is None else self.wall + life)
        self.cache.put_valid(key, who, now=self.now, wall_now=self.wall, hint_seconds=hint)
        self.said[key] = (who, self.now, hint)

    @rule(key=keys)
    def invalid(self, key: TokenKey) -> None:
        self.cache.put_invalid(key, now=self.now)
        self.said[key] = self.now

    @rule(key=keys)
    def look(self, key: TokenKey) -> None:
        said = self.said.get(key)
        known = self.cache.known(key)
        if known is not None:
            assert isinstance(said, tuple), "known, although the last word was no, or there was none"
            assert known.principal is said[0], "an entry of another token"
        if known is not None and known.is_fresh(self.now, self.wall):
            assert isinstance(said, tuple)
            who, at, hint = said
            assert self.now - at <= min(60.0, 60.0 if hint is None else hint) + 1e-6
            assert who.expires_at is None or self.wall < who.expires_at
        if self.cache.is_rejected(key, self.now):
            assert isinstance(said, float)
            assert self.now - said <= 5.0 + 1e-6

    @rule(key=keys)
    def refresh_is_claimed_once_a_period(self, key: TokenKey) -> None:
        entry = self.cache.known(key)
        fresh = entry is not None and entry.is_fresh(self.now, self.wall)
        if entry is not None and fresh and self.cache.claim_refresh(entry, self.now):
            assert not self.cache.claim_refresh(entry, self.now)

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.cache._valid) <= 2
        assert len(self.cache._invalid) <= 2


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
