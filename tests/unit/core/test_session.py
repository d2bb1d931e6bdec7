from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from doorward.core.session import Close, Effect, Notify, Phase, Session, SessionPolicy
from doorward.core.verdict import Allow, Assurance, Cause, Code, Deny, Principal, Source, Unavailable

NOW = 1_700_000_000.0
END = NOW + 600
WHO = Principal("ada", "https://auth.example", None, frozenset({"chat", "admin"}), "s1", "j1", NOW, END)
LIVE = Allow(WHO, Assurance.LIVE, Source.REMOTE)
PROVISIONAL = Allow(WHO, Assurance.LOCAL, Source.PATIENCE, provisional=True)
DEGRADED = Allow(WHO, Assurance.LOCAL, Source.FALLBACK, degraded=True, grant_until=NOW + 300)
POLICY = SessionPolicy(privileged_scopes=frozenset({"admin"}))
OUTAGE = Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.DEADLINE)


def session(allow: Allow = LIVE, policy: SessionPolicy = POLICY) -> Session:
    return Session(allow, policy, NOW)


def closing(effects: Sequence[Effect] | Deny) -> Deny | Unavailable:
    assert not isinstance(effects, Deny)
    (effect,) = effects
    assert isinstance(effect, Close)
    return effect.refusal


def notice(effects: Sequence[Effect] | Deny) -> Notify:
    assert not isinstance(effects, Deny)
    (effect,) = effects
    assert isinstance(effect, Notify)
    return effect


def in_grace() -> Session:
    admitted = session()
    admitted.tick(END, outage=True)
    assert admitted.phase is Phase.GRACE
    return admitted


# Expiry


def test_the_client_is_told_a_minute_before_the_end_and_once() -> None:
    admitted = session()

    assert admitted.wake_at == END - 60
    assert admitted.tick(END - 60.1, outage=False) == ()
    assert admitted.tick(END - 60, outage=False) == (Notify("auth.expiring", {"expires_in_ms": 60_000}),)
    assert admitted.tick(END - 30, outage=False) == ()
    assert admitted.wake_at == END


def test_at_its_expiry_the_token_is_expired() -> None:
    admitted = session()

    assert closing(admitted.tick(END, outage=False)) == Deny(Code.TOKEN_EXPIRED, Source.LOCAL)
    assert admitted.phase is Phase.CLOSED
    assert admitted.wake_at is None


def test_a_token_without_expiry_never_ends_by_itself() -> None:
    admitted = session(replace(LIVE, principal=replace(WHO, expires_at=None)))

    assert admitted.ends_at is None
    assert admitted.wake_at is None
    assert admitted.tick(NOW * 2, outage=False) == ()


@pytest.mark.parametrize("late_seconds", [0, 2, 4.9])
def test_who_comes_within_the_leeway_stays_until_it_is_over(late_seconds: float) -> None:
    """The door lets a token in so long after its `exp`, for an issuer whose clock is behind."""
    admitted = Session(LIVE, POLICY, END + late_seconds)

    assert admitted.ends_at == END + 5
    assert notice(admitted.tick(END + late_seconds, outage=False)).notice == "auth.expiring"
    assert admitted.tick(END + 4.99, outage=False) == ()
    assert closing(admitted.tick(END + 5, outage=False)) == Deny(Code.TOKEN_EXPIRED, Source.LOCAL)


def test_a_new_token_within_the_leeway_is_the_same() -> None:
    admitted = session()
    admitted.refreshed(replace(LIVE, principal=replace(WHO, expires_at=END - 1)), END)

    assert admitted.ends_at == END + 4
    admitted.refreshed(replace(LIVE, principal=replace(WHO, expires_at=END + 600)), END + 1)
    assert admitted.ends_at == END + 600


# Outage


@pytest.mark.parametrize("assurance", [Assurance.LIVE, Assurance.CACHED])
def test_in_an_outage_an_expired_connection_stays_for_a_while(assurance: Assurance) -> None:
    admitted = session(replace(LIVE, assurance=assurance))

    assert admitted.tick(END, outage=True) == (Notify("auth.grace", {"until": END + 900}),)
    assert admitted.phase is Phase.GRACE
    assert admitted.graces == 1
    assert admitted.permissions == {"chat"}
    assert admitted.wake_at == END + 900


def test_a_grace_that_runs_out_in_the_outage_is_not_the_tokens_fault() -> None:
    refusal = closing(in_grace().tick(END + 900, outage=True))

    assert refusal == Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.STALE)


def test_after_the_recovery_a_minute_is_left_to_bring_a_new_token() -> None:
    admitted = in_grace()

    assert admitted.recovered(END + 100) == (Notify("auth.expiring", {"expires_in_ms": 60_000}),)
    assert admitted.wake_at == END + 160
    assert admitted.tick(END + 159, outage=False) == ()
    assert closing(admitted.tick(END + 160, outage=False)) == Deny(Code.TOKEN_EXPIRED, Source.LOCAL)


def test_a_recovery_never_makes_the_grace_longer() -> None:
    admitted = in_grace()
    admitted.recovered(END + 880)
    admitted.recovered(END + 890)

    assert admitted.wake_at == END + 900


def test_the_recovery_is_no_news_to_a_connection_that_has_not_run_out() -> None:
    assert session().recovered(NOW) == ()


@pytest.mark.parametrize("allow", [DEGRADED, PROVISIONAL])
def test_who_was_not_let_in_live_gets_no_grace(allow: Allow) -> None:
    assert closing(session(allow).tick(END, outage=True)) == Unavailable(
        Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.STALE
    )


@pytest.mark.parametrize("outage", [True, False])
def test_a_degraded_grant_that_ends_says_nothing_about_the_token(outage: bool) -> None:
    admitted = session(DEGRADED)

    assert admitted.ends_at == NOW + 300
    assert closing(admitted.tick(NOW + 300, outage=outage)) == Unavailable(
        Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.STALE
    )


def test_a_degraded_connection_whose_token_ran_out_after_the_outage_is_told_so() -> None:
    admitted = session(replace(DEGRADED, grant_until=NOW + 9_000))

    assert closing(admitted.tick(END, outage=False)) == Deny(Code.TOKEN_EXPIRED, Source.LOCAL)


def test_a_degraded_connection_has_no_privileged_scope_and_needs_proof() -> None:
    assert session(DEGRADED).permissions == {"chat"}
    assert session(DEGRADED).needs_proof is True
    assert session(PROVISIONAL).permissions == {"chat", "admin"}
    assert session(LIVE).needs_proof is False


# The late answer


def test_a_late_yes_upgrades_in_place() -> None:
    admitted = session(PROVISIONAL)
    live = replace(LIVE, principal=replace(WHO, permissions=frozenset({"chat"}), expires_at=END - 100))

    assert notice(admitted.settled(live)) == Notify(
        "auth.assurance", {"assurance": Assurance.LIVE, "degraded": False, "expires_at": END - 100}
    )
    assert admitted.permissions == {"chat"}
    assert admitted.wake_at == END - 160


@pytest.mark.parametrize("code", [Code.TOKEN_REJECTED, Code.TOKEN_EXPIRED, Code.FORBIDDEN])
def test_a_late_no_is_told_as_a_revocation(code: Code) -> None:
    refusal = closing(session(PROVISIONAL).settled(Deny(code, Source.REMOTE)))

    assert isinstance(refusal, Deny)
    assert refusal.code is Code.TOKEN_REVOKED


def test_no_answer_at_all_is_told_as_that() -> None:
    assert closing(session(PROVISIONAL).settled(OUTAGE)) is OUTAGE


def test_by_the_degraded_rules_it_may_stay() -> None:
    admitted = session(PROVISIONAL)

    assert notice(admitted.settled(DEGRADED)).fields == {
        "assurance": Assurance.LOCAL,
        "degraded": True,
        "expires_at": NOW + 300,
    }
    assert admitted.needs_proof is True


@pytest.mark.parametrize(
    "other", [replace(WHO, user_id="eve"), replace(WHO, session_id="s2"), replace(WHO, issuer="https://evil.example")]
)
def test_an_answer_about_somebody_else_never_changes_who_is_connected(other: Principal) -> None:
    admitted = session(PROVISIONAL)

    assert closing(admitted.settled(replace(LIVE, principal=other))) == Unavailable(
        Code.SERVICE_UNAVAILABLE, Source.REMOTE, Cause.PROTOCOL
    )
    assert admitted.principal == WHO


def test_the_session_of_an_opaque_token_may_become_known_late() -> None:
    admitted = session(replace(LIVE, principal=replace(WHO, session_id=None)))
    admitted.settled(LIVE)

    assert admitted.principal.session_id == "s1"


# Refresh, revocation, drain


def test_a_new_token_of_the_same_session_takes_over() -> None:
    admitted = in_grace()
    renewed = replace(LIVE, principal=replace(WHO, jti="j2", expires_at=END + 600))

    assert notice(admitted.refreshed(renewed, END)).fields["expires_at"] == END + 600
    assert admitted.phase is Phase.ADMITTED
    assert admitted.permissions == {"chat", "admin"}
    assert admitted.wake_at == END + 540


@pytest.mark.parametrize(
    "other",
    [
        replace(WHO, user_id="eve"),
        replace(WHO, session_id="s2"),
        replace(WHO, session_id=None),
        replace(WHO, issuer="https://evil.example"),
    ],
)
def test_a_new_token_of_another_user_or_session_is_refused_and_changes_nothing(other: Principal) -> None:
    admitted = session()
    refused = admitted.refreshed(replace(LIVE, principal=other), NOW)

    assert isinstance(refused, Deny)
    assert refused.code is Code.FORBIDDEN
    assert admitted.principal == WHO
    assert admitted.phase is Phase.ADMITTED


def test_a_revocation_closes_at_once() -> None:
    assert closing(session().revoked()) == Deny(Code.TOKEN_REVOKED, Source.REVOKED)
    assert closing(in_grace().revoked()) == Deny(Code.TOKEN_REVOKED, Source.REVOKED)


def test_draining_tells_when_to_come_back() -> None:
    assert session().draining(1_500) == (Notify("server.draining", {"retry_after_ms": 1_500}),)


def test_nothing_happens_on_a_closed_connection() -> None:
    admitted = session(PROVISIONAL)
    admitted.closed()

    assert admitted.tick(END, outage=False) == ()
    assert admitted.tick(END, outage=True) == ()
    assert admitted.settled(Deny(Code.TOKEN_REJECTED, Source.REMOTE)) == ()
    assert admitted.settled(LIVE) == ()
    assert admitted.refreshed(LIVE, NOW) == ()
    assert admitted.revoked() == ()
    assert admitted.recovered(NOW) == ()
    assert admitted.draining(1) == ()
    assert admitted.needs_proof is False
    assert admitted.allow is PROVISIONAL
