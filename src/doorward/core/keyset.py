"""Keys of an issuer, the signature check against them, and the rule for fetching them anew.

Source: RFC 7517 (key sets), RFC 7515 (signatures), RFC 8725 (best current practices). Only public keys of asymmetric algorithms
count; an algorithm is bound to its key type; `jku`, `x5u`, `jwk`, `x5c` and unknown `crit` headers are refused.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key
from joserfc.jws import JWSRegistry

from doorward.core.verdict import Code, Deny, Source

KEY_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
"""Every algorithm that may be allowed at all. No `none`, no HMAC: a public key must never serve as a shared secret."""

CURVES: Mapping[str, tuple[str | None, ...]] = {
    "EC": ("P-256", "P-384", "P-521"),
    "OKP": ("Ed25519", "Ed448"),
    "RSA": (None,),
}
"""Curves that sign with one of these algorithms, by key type. X25519, for one, only encrypts."""

REFUSED_HEADERS = frozenset({"jku", "x5u", "jwk", "x5c", "crit", "b64", "zip"})
PLAIN_TYPES = (None, "jwt", "at+jwt")
MIN_RSA_BITS = 2_048
MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class Key:
    kid: str | None
    key_type: str
    algorithm: str | None
    material: ECKey | RSAKey | OKPKey


@dataclass(slots=True)
class KeySet:
    """The keys of the issuer. `fetched_at`, of the last fetch that brought them, in wall-clock seconds."""

    keys: Sequence[Key]
    fetched_at: float
    document: bytes

    def age(self, wall_now: float) -> float:
        return max(wall_now - self.fetched_at, 0.0)

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """Keys that may have signed: of the algorithm's type, and with this `kid` where the token names one."""
        wanted = KEY_TYPES[algorithm]
        return [
            key
            for key in self.keys
            if key.key_type == wanted and key.algorithm in (None, algorithm) and (kid is None or key.kid == kid)
        ]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A compact JWS taken apart, with a header that is acceptable. Nothing is verified yet."""

    algorithm: str
    kid: str | None
    typ: str | None
    signing_input: bytes
    signature: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """No key of the set can have signed this. Definitive only against a set that was fetched just now."""

    kid: str | None


class BadKeySet(ValueError):
    """The document is not a key set with at least one usable key. It never replaces a good one."""


def parse_keyset(document: bytes, fetched_at: float) -> KeySet:
    """Read a JWK set; keys that cannot verify anything are passed over.

    Raises:
        BadKeySet: not JSON, not a key set, or no usable key in it.
    """
    try:
        content = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadKeySet("the key set is not JSON") from error
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise BadKeySet(f"the key set has no `keys` list of at most {MAX_KEYS} entries")
    keys = [key for entry in entries if (key := _key(entry)) is not None]
    if not keys:
        raise BadKeySet("the key set has no key that can verify a signature")
    return KeySet(keys, fetched_at, document)


def parse_token(token: str, algorithms: frozenset[str], typ: str | None) -> Parsed | Deny | None:
    """Take a compact JWS apart. `None`: this is no JWT at all, so an opaque token. `Deny`: a JWT that can never be good.

    Args:
        algorithms: the allow-list.
        typ: required `typ` header (RFC 9068: at+jwt); `None` takes JWT, at+jwt and a token without one.

    Source: RFC 8725, section 3.11: a JWT made for something else, such as a logout token, must not pass for an access token.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    header = _header(parts[0])
    if header is None or "alg" not in header:
        return None
    refused = REFUSED_HEADERS & header.keys()
    algorithm, kid = header["alg"], header.get("kid")
    payload, signature = _base64url(parts[1]), _base64url(parts[2])
    if not isinstance(algorithm, str) or algorithm not in algorithms or algorithm not in KEY_TYPES:
        return _invalid("alg is not allowed")
    if refused:
        return _invalid(f"the header {min(refused)} is not allowed")
    if kid is not None and not isinstance(kid, str):
        return _invalid("kid is not a string")
    found = _media_type(header.get("typ"))
    if found not in (PLAIN_TYPES if typ is None else (_media_type(typ),)):
        return _invalid("typ is not an accepted one")
    if payload is None or not signature:
        return _invalid("the token is not base64url")
    return Parsed(algorithm, kid, found, f"{parts[0]}.{parts[1]}".encode(), signature, payload)


def verify(parsed: Parsed, keyset: KeySet) -> Mapping[str, Any] | UnknownKey | Deny:
    """Check the signature; the claims if it holds."""
    keys = keyset.candidates(parsed.kid, parsed.algorithm)
    if not keys:
        return UnknownKey(parsed.kid)
    if not any(_signed_by(key, parsed) for key in keys):
        return _invalid("the signature does not hold") if parsed.kid is not None else UnknownKey(None)
    claims = _json_object(parsed.payload)
    return claims if claims is not None else _invalid("the claims are not a JSON object")


def unverified_claims(parsed: Parsed) -> Mapping[str, Any] | None:
    """What the token says of itself. To be believed only once the auth service has called this very token valid."""
    return _json_object(parsed.payload)


def unproven_payload(token: str) -> bytes | None:
    """What any JWT says of itself, however bad it is; nothing where it is no base64. `None`: no JWT, as `parse_token` sees it."""
    parts = token.split(".")
    header = _header(parts[0]) if len(parts) == 3 else None
    if header is None or "alg" not in header:
        return None
    try:
        return base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        return b""


class Refetch:
    """When a key that we do not know is worth one more look at the issuer's key set.

    One start per `every_seconds`, whoever asks: a flood of made-up `kid`s costs the issuer nothing.
    """

    def __init__(self, *, every_seconds: float = 30.0, fresh_seconds: float = 30.0) -> None:
        self.every_seconds = every_seconds
        self.fresh_seconds = fresh_seconds
        self._started_at: float | None = None

    def may_start(self, now: float) -> bool:
        return self._started_at is None or now - self._started_at >= self.every_seconds

    def started(self, now: float) -> None:
        self._started_at = now

    def is_definitive(self, keyset: KeySet, wall_now: float) -> bool:
        """Was the set fetched so recently that a key missing from it does not exist?"""
        return 0 <= wall_now - keyset.fetched_at <= self.fresh_seconds


def _invalid(detail: str) -> Deny:
    return Deny(Code.TOKEN_INVALID, Source.LOCAL, detail)


def _key(entry: object) -> Key | None:
    """A usable public key, or `None`. A private or symmetric key in a published set is no key to trust."""
    if not isinstance(entry, dict) or "d" in entry:
        return None
    key_type, algorithm, kid = entry.get("kty"), entry.get("alg"), entry.get("kid")
    if not isinstance(key_type, str) or not all(isinstance(text, str | None) for text in (algorithm, kid)):
        return None
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if algorithm is not None and KEY_TYPES.get(algorithm) != key_type:
        return None
    if entry.get("crv") not in CURVES.get(key_type, ()) or (key_type == "RSA" and _rsa_bits(entry) < MIN_RSA_BITS):
        return None
    try:
        material = import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return Key(kid, key_type, algorithm, cast("ECKey | RSAKey | OKPKey", material))


def _rsa_bits(entry: Mapping[str, Any]) -> int:
    """Asked before the key is made: a small one is not worth joserfc's warning."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(f"{entry['n']}==")).bit_length()
    except (KeyError, ValueError):
        return 0


def _signed_by(key: Key, parsed: Parsed) -> bool:
    algorithm = JWSRegistry.algorithms[parsed.algorithm]
    try:
        algorithm.check_key(key.material)
        return algorithm.verify(parsed.signing_input, parsed.signature, key.material)
    except (JoseError, ValueError):
        return False


@lru_cache(maxsize=256)
def _header(text: str) -> Mapping[str, Any] | None:
    """All tokens of an issuer that were signed with one key begin with one and the same header."""
    return _json_object(_base64url(text))


def _base64url(text: str) -> bytes | None:
    """The bytes, if this is the one way to write them: a second spelling of a token would slip past a bar on the first."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text else None


def _json_object(document: bytes | None) -> dict[str, Any] | None:
    if document is None:
        return None
    try:
        content = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def _media_type(typ: object) -> str | None:
    """`None` if there is none; what is no text is no type."""
    if typ is None:
        return None
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""
