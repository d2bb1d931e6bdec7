from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from doorward.core.decisions import CachePolicy, TokenKey, VerdictCache
from doorward.core.degrade import DegradePolicy, Grant, Mode, Proof, Refusal, Surroundings, admit
from doorward.core.limits import Lane
from doorward.core.revocation import Bars
from doorward.core.verdict import Assurance, Principal

NOW = 1_700_000_000.0

moments = st.floats(-7_200, 7_200).map(lambda seconds: NOW + seconds)
policies = st.builds(
    DegradePolicy,
    mode=st.none() | st.sampled_from(Mode),
    max_token_age_seconds=st.floats(1, 7_200),
    max_stale_seconds=st.floats(0, 7_200),
    max_keyset_age_seconds=st.floats(1, 100_000),
    max_feed_age_seconds=st.floats(1, 1_000),
    max_outage_seconds=st.floats(1, 7_200),
    grant_seconds=st.floats(1, 7_200),
)
surroundings = st.builds(
    Surroundings,
    last_contact=st.none() | moments,
    last_feed=st.none() | moments,
    keyset_age_seconds=st.none() | st.floats(0, 200_000),
    route_allows=st.booleans(),
    bars_complete=st.booleans(),
)
proofs = st.builds(
    Proof,
    verified=st.booleans(),
    issued_at=st.none() | moments,
    expires_at=st.none() | moments,
    validated_at=st.none() | moments,
    barred=st.booleans(),
)


@given(policies, surroundings, proofs)
@settings(max_examples=1_000, deadline=None)
def test_a_grant_always_rests_on_proof(policy: DegradePolicy, around: Surroundings, proof: Proof) -> None:
    granted = admit(policy, around, proof, NOW)
    if isinstance(granted, Refusal):
        return
    assert not proof.barred
    assert policy.mode is not Mode.DENY
    assert around.route_allows
    assert around.bars_complete
    assert around.last_contact is not None
    assert 0 <= NOW - around.last_contact < policy.max_outage_seconds
    assert proof.expires_at is None or proof.expires_at > NOW
    recently_validated = proof.validated_at is not None and NOW - policy.max_stale_seconds <= proof.validated_at <= NOW
    locally_proven = proof.verified and proof.issued_at is not None
    assert recently_validated or locally_proven
    if granted.assurance is Assurance.LOCAL:
        assert policy.mode is Mode.LOCAL_JWT or around.last_feed is not None
    assert NOW < granted.until <= NOW + policy.grant_seconds
    assert proof.expires_at is None or granted.until <= proof.expires_at


TOKENS = {
    "jwt": (Lane.PROVEN, True, 600.0),
    "old jwt": (Lane.PROVEN, True, -60.0),
    "opaque": (Lane.UNPROVEN, False, None),
    "other opaque": (Lane.UNPROVEN, False, 1_200.0),
}


class AnyHistory(RuleBasedStateMachine):
    """Tokens are judged live, time passes, the process restarts; then nobody can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.cache = VerdictCache(CachePolicy(positive_entries=2))
        self.bars = Bars(capacity=1)
        self.contact: float | None = None
        self.said: dict[str, tuple[bool, float]] = {}
        self.started = 0.0

    @property
    def wall(self) -> float:
        return NOW + self.now

    @rule(seconds=st.floats(0, 900))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from(sorted(TOKENS)), valid=st.booleans())
    def asked_live(self, name: str, valid: bool) -> None:
        lane, _, life = TOKENS[name]
        expires_at = None if life is None else NOW + life
        if valid:
            who = Principal(name, "i", expires_at=expires_at)
            self.cache.put_valid(key_of(name), who, now=self.now, wall_now=self.wall, hint_seconds=None)
            self.bars.lift(name.encode())
        else:
            self.cache.put_invalid(key_of(name), now=self.now)
            self.bars.add(name.encode(), expires_at if expires_at is not None else self.wall + 3_600, lane)
        self.contact = self.wall
        self.said[name] = (valid, self.wall)

    @rule()
    def restarted(self) -> None:
        """Bars and the last contact survive; verdicts do not."""
        self.cache = VerdictCache(CachePolicy(positive_entries=2))
        self.bars.forget(self.wall)
        self.started = self.wall

    @invariant()
    def nobody_gets_in_without_proof(self) -> None:
        for name in TOKENS:
            if not isinstance(self.judged(name), Grant):
                continue
            valid, at = self.said.get(name, (None, 0.0))
            verified, life = TOKENS[name][1:]
            assert valid is not False or self.wall - at >= 3_600, "refused live, and let in"
            assert life is None or self.wall < NOW + life, "expired, and let in"
            assert verified or (valid and self.wall - at <= 1_800 and at >= self.started), "let in on nothing"
            assert self.contact is not None
            assert self.wall - self.contact < 1_800

    def judged(self, name: str) -> Grant | Refusal:
        lane, verified, life = TOKENS[name]
        entry = self.cache.known(key_of(name))
        proof = Proof(
            verified=verified,
            issued_at=NOW - 60 if verified else None,
            expires_at=None if life is None else NOW + life,
            validated_at=entry.validated_at if entry is not None else None,
            barred=self.bars.holds(name.encode(), self.wall),
        )
        around = Surroundings(
            last_contact=self.contact,
            last_feed=self.contact,
            keyset_age_seconds=60.0,
            bars_complete=self.bars.complete(lane, self.wall),
        )
        return admit(DegradePolicy(), around, proof, self.wall)


def key_of(name: str) -> TokenKey:
    return TokenKey(name.encode())


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
