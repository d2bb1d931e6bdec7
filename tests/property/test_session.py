from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from doorward.core.session import Close, Effect, Notify, Phase, Session, SessionPolicy
from doorward.core.verdict import Action, Allow, Assurance, Cause, Code, Deny, Principal, Source, Unavailable, row_of

START = 1_700_000_000.0
WHO = Principal("ada", "https://auth.example", None, frozenset({"chat", "admin"}), "s1", "j1", START, START)
seconds = st.floats(0, 2_000)


def allows(wall: float) -> st.SearchStrategy[Allow]:
    """Every kind of admission that the pipeline can make at this time, of this user."""
    principals = st.builds(replace, st.just(WHO), expires_at=st.none() | st.floats(-4.9, 3_600).map(lambda s: wall + s))
    grants = st.floats(1, 900).map(lambda s: wall + s)
    return st.one_of(
        st.builds(Allow, principals, st.just(Assurance.LIVE), st.just(Source.REMOTE)),
        st.builds(Allow, principals, st.just(Assurance.CACHED), st.just(Source.CACHE)),
        st.builds(Allow, principals, st.just(Assurance.LOCAL), st.just(Source.PATIENCE), provisional=st.just(True)),
        st.builds(
            Allow,
            principals,
            st.sampled_from([Assurance.LOCAL, Assurance.CACHED]),
            st.just(Source.FALLBACK),
            degraded=st.just(True),
            grant_until=grants,
        ),
    )


class AnyLife(RuleBasedStateMachine):
    @initialize(
        data=st.data(),
        policy=st.builds(
            SessionPolicy,
            expiring_notice_seconds=st.floats(0, 120),
            expiry_grace_seconds=st.floats(0, 1_800),
            privileged_scopes=st.just(frozenset({"admin"})),
        ),
    )
    def begin(self, data: st.DataObject, policy: SessionPolicy) -> None:
        self.wall = START
        self.outage = False
        self.grace_since = 0.0
        self.closed: Close | None = None
        self.session = Session(data.draw(allows(self.wall)), policy, self.wall)
        self.proven_until = self.session.ends_at

    @rule(after=seconds)
    def wait(self, after: float) -> None:
        self.wall += after

    @rule()
    def the_service_goes(self) -> None:
        self.outage = True

    @rule()
    def the_service_comes_back(self) -> None:
        self.outage = False
        self.took(self.session.recovered(self.wall))

    @rule()
    def tick(self) -> None:
        live = not (self.session.allow.degraded or self.session.allow.provisional)
        effects = self.session.tick(self.wall, outage=self.outage)
        if self.outage and live:
            assert not any(isinstance(effect, Close) and isinstance(effect.refusal, Deny) for effect in effects)
        self.took(effects)

    @rule()
    def the_clock_reaches_wake_at(self) -> None:
        """What the shell does: sleep until `wake_at`, and ask. It must not spin."""
        for _ in range(6):
            due = self.session.wake_at
            if due is None:
                return
            self.wall = max(self.wall, due)
            self.took(self.session.tick(self.wall, outage=self.outage))
            later = self.session.wake_at
            assert later is None or later >= due
        assert self.session.phase is Phase.CLOSED

    @rule(data=st.data())
    def settled_well(self, data: st.DataObject) -> None:
        allow = data.draw(allows(self.wall))
        if self.took(self.session.settled(allow)):
            self.proven_until = self.session.ends_at

    @rule(code=st.sampled_from([Code.TOKEN_REJECTED, Code.TOKEN_EXPIRED, Code.TOKEN_REVOKED, Code.FORBIDDEN]))
    def settled_badly(self, code: Code) -> None:
        self.took(self.session.settled(Deny(code, Source.REMOTE)))
        assert self.session.phase is Phase.CLOSED

    @rule(cause=st.sampled_from(Cause))
    def settled_by_nobody(self, cause: Cause) -> None:
        refusal = Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, cause)
        effects = self.session.settled(refusal)
        self.took(effects)
        assert all(isinstance(effect, Close) and effect.refusal is refusal for effect in effects)

    @rule(data=st.data(), other=st.sampled_from([replace(WHO, user_id="eve"), replace(WHO, session_id="s2")]))
    def somebody_else(self, data: st.DataObject, other: Principal) -> None:
        allow = replace(data.draw(allows(self.wall)), principal=other)
        if data.draw(st.booleans()):
            self.took(self.session.settled(allow))
        else:
            assert isinstance(self.session.refreshed(allow, self.wall), Deny)

    @rule(data=st.data())
    def refreshed(self, data: st.DataObject) -> None:
        effects = self.session.refreshed(data.draw(allows(self.wall)), self.wall)
        assert not isinstance(effects, Deny)
        if self.took(effects):
            self.proven_until = self.session.ends_at

    @rule()
    def revoked(self) -> None:
        self.took(self.session.revoked())
        assert self.session.phase is Phase.CLOSED

    @rule()
    def the_client_goes(self) -> None:
        self.session.closed()
        self.closed = self.closed or Close(Deny(Code.TOKEN_EXPIRED, Source.LOCAL))

    @rule()
    def draining(self) -> None:
        self.took(self.session.draining(1_000))

    def took(self, effects: Sequence[Effect]) -> bool:
        """Check what every effect must obey. True if the connection was admitted anew."""
        if self.closed is not None:
            assert effects == (), "an effect after the end"
        for effect in effects:
            if isinstance(effect, Close):
                assert effect is effects[-1]
                self.closed = effect
                said = row_of(effect.refusal)
                assert said.action is (Action.RETRY if isinstance(effect.refusal, Unavailable) else Action.SIGN_IN)
            elif effect.notice == "auth.grace":
                self.grace_since = self.wall
            elif "expires_in_ms" in effect.fields:
                assert effect.fields["expires_in_ms"] >= 0
        return any(isinstance(effect, Notify) and effect.notice == "auth.assurance" for effect in effects)

    @invariant()
    def the_same_person_stays(self) -> None:
        principal = self.session.principal
        assert (principal.issuer, principal.user_id, principal.session_id) == (WHO.issuer, WHO.user_id, WHO.session_id)

    @invariant()
    def no_privilege_without_full_proof(self) -> None:
        if self.session.allow.degraded or self.session.phase is Phase.GRACE:
            assert self.session.permissions == {"chat"}

    @invariant()
    def nothing_outlives_its_proof_by_more_than_the_grace(self) -> None:
        if self.session.phase is Phase.ADMITTED:
            assert self.session.ends_at == self.proven_until
        elif self.session.phase is Phase.GRACE:
            assert self.session.ends_at is not None
            assert self.session.ends_at <= self.grace_since + self.session.policy.expiry_grace_seconds

    @invariant()
    def only_the_live_have_a_grace(self) -> None:
        if self.session.phase is Phase.GRACE:
            assert self.session.needs_proof is False
            assert self.session.allow.provisional is False


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
