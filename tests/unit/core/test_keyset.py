from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from doorward.core.keyset import (
    KEY_TYPES,
    BadKeySet,
    KeySet,
    Parsed,
    Refetch,
    UnknownKey,
    parse_keyset,
    parse_token,
    verify,
)
from doorward.core.verdict import Code, Deny
from doorward.testing.tokens import TokenMint

ALL = frozenset(KEY_TYPES)
DEFAULT = frozenset({"ES256", "RS256", "EdDSA"})
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

SigningKey = ECKey | RSAKey | OKPKey


@cache
def signing_key(kind: str) -> SigningKey:
    if kind == "RSA":
        return RSAKey.generate_key(2048)
    if kind == "Ed448":
        return OKPKey.generate_key("Ed448")
    return OKPKey.generate_key("Ed25519") if kind == "Ed25519" else ECKey.generate_key(kind)


def public(key: SigningKey | OctKey, **members: Any) -> dict[str, Any]:
    return {**dict(key.as_dict(private=False)), **members}


def private(key: SigningKey) -> dict[str, Any]:
    return dict(key.as_dict(private=True))


def keyset(*entries: Any, fetched_at: float = 0.0) -> KeySet:
    return parse_keyset(json.dumps({"keys": list(entries)}).encode(), fetched_at)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def compact(header: object, payload: object = None, signature: bytes = b"x" * 64) -> str:
    claims = {"sub": "ada"} if payload is None else payload
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{b64(signature)}"


def signed(key: SigningKey, header: dict[str, Any], payload: bytes = b'{"sub":"ada"}') -> str:
    return jws.serialize_compact(header, payload, key, algorithms=[header["alg"]])


def parsed(token: str, algorithms: frozenset[str] = ALL, typ: str | None = None) -> Parsed:
    found = parse_token(token, algorithms, typ)
    assert isinstance(found, Parsed)
    return found


def refused(token: str, algorithms: frozenset[str] = DEFAULT, typ: str | None = None) -> str:
    found = parse_token(token, algorithms, typ)
    assert isinstance(found, Deny)
    assert found.code is Code.TOKEN_INVALID
    return found.detail


# The key set


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "Ed25519", "Ed448", "RSA"])
def test_public_signing_keys_are_read(kind: str) -> None:
    read = keyset(public(signing_key(kind), kid="k1"), fetched_at=7.0)

    assert [key.kid for key in read.keys] == ["k1"]
    assert read.fetched_at == 7.0


def small_rsa() -> dict[str, Any]:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()
    return {"kty": "RSA", "n": b64(numbers.n.to_bytes(128, "big")), "e": "AQAB"}


UNUSABLE: list[Any] = [
    None,
    "text",
    ["EC"],
    {},
    {"kty": "EC"},
    {"kty": ["EC"]},
    {"kty": {"EC": 1}},
    {"kty": "oct", "k": b64(b"shared secret of some length....")},
    public(OKPKey.generate_key("X25519")),
    public(ECKey.generate_key("secp256k1")),
    private(signing_key("P-256")),
    private(signing_key("RSA")),
    small_rsa(),
    {"kty": "RSA", "e": "AQAB"},
    {"kty": "RSA", "n": 7, "e": "AQAB"},
    {"kty": "RSA", "n": "A", "e": "AQAB"},
    {"kty": "RSA", "n": "A" * 4_000, "e": "AQAB"},
    public(signing_key("P-256"), use="enc"),
    public(signing_key("P-256"), use=["sig"]),
    public(signing_key("P-256"), key_ops=["sign"]),
    public(signing_key("P-256"), key_ops="verify"),
    public(signing_key("P-256"), alg="RS256"),
    public(signing_key("P-256"), alg="HS256"),
    public(signing_key("P-256"), alg="none"),
    public(signing_key("P-256"), alg=["ES256"]),
    public(signing_key("P-256"), kid=7),
    public(signing_key("P-256"), crv="P-384"),
    public(signing_key("P-256"), crv=["P-256"]),
    public(signing_key("P-256"), x=b64(b"\x01" * 32)),
    public(signing_key("P-256"), x="!"),
    public(signing_key("P-256"), y=None),
    public(signing_key("Ed25519"), x=b64(b"short")),
]


@pytest.mark.parametrize("entry", UNUSABLE, ids=range(len(UNUSABLE)))
def test_a_key_that_cannot_be_trusted_to_verify_is_passed_over(entry: Any) -> None:
    with pytest.raises(BadKeySet):
        keyset(entry)
    assert [key.kid for key in keyset(entry, public(signing_key("P-256"), kid="good")).keys] == ["good"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"junk\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": null}',
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [[]]}',
        b"[" * 100_000,
        b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"keys": [{"kty": "EC", "alg": ' + b"[" * 900 + b"]" * 900 + b"}]}",
        b'{"keys": [' + b'{"kty": "EC"},' * 100 + b'{"kty": "EC"}]}',
    ],
)
def test_what_is_no_key_set_never_becomes_one(document: bytes) -> None:
    with pytest.raises(BadKeySet):
        parse_keyset(document, 0.0)


def test_the_age_is_never_negative() -> None:
    read = keyset(public(signing_key("P-256")), fetched_at=100.0)

    assert [read.age(now) for now in (90.0, 100.0, 160.0)] == [0.0, 0.0, 60.0]


# The header


@pytest.mark.parametrize(
    "token",
    [
        "",
        "opaque",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "..",
        "!.!.!",
        "v4.public.abc",
        "caf\xe9.a.b",
        f"{b64(b'[]')}.e30.AA",
        f"{b64(b'{}')}.e30.AA",
        f"{b64(b'not json')}.e30.AA",
        f"{b64(b'[' * 100_000)}.e30.AA",
    ],
)
def test_what_is_no_jwt_is_an_opaque_token(token: str) -> None:
    assert parse_token(token, DEFAULT, None) is None


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS256", "HS512", "ES384", "es256", "RSA1_5", None, 7, ["ES256"], {}]
)
def test_an_algorithm_outside_the_list_is_refused(alg: object) -> None:
    assert refused(compact({"alg": alg})) == "alg is not allowed"


@pytest.mark.parametrize("alg", ["none", "HS256"])
def test_a_list_that_allows_a_dangerous_algorithm_does_not_help(alg: str) -> None:
    assert refused(compact({"alg": alg}), frozenset({alg})) == "alg is not allowed"


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "crit", "b64", "zip"])
@pytest.mark.parametrize("value", ["https://evil.example/jwks.json", None, []])
def test_headers_that_bring_their_own_trust_are_refused(name: str, value: object) -> None:
    assert refused(compact({"alg": "ES256", name: value})) == f"the header {name} is not allowed"


@pytest.mark.parametrize("kid", [7, ["k1"], {"$ne": 1}, True])
def test_a_kid_that_is_no_string_is_refused(kid: object) -> None:
    assert refused(compact({"alg": "ES256", "kid": kid})) == "kid is not a string"


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwtx", ["at+jwt"], "doorward-e2e+jwt"])
def test_the_required_typ_is_required(typ: object) -> None:
    assert refused(compact({"alg": "ES256", "typ": typ}), typ="at+jwt") == "typ is not an accepted one"


@pytest.mark.parametrize("typ", ["doorward-e2e+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "", 7, ["JWT"]])
def test_a_jwt_made_for_something_else_is_no_access_token(typ: object) -> None:
    assert refused(compact({"alg": "ES256", "typ": typ})) == "typ is not an accepted one"


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_without_a_required_typ_the_usual_ones_will_do(typ: object) -> None:
    assert parsed(compact({"alg": "ES256", "typ": typ})).algorithm == "ES256"


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_required_typ_may_be_written_in_other_ways(typ: str) -> None:
    assert parsed(compact({"alg": "ES256", "typ": typ}), typ="application/at+jwt").typ == "at+jwt"


@pytest.mark.parametrize("parts", ["{h}.e30.", "{h}.e30.A", "{h}.!.AA", "{h}.e30.AA==", "{h}.e30.caf\xe9", "{h}.e3.AA"])
def test_parts_that_are_not_base64url_are_refused(parts: str) -> None:
    token = parts.format(h=b64(b'{"alg": "ES256"}'))

    assert refused(token) == "the token is not base64url"


def test_of_a_repeated_header_member_one_decides_and_it_is_checked() -> None:
    header = b64(b'{"alg": "ES256", "alg": "none"}')

    assert refused(f"{header}.e30.AA") == "alg is not allowed"


# The signature


@pytest.mark.parametrize(
    ("alg", "kind"),
    [
        ("ES256", "P-256"),
        ("ES384", "P-384"),
        ("ES512", "P-521"),
        ("RS256", "RSA"),
        ("PS512", "RSA"),
        ("Ed25519", "Ed25519"),
    ],
)
def test_a_good_signature_brings_the_claims(alg: str, kind: str) -> None:
    key = signing_key(kind)
    token = signed(key, {"alg": alg, "kid": "k1"})

    assert verify(parsed(token), keyset(public(key, kid="k1"))) == {"sub": "ada"}


def test_without_a_kid_every_key_of_the_type_is_tried() -> None:
    token = signed(signing_key("P-256"), {"alg": "ES256"})
    keys = keyset(
        public(signing_key("RSA")), public(ECKey.generate_key("P-256"), kid="other"), public(signing_key("P-256"))
    )

    assert verify(parsed(token), keys) == {"sub": "ada"}


def test_of_two_keys_with_the_same_kid_either_may_have_signed() -> None:
    token = signed(signing_key("P-256"), {"alg": "ES256", "kid": "k1"})
    keys = keyset(public(ECKey.generate_key("P-256"), kid="k1"), public(signing_key("P-256"), kid="k1"))

    assert verify(parsed(token), keys) == {"sub": "ada"}


def test_a_kid_that_the_set_does_not_have_is_unknown_and_not_yet_wrong() -> None:
    token = signed(signing_key("P-256"), {"alg": "ES256", "kid": "new"})

    assert verify(parsed(token), keyset(public(signing_key("P-256"), kid="old"))) == UnknownKey("new")


def test_a_key_for_another_algorithm_is_not_tried() -> None:
    token = signed(signing_key("RSA"), {"alg": "PS256", "kid": "k1"})

    assert verify(parsed(token), keyset(public(signing_key("RSA"), kid="k1", alg="RS256"))) == UnknownKey("k1")


def test_an_ec_token_with_the_kid_of_an_rsa_key_finds_no_key() -> None:
    token = signed(signing_key("P-256"), {"alg": "ES256", "kid": "rsa"})

    assert verify(parsed(token), keyset(public(signing_key("RSA"), kid="rsa"))) == UnknownKey("rsa")


def test_a_signature_without_kid_that_no_key_made_may_be_of_a_new_key() -> None:
    token = signed(ECKey.generate_key("P-256"), {"alg": "ES256"})

    assert verify(parsed(token), keyset(public(signing_key("P-256")))) == UnknownKey(None)


def test_the_public_key_as_an_hmac_secret_is_worth_nothing() -> None:
    key = signing_key("RSA")
    message = compact({"alg": "HS256", "kid": "k1"}).rpartition(".")[0]
    for secret in (key.as_pem(private=False), json.dumps(public(key)).encode()):
        token = f"{message}.{b64(hmac.digest(secret, message.encode(), hashlib.sha256))}"
        assert refused(token) == "alg is not allowed"
        assert refused(token, ALL | {"HS256"}) == "alg is not allowed"


def test_each_kind_of_bad_token_of_the_mint_is_told_apart() -> None:
    mint = TokenMint("https://auth.example")
    keys = keyset(*mint.key_set()["keys"])

    assert isinstance(verify(parsed(mint.sign(mint.claims())), keys), dict)
    assert isinstance(verify(parsed(mint.forged()), keys), Deny)
    assert isinstance(verify(parsed(mint.tampered(mint.sign(mint.claims()), sub="eve")), keys), Deny)
    assert isinstance(verify(parsed(mint.unknown_kid()), keys), UnknownKey)
    assert "jku" in refused(mint.with_jku())
    assert refused(mint.alg_none()) == "alg is not allowed"
    assert refused(mint.hs256_confusion()) == "alg is not allowed"


@pytest.mark.parametrize("signature", [b"x", b"x" * 63, b"\x00" * 64, b"\xff" * 64, b"x" * 65, b"x" * 4_000])
@pytest.mark.parametrize(("alg", "kind"), [("ES256", "P-256"), ("RS256", "RSA"), ("EdDSA", "Ed25519")])
def test_a_made_up_signature_does_not_hold(alg: str, kind: str, signature: bytes) -> None:
    token = compact({"alg": alg, "kid": "k1"}, signature=signature)
    found = verify(parsed(token), keyset(public(signing_key(kind), kid="k1")))

    assert isinstance(found, Deny)
    assert found.code is Code.TOKEN_INVALID


def test_a_key_of_another_curve_with_this_kid_does_not_verify() -> None:
    token = signed(signing_key("P-256"), {"alg": "ES256", "kid": "k1"})

    assert isinstance(verify(parsed(token), keyset(public(signing_key("P-384"), kid="k1"))), Deny)


def test_a_token_has_one_spelling_only() -> None:
    """Other trailing bits, padding, or the plain alphabet would give a refused token a second, unknown text."""
    key = keyset(public(signing_key("P-256"), kid="k1"))
    head, payload, signature = signed(signing_key("P-256"), {"alg": "ES256", "kid": "k1"}).split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    respelt = [signature[:-1] + alphabet[last ^ bit] for bit in (1, 2, 4, 8)] + [signature + "=="]
    if set(signature) & set("-_"):
        respelt.append(signature.replace("-", "+").replace("_", "/"))

    assert isinstance(verify(parsed(f"{head}.{payload}.{signature}"), key), dict)
    for other in respelt:
        assert refused(f"{head}.{payload}.{other}") == "the token is not base64url"


def test_the_mirrored_ecdsa_signature_holds_so_only_the_signed_part_tells_tokens_apart() -> None:
    """(r, n - s) is as good as (r, s): what must recognise a refused token has to go by the signing input."""
    key = keyset(public(signing_key("P-256"), kid="k1"))
    token = parsed(signed(signing_key("P-256"), {"alg": "ES256", "kid": "k1"}))
    mirrored = P256_ORDER - int.from_bytes(token.signature[32:], "big")
    twin = b64(token.signature[:32] + mirrored.to_bytes(32, "big"))
    other = parsed(f"{token.signing_input.decode()}.{twin}")

    assert verify(other, key) == verify(token, key)
    assert other.signature != token.signature
    assert other.signing_input == token.signing_input


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"not json", b"\xff", b"[" * 50_000, b'{"a": NaN}'])
def test_well_signed_claims_that_are_no_object_are_invalid(payload: bytes) -> None:
    token = signed(signing_key("P-256"), {"alg": "ES256", "kid": "k1"}, payload)
    found = verify(parsed(token), keyset(public(signing_key("P-256"), kid="k1")))

    assert isinstance(found, Deny)
    assert found.detail == "the claims are not a JSON object"


# When to fetch anew


def test_a_flood_of_unknown_keys_starts_one_look_every_thirty_seconds() -> None:
    refetch = Refetch()
    started = 0
    for now in range(100):
        if refetch.may_start(float(now)):
            refetch.started(float(now))
            started += 1

    assert started == 4


def test_only_a_set_fetched_just_now_proves_that_a_key_does_not_exist() -> None:
    refetch = Refetch()
    read = keyset(public(signing_key("P-256")), fetched_at=1_000.0)

    assert [refetch.is_definitive(read, now) for now in (1_000.0, 1_030.0, 1_030.1)] == [True, True, False]


def test_a_set_from_the_future_proves_nothing() -> None:
    read = keyset(public(signing_key("P-256")), fetched_at=1_000.0)

    assert Refetch().is_definitive(read, 999.0) is False
