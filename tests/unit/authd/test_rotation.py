"""Every case of refresh token rotation, without a store."""

from __future__ import annotations

import pytest

from doorward.authd.rotation import Outcome, Presented, decide, digest_of, successor_of

NOW = 1_750_000_000.0
OVERLAP = 30.0


def used(seconds_ago: float, *, successor_used: bool = False, derivable: bool = True) -> Presented:
    return Presented(
        expires_at=NOW + 1000,
        session_revoked=False,
        used_at=NOW - seconds_ago,
        successor_used=successor_used,
        derivable=derivable,
    )


@pytest.mark.parametrize(
    ("presented", "outcome"),
    [
        (None, Outcome.INVALID),
        (Presented(expires_at=NOW + 1, session_revoked=False), Outcome.ROTATE),
        (Presented(expires_at=NOW, session_revoked=False), Outcome.INVALID),
        (Presented(expires_at=NOW + 1, session_revoked=True), Outcome.INVALID),
        (used(0), Outcome.REPEAT),
        (used(OVERLAP - 0.001), Outcome.REPEAT),
        (used(OVERLAP), Outcome.REUSED),
        (used(1, successor_used=True), Outcome.REUSED),
        (used(1, derivable=False), Outcome.REUSED),
    ],
)
def test_decides(presented: Presented | None, outcome: Outcome) -> None:
    assert decide(presented, wall_now=NOW, overlap_seconds=OVERLAP) is outcome


def test_an_expired_used_token_revokes_nothing() -> None:
    late = Presented(expires_at=NOW - 1, session_revoked=False, used_at=NOW - 100)
    assert decide(late, wall_now=NOW, overlap_seconds=OVERLAP) is Outcome.INVALID


def test_no_overlap_never_repeats() -> None:
    assert decide(used(0), wall_now=NOW, overlap_seconds=0) is Outcome.REUSED


def test_the_successor_needs_token_and_salt() -> None:
    successor = successor_of("dwr_a", b"1" * 32)
    assert successor == successor_of("dwr_a", b"1" * 32)
    assert successor not in {successor_of("dwr_b", b"1" * 32), successor_of("dwr_a", b"2" * 32)}
    assert len(successor) >= 43


def test_the_digest_is_not_the_secret() -> None:
    assert len(digest_of("dwr_a")) == 32
    assert digest_of("dwr_a") != digest_of("dwr_b")
