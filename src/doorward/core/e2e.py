"""E2E test tokens: what one must say, and when it lets somebody in.

They are there so that degraded mode can be tested from end to end, and open nothing else: signed with a key of their own, good for
one deployment, for minutes, once, and only while the breaker is not closed. Whoever comes in with one is of the test tenant, and
has the few permissions that the settings give it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from doorward.core.degrade import DegradePolicy, Grant, Mode, Refusal, outage_refusal
from doorward.core.keyset import Key, KeySet, parse_token, verify
from doorward.core.verdict import Assurance, Code, Deny, Principal, Source, user_id_of

TYP = "doorward-e2e+jwt"
ISSUER = "doorward-e2e"
ALGORITHM = "ES256"
CURVE = "P-256"
MAX_LIFE_SECONDS = 600.0
LEEWAY_SECONDS = 30.0
"""How far `iat` may lie in the future. `exp` has none."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A test user's name; a `jti` is as simple."""


@dataclass(frozen=True, slots=True)
class E2ePolicy:
    """`audience`: the name of this deployment. A test user is `<tenant>:<sub>`, so that it is nobody else."""

    audience: str
    tenant: str
    permissions: frozenset[str]


@dataclass(frozen=True, slots=True)
class E2eToken:
    """A test token that holds. Whether it was used before is for the node's store to say."""

    principal: Principal
    jti: str
    expires_at: float


class BadKey(ValueError):
    """The document is not a P-256 key; the text says what is wrong and never shows it."""


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    aud: str
    sub: str
    jti: str
    iat: float
    exp: float


def is_test_token(token: str) -> bool:
    """Does it say of itself that it is one, well made or not? Such a token is never sent to anybody."""
    return _says_so(token.partition(".")[0])


@lru_cache(maxsize=256)
def _says_so(header: str) -> bool:
    """All tokens of an issuer that were signed with one key begin with one and the same header."""
    try:
        content = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, RecursionError):  # no base64, no UTF-8, no JSON
        return False
    typ = content.get("typ") if isinstance(content, dict) else None
    return isinstance(typ, str) and is_test_type(typ)


def is_test_type(typ: str) -> bool:
    """The media type may be written in full, and in any case (RFC 7515, section 4.1.9)."""
    return typ.lower().removeprefix("application/") == TYP


def parse_key(document: bytes) -> ECKey:
    """Read a JWK (RFC 7517), private or public.

    Raises:
        BadKey: it is not one.
    """
    try:
        content = msgspec.json.decode(document)
        key = ECKey.import_key(content) if isinstance(content, dict) and content.get("kty") == "EC" else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, JoseError, ValueError, TypeError, KeyError):
        raise BadKey("not a JWK") from None
    if key is None or key.curve_name != CURVE:
        raise BadKey(f"not an EC key on {CURVE}")
    return key


def public_part(key: ECKey) -> Key:
    """What the door keeps of the key: enough to check a signature, not enough to make one."""
    return Key(key.thumbprint(), "EC", ALGORITHM, ECKey.import_key(dict(key.as_dict(private=False))))


def claims(policy: E2ePolicy, *, name: str, jti: str, wall_now: float, seconds: float) -> dict[str, Any]:
    """What a token for this test user says."""
    issued_at = int(wall_now)
    times = {"iat": issued_at, "exp": issued_at + int(min(seconds, MAX_LIFE_SECONDS))}
    return {"iss": ISSUER, "aud": policy.audience, "sub": name, "jti": jti, **times}


def read(token: str, policy: E2ePolicy, key: Key, published: Sequence[KeySet], wall_now: float) -> E2eToken | Deny:
    """The test token, or why it is none.

    Args:
        published: the key sets of the issuers. A key that stands there may sign for anybody, so it is no test key.
    """
    parsed = parse_token(token, frozenset({ALGORITHM}), TYP)
    if parsed is None:
        return _invalid("not a JWT")
    if isinstance(parsed, Deny):
        return replace(parsed, source=Source.E2E)
    said = verify(parsed, KeySet((key,), wall_now, b""))
    if isinstance(said, Deny):
        return replace(said, source=Source.E2E)
    if not isinstance(said, Mapping):
        return _invalid("signed with another key")
    if any(_stands_in(key, keyset) for keyset in published):
        return _invalid("the key of test tokens stands in an issuer's key set")
    return _checked(said, policy, wall_now)


def admit(
    token: E2eToken, policy: DegradePolicy, *, last_contact: float | None, route_allows: bool, wall_now: float
) -> Grant | Refusal:
    """What degraded mode says to somebody whom nothing but a test token proves. The rate is the caller's to spend last."""
    if policy.mode is Mode.DENY:
        return Refusal.MODE
    if not route_allows:
        return Refusal.ROUTE
    refusal = outage_refusal(policy, last_contact, wall_now)
    return refusal or Grant(Assurance.TEST, min(token.expires_at, wall_now + policy.grant_seconds))


def _checked(said: Mapping[str, Any], policy: E2ePolicy, wall_now: float) -> E2eToken | Deny:
    try:
        found = msgspec.convert(said, _Claims)
    except msgspec.ValidationError:
        return _invalid("a claim is missing, or is not what it should be")
    if found.iss != ISSUER:
        return _invalid("iss is not that of test tokens")
    if found.aud != policy.audience:
        return _invalid("aud is not this deployment")
    if not NAME.fullmatch(found.sub) or not NAME.fullmatch(found.jti):
        return _invalid("sub or jti is not a plain name")
    if not 0 < found.exp - found.iat <= MAX_LIFE_SECONDS:
        return _invalid(f"it would live longer than {MAX_LIFE_SECONDS:g} s")
    if found.iat > wall_now + LEEWAY_SECONDS:
        return _invalid("iat is in the future")
    if wall_now >= found.exp:
        return Deny(Code.TOKEN_EXPIRED, Source.E2E)
    return E2eToken(_principal(found, policy), found.jti, found.exp)


def _principal(found: _Claims, policy: E2ePolicy) -> Principal:
    return Principal(
        user_id=user_id_of(found.sub, policy.tenant),
        issuer=ISSUER,
        tenant=policy.tenant,
        permissions=policy.permissions,
        jti=found.jti,
        issued_at=found.iat,
        expires_at=found.exp,
    )


def _stands_in(key: Key, published: KeySet) -> bool:
    return any(each.material.thumbprint() == key.kid for each in published.keys)


def _invalid(detail: str) -> Deny:
    return Deny(Code.TOKEN_INVALID, Source.E2E, detail)
