from __future__ import annotations

from dataclasses import replace

import pytest

from doorward.core.degrade import DegradePolicy, Grant, Mode, Proof, Refusal, Surroundings, admit
from doorward.core.verdict import Assurance, Cause

NOW = 1_700_000_000.0
POLICY = DegradePolicy()
OUTAGE = Surroundings(last_contact=NOW - 60, last_feed=NOW - 70, keyset_age_seconds=300.0)
JWT = Proof(verified=True, issued_at=NOW - 60, expires_at=NOW + 540, validated_at=None, barred=False)
OPAQUE = Proof(verified=False, issued_at=None, expires_at=None, validated_at=NOW - 60, barred=False)


def test_a_verified_jwt_is_let_in_locally() -> None:
    assert admit(POLICY, OUTAGE, JWT, NOW) == Grant(Assurance.LOCAL, NOW + 540)


def test_what_was_validated_live_a_little_while_ago_is_let_in_as_cached() -> None:
    assert admit(POLICY, OUTAGE, OPAQUE, NOW) == Grant(Assurance.CACHED, NOW + 900)
    assert admit(POLICY, OUTAGE, replace(JWT, validated_at=NOW - 60), NOW) == Grant(Assurance.CACHED, NOW + 540)


def test_the_grant_ends_after_fifteen_minutes_at_the_latest() -> None:
    assert admit(POLICY, OUTAGE, replace(JWT, expires_at=NOW + 3_000), NOW) == Grant(Assurance.LOCAL, NOW + 900)


@pytest.mark.parametrize(
    ("proof", "refusal"),
    [
        (replace(JWT, barred=True), Refusal.BARRED),
        (replace(JWT, validated_at=NOW, barred=True), Refusal.BARRED),
        (replace(JWT, verified=False), Refusal.NOT_PROVEN),
        (replace(JWT, expires_at=NOW), Refusal.NOT_PROVEN),
        (replace(JWT, expires_at=NOW - 3, validated_at=NOW - 3), Refusal.NOT_PROVEN),
        (replace(JWT, issued_at=None), Refusal.TOKEN_TOO_OLD),
        (replace(JWT, issued_at=NOW - 3_600.1), Refusal.TOKEN_TOO_OLD),
        (replace(OPAQUE, validated_at=None), Refusal.NOT_PROVEN),
        (replace(OPAQUE, validated_at=NOW - 1_800.1), Refusal.NOT_PROVEN),
        (replace(OPAQUE, validated_at=NOW + 1), Refusal.NOT_PROVEN),
    ],
)
def test_a_proof_that_lacks_something_is_refused(proof: Proof, refusal: Refusal) -> None:
    assert admit(POLICY, OUTAGE, proof, NOW) is refusal


@pytest.mark.parametrize(
    ("surroundings", "refusal"),
    [
        (replace(OUTAGE, route_allows=False), Refusal.ROUTE),
        (replace(OUTAGE, bars_complete=False), Refusal.BARS_INCOMPLETE),
        (replace(OUTAGE, last_contact=None), Refusal.NO_CONTACT_RECORD),
        (replace(OUTAGE, last_contact=NOW + 1), Refusal.NO_CONTACT_RECORD),
        (replace(OUTAGE, last_contact=NOW - 1_800), Refusal.OUTAGE_TOO_LONG),
        (replace(OUTAGE, last_feed=NOW - 60 - 300.1), Refusal.FEED_STALE),
        (replace(OUTAGE, last_feed=NOW + 1), Refusal.FEED_STALE),
        (replace(OUTAGE, keyset_age_seconds=None), Refusal.KEYSET_STALE),
        (replace(OUTAGE, keyset_age_seconds=86_400.1), Refusal.KEYSET_STALE),
    ],
)
def test_an_outage_of_another_kind_admits_nobody(surroundings: Surroundings, refusal: Refusal) -> None:
    assert admit(POLICY, surroundings, JWT, NOW) is refusal


def test_the_bounds_themselves_still_admit() -> None:
    edge = Surroundings(last_contact=NOW - 1_799, last_feed=NOW - 1_799 - 300, keyset_age_seconds=86_400.0)

    assert isinstance(admit(POLICY, edge, replace(JWT, issued_at=NOW - 3_600), NOW), Grant)
    assert isinstance(admit(POLICY, edge, replace(OPAQUE, validated_at=NOW - 1_800), NOW), Grant)


def test_the_age_of_the_key_set_does_not_matter_for_a_cached_verdict() -> None:
    assert isinstance(admit(POLICY, replace(OUTAGE, keyset_age_seconds=None), OPAQUE, NOW), Grant)


def test_without_a_feed_only_cached_verdicts_count_unless_set_otherwise() -> None:
    blind = replace(OUTAGE, last_feed=None)

    assert admit(POLICY, blind, JWT, NOW) is Refusal.ONLY_CACHED
    assert isinstance(admit(POLICY, blind, OPAQUE, NOW), Grant)
    assert admit(DegradePolicy(mode=Mode.LOCAL_JWT), blind, JWT, NOW) == Grant(Assurance.LOCAL, NOW + 540)


def test_the_mode_is_obeyed() -> None:
    assert admit(DegradePolicy(mode=Mode.CACHED_ONLY), OUTAGE, JWT, NOW) is Refusal.ONLY_CACHED
    for proof in (JWT, OPAQUE):
        assert admit(DegradePolicy(mode=Mode.DENY), OUTAGE, proof, NOW) is Refusal.MODE


def test_only_what_failed_closed_for_its_length_is_told_as_stale() -> None:
    stale = {refusal for refusal in Refusal if refusal.cause is Cause.STALE}

    assert stale == {Refusal.OUTAGE_TOO_LONG, Refusal.NO_CONTACT_RECORD}
    assert {refusal.cause for refusal in Refusal} == {None, Cause.STALE}
