"""Tokens are read as strictly as they are made."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jws, jwt

from doorward.authd.keys import SigningKey, generate
from doorward.authd.tokens import Subject, Tokens, Unacceptable, next_issue_time, next_not_before
from doorward.core.verdict import Principal

NOW = 1_750_000_000.0
ISSUER = "https://auth.test"
ANN = Subject("usr_ann", "ann@example.com", ("admin", "chat"), "ses_1")
KEY = generate(NOW - 10)


@pytest.fixture
def tokens() -> Tokens:
    made = Tokens(issuer=ISSUER, audiences=["chat"], life_seconds=600)
    made.use([KEY])
    return made


def mint(tokens: Tokens, issued_at: float = NOW) -> str:
    return tokens.mint(ANN, issued_at=int(issued_at), wall_now=issued_at)


def forge(header: dict[str, Any], claims: dict[str, Any] | None = None, key: SigningKey = KEY) -> str:
    full = {
        "iss": ISSUER,
        "aud": "chat",
        "sub": "usr_ann",
        "sid": "ses_1",
        "jti": "j",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        **(claims or {}),
    }
    kept = {name: value for name, value in full.items() if value is not None}
    registry = jws.JWSRegistry(strict_check_header=False)
    base = {"alg": "ES256", "kid": key.kid, "typ": "at+jwt"}
    return jwt.encode({**base, **header}, kept, key.material, registry=registry)


def test_what_is_minted_reads_back(tokens: Tokens) -> None:
    read = tokens.read(mint(tokens), wall_now=NOW)
    assert isinstance(read, Principal)
    assert (read.user_id, read.session_id, read.email) == ("usr_ann", "ses_1", "ann@example.com")
    assert read.permissions == frozenset({"admin", "chat"})
    assert read.expires_at == NOW + 600


def test_the_claims_of_a_token() -> None:
    made = Tokens(issuer=ISSUER, audiences=["chat", "api"], life_seconds=600)
    made.use([KEY])
    token = jwt.decode(mint(made), KEY.material, algorithms=["ES256"])
    assert token.header == {"alg": "ES256", "kid": KEY.kid, "typ": "at+jwt"}
    assert token.claims["aud"] == ["chat", "api"]
    assert token.claims["scope"] == "admin chat"
    assert token.claims["client_id"]
    assert token.claims["jti"] != jwt.decode(mint(made), KEY.material, algorithms=["ES256"]).claims["jti"]


@pytest.mark.parametrize(
    "token",
    [
        forge({"kid": "another"}),
        forge({"typ": "JWT"}),
        forge({"jku": "https://evil.test/jwks.json"}),
        forge({}, {"iss": "https://evil.test"}),
        forge({}, {"aud": "other"}),
        forge({}, {"exp": int(NOW) - 60}),
        forge({}, {"exp": None}),
        forge({}, {"iat": int(NOW) + 600}),
        forge({}, {"sid": None}),
        forge({}, {"jti": None}),
        forge({}, {"iat": None}),
        forge({"kid": KEY.kid}, key=generate(NOW)),
        "eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_a_jwt_that_is_not_good(tokens: Tokens, token: str) -> None:
    read = tokens.read(token, wall_now=NOW)
    assert isinstance(read, Unacceptable)
    assert not read.opaque


def test_a_shared_secret_made_of_the_public_key_does_not_sign(tokens: Tokens) -> None:
    parts = forge({"alg": "ES256"}).split(".")
    header = urlsafe_b64encode(b'{"alg":"HS256","typ":"at+jwt"}').rstrip(b"=")
    signature = hmac.digest(KEY.material.as_pem(private=False), header + b"." + parts[1].encode(), "sha256")
    token = b".".join((header, parts[1].encode(), urlsafe_b64encode(signature).rstrip(b"="))).decode()
    assert isinstance(tokens.read(token, wall_now=NOW), Unacceptable)


@pytest.mark.parametrize("token", ["", "abc", "a.b.c", "dwr_" + "x" * 40, "a." * 2 + "é", "x" * 9000])
def test_what_is_no_jwt_is_opaque(tokens: Tokens, token: str) -> None:
    read = tokens.read(token, wall_now=NOW)
    assert isinstance(read, Unacceptable)
    assert read.opaque


def test_another_audience_may_be_asked_for(tokens: Tokens) -> None:
    assert isinstance(tokens.read(mint(tokens), wall_now=NOW, audience="chat"), Principal)
    assert isinstance(tokens.read(mint(tokens), wall_now=NOW, audience="other"), Unacceptable)


def test_old_tokens_read_on_through_a_rotation(tokens: Tokens) -> None:
    before = mint(tokens)
    second = generate(NOW + 1)
    tokens.use([KEY, second])
    after = mint(tokens, NOW + 2)
    assert jws.extract_compact(after.encode()).headers()["kid"] == second.kid
    for token in (before, after):
        assert isinstance(tokens.read(token, wall_now=NOW + 3), Principal)


def test_a_sign_in_right_after_a_revocation_is_not_born_revoked() -> None:
    not_before = next_not_before(10.5, None)
    issued = next_issue_time(10.7, not_before)
    assert int(10.2) * 1000 <= not_before < issued * 1000
    again = next_not_before(10.9, not_before)
    assert issued * 1000 <= again
    assert next_issue_time(10.95, again) * 1000 > again
    assert next_issue_time(99.9, again) == 99
    assert next_not_before(99.5, again) == 99_500
