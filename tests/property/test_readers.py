"""Whatever bytes come, a reader answers with what it declares, or with the one error that it declares."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from doorward.core.answer import Invalid, Valid, parse_answer, shown
from doorward.core.claims import ClaimsPolicy, check
from doorward.core.keyset import KEY_TYPES, BadKeySet, Parsed, UnknownKey, parse_keyset, parse_token, verify
from doorward.core.origin import allowed, normalised
from doorward.core.routes import is_public
from doorward.core.verdict import Code, Deny, Principal
from doorward.errors import BadAnswer
from doorward.testing.tokens import TokenMint

LIMITS = settings(max_examples=250, deadline=None)
NOW = 1_700_000_000.0
ISSUER = "https://auth.example"
MINT = TokenMint(ISSUER)
KEYS = parse_keyset(json.dumps(MINT.key_set()).encode(), NOW)
GOOD_KEY = MINT.key_set()["keys"][0]
POLICY = ClaimsPolicy(ISSUER, frozenset({"doorward"}))

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**63, 2**64, 10**12, 0, -1]),
    st.floats(),
    st.text(max_size=10),
    st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=5),
    st.sampled_from(["true", "EC", "RSA", "OKP", "oct", "P-256", "ES256", "none", "sig", "ada", ISSUER, "doorward"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def objects(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names) | st.text(max_size=4), values, max_size=8)


def text_of(pairs: list[tuple[str, Any]]) -> bytes:
    """A JSON object with these members, repeated names included."""
    members = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs)
    return ("{" + ", ".join(members) + "}").encode("utf-8", "surrogatepass")


def documents(*names: str) -> st.SearchStrategy[bytes]:
    """Anything from noise to an object with members of these names, whole, cut, nested deep, or with bytes changed."""
    members = st.lists(st.tuples(st.sampled_from(names) | st.text(max_size=4), values), max_size=8).map(text_of)
    nested = st.tuples(st.sampled_from([b"[", b'{"a":', b'{"keys":[']), st.integers(1, 100_000)).map(
        lambda n: n[0] * n[1]
    )
    cut = st.tuples(members, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    spliced = st.tuples(members, st.binary(max_size=4), st.integers(0, 60)).map(
        lambda s: s[0][: s[2]] + s[1] + s[0][s[2] :]
    )
    return st.one_of(members, nested, cut, spliced, st.binary(max_size=60))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(documents("valid", "user_id", "email", "permissions", "session_id", "expires_at", "cache_seconds", "error"))
@example(b'{"valid": false, "valid": true, "user_id": "ada"}')
@example(b'{"valid": true, "user_id": "ada", "expires_at": ' + b"1" * 400 + b"}")
@LIMITS
def test_an_answer_is_read_or_is_no_contract(body: bytes) -> None:
    try:
        answer = parse_answer(body)
    except BadAnswer:
        return
    assert isinstance(answer, Valid | Invalid)
    if isinstance(answer, Valid):
        assert answer.user_id
        assert answer.expires_at is None or 0 <= answer.expires_at < 1e12


@given(
    st.lists(objects("kty", "crv", "x", "y", "n", "e", "alg", "kid", "use", "key_ops", "k", "d"), max_size=3),
    st.booleans(),
)
@LIMITS
def test_a_key_set_is_read_or_is_none(entries: list[dict[str, Any]], real: bool) -> None:
    document = json.dumps({"keys": [{**GOOD_KEY, **entry} if real else entry for entry in entries]})
    try:
        keyset = parse_keyset(document.encode("utf-8", "surrogatepass"), NOW)
    except BadKeySet:
        return
    assert keyset.keys
    assert all(key.key_type in KEY_TYPES.values() for key in keyset.keys)
    token = parse_token(MINT.sign(MINT.claims()), frozenset(KEY_TYPES), None)
    assert isinstance(token, Parsed)
    verify(token, keyset)


@given(documents("keys", "kty"))
@LIMITS
def test_noise_is_no_key_set(document: bytes) -> None:
    try:
        assert parse_keyset(document, NOW).keys
    except BadKeySet:
        return


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda raw: raw.decode("latin-1")))
@LIMITS
def test_any_text_is_a_jwt_an_opaque_token_or_refused(token: str) -> None:
    assert_nothing_is_proven(token)


@given(documents("alg", "kid", "typ", "jku", "crit", "x5u"), documents("sub", "exp"), st.binary(max_size=80))
@LIMITS
def test_any_three_parts_prove_nothing(header: bytes, payload: bytes, signature: bytes) -> None:
    assert_nothing_is_proven(f"{b64(header)}.{b64(payload)}.{b64(signature)}")


@given(
    st.sampled_from([*KEY_TYPES, "none", "HS256"]), st.sampled_from([None, MINT.kid, "other"]), st.binary(max_size=80)
)
@LIMITS
def test_a_made_up_signature_proves_nothing(alg: str, kid: str | None, signature: bytes) -> None:
    header = {"alg": alg} if kid is None else {"alg": alg, "kid": kid}
    claims = json.dumps(MINT.claims()).encode()
    assert_nothing_is_proven(f"{b64(json.dumps(header).encode())}.{b64(claims)}.{b64(signature)}")


@given(st.data())
@LIMITS
def test_a_changed_token_proves_nothing(data: st.DataObject) -> None:
    token = MINT.sign({"iss": ISSUER, "aud": "doorward", "sub": "ada", "exp": NOW + 60})
    index = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda char: char != token[index]))
    assert_nothing_is_proven(token[:index] + other + token[index + 1 :])


def assert_nothing_is_proven(token: str) -> None:
    found = parse_token(token, frozenset(KEY_TYPES), None)
    if isinstance(found, Parsed):
        assert found.algorithm in KEY_TYPES
        assert isinstance(verify(found, KEYS), UnknownKey | Deny)
    else:
        assert found is None or found.code is Code.TOKEN_INVALID


@given(objects("iss", "aud", "sub", "sid", "exp", "nbf", "iat", "jti", "email", "permissions", "scope"), st.booleans())
@LIMITS
def test_any_claims_name_a_principal_or_are_refused(claims: dict[str, Any], mostly_good: bool) -> None:
    good = {"iss": ISSUER, "aud": "doorward", "sub": "ada", "exp": NOW + 60} if mostly_good else {}
    found = check({**good, **claims}, POLICY, NOW)
    if isinstance(found, Deny):
        assert found.code in {Code.TOKEN_INVALID, Code.TOKEN_EXPIRED}
        return
    assert isinstance(found, Principal)
    assert found.user_id
    assert found.issuer == ISSUER
    assert found.expires_at is not None
    assert found.expires_at > NOW - POLICY.expiry_leeway_seconds
    assert found.issued_at is None or found.issued_at <= NOW + POLICY.leeway_seconds


@given(values | st.text())
@LIMITS
def test_any_foreign_text_is_shown_short_and_plain(foreign: object) -> None:
    text = shown(foreign)
    assert len(text) <= 200
    assert text.isascii()
    assert text.isprintable()


@given(st.none() | st.text(max_size=40), st.text(max_size=20), st.none() | st.text(max_size=30))
@LIMITS
def test_any_origin_is_judged(origin: str | None, scheme: str, host: str | None) -> None:
    if allowed(origin, scheme=scheme, host=host, extra=frozenset({"https://app.example"})):
        assert origin in {None, "https://app.example"} or normalised(origin or "") is not None


@given(st.text("/.%\\ab", max_size=12))
@LIMITS
def test_a_public_path_is_under_its_prefix_however_it_is_resolved(path: str) -> None:
    if is_public(["/a/*"], path):
        assert path == "/a" or path.startswith("/a/")
        assert ".." not in path.split("/")
