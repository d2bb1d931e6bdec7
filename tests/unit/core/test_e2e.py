"""What a test token must say, one broken rule at a time, and when degraded mode takes it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey

from doorward.core.degrade import DegradePolicy, Grant, Mode, Refusal
from doorward.core.e2e import (
    ISSUER,
    MAX_LIFE_SECONDS,
    TYP,
    BadKey,
    E2ePolicy,
    E2eToken,
    admit,
    claims,
    is_test_token,
    parse_key,
    public_part,
    read,
)
from doorward.core.keyset import KeySet
from doorward.core.verdict import Assurance, Cause, Code, Deny, Principal, Source

NOW = 1_700_000_000.0
POLICY = E2ePolicy("staging-eu", "e2e", frozenset({"chat"}))
SECRET = ECKey.generate_key("P-256")
KEY = public_part(SECRET)
HEADER = {"alg": "ES256", "kid": KEY.kid, "typ": TYP}
NO_CONTACT = None


def said(**changes: Any) -> dict[str, Any]:
    content = {**claims(POLICY, name="ada", jti="j1", wall_now=NOW, seconds=600), **changes}
    return {name: value for name, value in content.items() if value is not None}


def signed(content: dict[str, Any] | None = None, *, key: ECKey = SECRET, **header: Any) -> str:
    parts = {name: value for name, value in {**HEADER, **header}.items() if value is not None}
    return jwt.encode(parts, said() if content is None else content, key)


def reading(token: str, *published: KeySet, wall_now: float = NOW) -> E2eToken | Deny:
    return read(token, POLICY, KEY, published, wall_now)


def good(token: str | None = None) -> E2eToken:
    found = reading(token or signed())
    assert isinstance(found, E2eToken), found
    return found


def unsigned(header: object) -> str:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() + ".e30.c2ln"


def test_a_good_one_is_somebody_of_the_test_tenant() -> None:
    found = good()
    expected = Principal(
        "e2e:ada",
        ISSUER,
        permissions=frozenset({"chat"}),
        jti="j1",
        issued_at=NOW,
        expires_at=NOW + 600,
        tenant="e2e",
    )
    assert (found.principal, found.jti, found.expires_at) == (expected, "j1", NOW + 600)


def test_it_brings_no_permissions_of_its_own() -> None:
    found = good(signed(said(permissions=["admin"], scope="admin")))
    assert found.principal.permissions == {"chat"}


def test_one_is_never_made_to_live_longer_than_it_may() -> None:
    content = claims(POLICY, name="ada", jti="j1", wall_now=NOW + 0.9, seconds=86_400)
    assert content["exp"] - content["iat"] == MAX_LIFE_SECONDS
    assert isinstance(reading(signed(content)), E2eToken)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://auth.example"},
        {"iss": None},
        {"aud": "staging-us"},
        {"aud": ["staging-eu"]},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "e2e:root"},
        {"sub": "a" * 65},
        {"sub": 7},
        {"jti": None},
        {"jti": ""},
        {"jti": "two words"},
        {"iat": None},
        {"iat": True},
        {"iat": str(int(NOW))},
        {"iat": NOW + 31, "exp": NOW + 600},
        {"exp": None},
        {"exp": NOW + 601},
        {"iat": NOW - 1, "exp": NOW + 600},
        {"iat": NOW + 20, "exp": NOW + 10},
    ],
    ids=str,
)
def test_a_claim_that_is_not_right(changes: dict[str, Any]) -> None:
    found = reading(signed(said(**changes)))
    assert isinstance(found, Deny)
    assert (found.code, found.source) == (Code.TOKEN_INVALID, Source.E2E)


def test_it_expires_to_the_second() -> None:
    token = signed()
    assert isinstance(reading(token, wall_now=NOW + 599.9), E2eToken)
    assert reading(token, wall_now=NOW + 600) == Deny(Code.TOKEN_EXPIRED, Source.E2E)


@pytest.mark.parametrize(
    "token",
    [
        signed(key=ECKey.generate_key("P-256")),
        signed(key=ECKey.generate_key("P-256"), kid=None),
        signed(kid="another"),
        signed(typ="JWT"),
        signed(typ=None),
        signed(jku="https://attacker.example"),
        jwt.encode({**HEADER, "alg": "HS256"}, said(), OctKey.generate_key(256)),
        unsigned({"alg": "none", "typ": TYP}),
        unsigned({"typ": TYP}),
        signed() + ".x",
        "opaque",
    ],
    ids=[
        "stranger", "stranger without kid", "another kid", "typ", "no typ", "jku", "hmac", "none", "no alg", "four parts",
        "opaque",
    ],
)  # fmt: skip
def test_a_token_that_is_not_ours(token: str) -> None:
    found = reading(token)
    assert isinstance(found, Deny)
    assert (found.code, found.source) == (Code.TOKEN_INVALID, Source.E2E)


def test_a_key_that_an_issuer_publishes_is_no_test_key() -> None:
    others = KeySet([public_part(ECKey.generate_key("P-256"))], NOW, b"")
    assert isinstance(reading(signed(), others), E2eToken)
    found = reading(signed(), others, KeySet([*others.keys, KEY], NOW, b""))
    assert isinstance(found, Deny)
    assert "an issuer's key set" in found.detail


def test_without_a_kid_the_signature_alone_counts() -> None:
    assert isinstance(reading(signed(kid=None)), E2eToken)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (signed(), True),
        (signed(typ="application/DOORWARD-E2E+JWT"), True),
        (unsigned({"typ": TYP}), True),
        (unsigned({"typ": TYP}).partition(".")[0], True),
        (signed(typ="at+jwt"), False),
        (signed(typ=None), False),
        (unsigned({"typ": 7}), False),
        (unsigned([TYP]), False),
        (unsigned(b"\xff\xfe"), False),
        (unsigned(b"[" * 3_000), False),
        ("a.b.c", False),
        ("opaque-token", False),
        ("", False),
    ],
)
def test_it_is_known_by_its_type_however_badly_it_is_made(token: str, expected: bool) -> None:
    assert is_test_token(token) is expected


@pytest.mark.parametrize("private", [True, False])
def test_a_key_is_read_and_only_its_public_part_is_kept(private: bool) -> None:
    key = parse_key(json.dumps(SECRET.as_dict(private=private)).encode())
    assert key.is_private is private
    assert not public_part(key).material.is_private
    assert public_part(key).kid == KEY.kid


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"\xff",
        b"[" * 3_000,
        b"{}",
        b'{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}',
        json.dumps(ECKey.generate_key("P-384").as_dict(private=True)).encode(),
        json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=True)).encode(),
        json.dumps(OctKey.generate_key(256).as_dict(private=True)).encode(),
    ],
    ids=["empty", "null", "no text", "deep", "no key", "off the curve", "P-384", "Ed25519", "a secret"],
)
def test_what_is_no_key_is_refused(document: bytes) -> None:
    with pytest.raises(BadKey):
        parse_key(document)


@pytest.mark.parametrize(
    ("policy", "last_contact", "route_allows", "expected"),
    [
        (DegradePolicy(), NOW - 60, True, Grant(Assurance.TEST, NOW + 600)),
        (DegradePolicy(grant_seconds=90), NOW - 60, True, Grant(Assurance.TEST, NOW + 90)),
        (DegradePolicy(mode=Mode.CACHED_ONLY), NOW - 60, True, Grant(Assurance.TEST, NOW + 600)),
        (DegradePolicy(mode=Mode.DENY), NOW - 60, True, Refusal.MODE),
        (DegradePolicy(), NOW - 60, False, Refusal.ROUTE),
        (DegradePolicy(), NO_CONTACT, True, Refusal.NO_CONTACT_RECORD),
        (DegradePolicy(), NOW + 1, True, Refusal.NO_CONTACT_RECORD),
        (DegradePolicy(), NOW - 1799, True, Grant(Assurance.TEST, NOW + 600)),
        (DegradePolicy(), NOW - 1800, True, Refusal.OUTAGE_TOO_LONG),
    ],
)
def test_the_rules_of_degraded_mode(
    policy: DegradePolicy, last_contact: float | None, route_allows: bool, expected: Grant | Refusal
) -> None:
    assert admit(good(), policy, last_contact=last_contact, route_allows=route_allows, wall_now=NOW) == expected


def test_the_client_is_told_that_it_is_over_where_the_outage_is_too_long() -> None:
    refusal = admit(good(), DegradePolicy(), last_contact=NOW - 1800, route_allows=True, wall_now=NOW)
    assert isinstance(refusal, Refusal)
    assert refusal.cause is Cause.STALE
