"""Each bad token is bad in its own way, and in that way only."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import KeySet

from doorward.testing import TokenMint, opaque_token

ISSUER = "https://auth.example.test"


def header_of(token: str) -> dict[str, Any]:
    part = token.split(".")[0]
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content


def verify(mint: TokenMint, token: str) -> jwt.Token:
    return jwt.decode(token, KeySet.import_key_set(mint.key_set()), algorithms=["ES256"])  # type: ignore[arg-type]


@pytest.fixture
def mint() -> TokenMint:
    return TokenMint(ISSUER, wall=lambda: 1_000_000.0)


def test_a_good_token_carries_the_contract_claims(mint: TokenMint) -> None:
    token = verify(mint, mint.sign(mint.claims("ada", ttl_seconds=60, age_seconds=5)))
    assert token.claims["iss"] == ISSUER
    assert (token.claims["iat"], token.claims["exp"]) == (999_995, 1_000_060)
    assert {"sub", "aud", "jti", "sid", "permissions", "email"} <= token.claims.keys()


def test_a_claim_of_none_is_left_out(mint: TokenMint) -> None:
    assert "exp" not in mint.claims(exp=None)
    assert "kid" not in header_of(mint.sign(mint.claims(), header={"kid": None}))


def test_expired_is_well_signed(mint: TokenMint) -> None:
    assert verify(mint, mint.expired(expired_for_seconds=10)).claims["exp"] == 999_990


def test_forged_names_our_key_and_fails_its_signature(mint: TokenMint) -> None:
    token = mint.forged()
    assert header_of(token)["kid"] == mint.kid
    with pytest.raises(BadSignatureError):
        verify(mint, token)


def test_tampered_fails_its_signature(mint: TokenMint) -> None:
    with pytest.raises(BadSignatureError):
        verify(mint, mint.tampered(mint.sign(mint.claims("ada")), sub="root"))


def test_unknown_kid_is_in_no_key_set(mint: TokenMint) -> None:
    assert header_of(mint.unknown_kid())["kid"] not in {key["kid"] for key in mint.key_set()["keys"]}
    assert header_of(mint.unknown_kid(kid="mine"))["kid"] == "mine"


def test_jku_is_well_signed_and_points_elsewhere(mint: TokenMint) -> None:
    token = mint.with_jku(url="https://evil.example/keys")
    assert header_of(token)["jku"] == "https://evil.example/keys"
    assert verify(mint, token).claims["sub"] == "ada"


def test_alg_none_has_no_signature(mint: TokenMint) -> None:
    token = mint.alg_none()
    assert header_of(token)["alg"] == "none"
    assert token.endswith(".")
    with pytest.raises((JoseError, ValueError)):
        verify(mint, token)


def test_hs256_confusion_is_an_hmac_under_the_public_key(mint: TokenMint) -> None:
    token = mint.hs256_confusion()
    assert header_of(token)["alg"] == "HS256"
    with pytest.raises((JoseError, ValueError)):
        verify(mint, token)


def test_opaque_tokens_are_random_and_no_jwt() -> None:
    assert opaque_token() != opaque_token()
    assert "." not in opaque_token()
