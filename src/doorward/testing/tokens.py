"""Makes access tokens: good ones, and each kind of bad one that a verifier must tell apart."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from joserfc import jwt
from joserfc.jwk import ECKey

from doorward.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ALGORITHM = "ES256"
DEFAULT_TTL_SECONDS = 600.0


class TokenMint:
    """Signs ES256 access tokens (RFC 9068) and keeps the keys. Needs no server.

    A claim or header given as `None` is left out of the token; any other value goes in as it is, however wrong.

    Args:
        issuer: the `iss` of every token.
        audience: the `aud` of every token.
        wall: the clock behind `iat` and `exp`, in wall seconds.
    """

    def __init__(self, issuer: str, *, audience: str = "doorward", wall: Callable[[], float] = time.time) -> None:
        self.issuer = issuer
        self.audience = audience
        self._wall = wall
        self._keys: dict[str, ECKey] = {}
        self._published: list[str] = []
        self.kid = ""
        self.rotate()

    def rotate(self, *, publish: bool = True, keep_old: bool = True) -> str:
        """Sign with a new key from now on.

        Args:
            publish: put the new key into the key set; `False` is a service that signs before it publishes.
            keep_old: leave the keys of earlier tokens in the key set.

        Returns:
            The `kid` of the new key.
        """
        kid = f"key-{len(self._keys) + 1}-{secrets.token_hex(4)}"
        self._keys[kid] = ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": ALGORITHM})
        if not keep_old:
            self._published.clear()
        if publish:
            self._published.append(kid)
        self.kid = kid
        return kid

    def publish(self, kid: str) -> None:
        """Put a key that `rotate` made into the key set."""
        if kid not in self._keys:
            raise UsageError(f"no key {kid!r} was made here")
        if kid not in self._published:
            self._published.append(kid)

    def withdraw(self, kid: str) -> None:
        """Take a key out of the key set. Tokens can still be signed with it."""
        if kid in self._published:
            self._published.remove(kid)

    def key_set(self) -> dict[str, Any]:
        """The published public keys (RFC 7517)."""
        return {"keys": [self._keys[kid].as_dict(private=False) for kid in self._published]}

    def claims(
        self,
        user_id: str = "ada",
        *,
        permissions: Sequence[str] = ("chat",),
        session_id: str | None = None,
        email: str | None = None,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        age_seconds: float = 0.0,
        **overrides: Any,
    ) -> dict[str, Any]:
        """The claims of a good token. `age_seconds` moves `iat` into the past, `ttl_seconds` counts from now."""
        now = self._wall()
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": user_id,
            "email": email or f"{user_id}@example.test",
            "permissions": list(permissions),
            "sid": session_id or secrets.token_urlsafe(9),
            "jti": secrets.token_urlsafe(12),
            "iat": int(now - age_seconds),
            "exp": int(now + ttl_seconds),
        }
        return _without_none({**claims, **overrides})

    def sign(self, claims: Mapping[str, Any], *, header: Mapping[str, Any] | None = None) -> str:
        """Sign these claims with the current key."""
        return _encode({**self._header(), **(header or {})}, claims, self._keys[self.kid])

    def expired(self, user_id: str = "ada", *, expired_for_seconds: float = 60.0, **claims: Any) -> str:
        """Well signed, and out of date."""
        return self.sign(
            self.claims(user_id, ttl_seconds=-expired_for_seconds, age_seconds=expired_for_seconds + 600, **claims)
        )

    def forged(self, user_id: str = "ada", **claims: Any) -> str:
        """Names the published `kid`, signed with a stranger's key."""
        return _encode(self._header(), self.claims(user_id, **claims), _stranger())

    def unknown_kid(self, user_id: str = "ada", *, kid: str | None = None, **claims: Any) -> str:
        """Signed with a stranger's key under a `kid` that nobody published."""
        header = {**self._header(), "kid": kid or f"unknown-{secrets.token_hex(4)}"}
        return _encode(header, self.claims(user_id, **claims), _stranger())

    def with_jku(self, user_id: str = "ada", *, url: str = "https://attacker.example/jwks.json", **claims: Any) -> str:
        """Well signed, with a `jku` header that asks the verifier to fetch keys elsewhere (RFC 8725, section 3.10)."""
        return self.sign(self.claims(user_id, **claims), header={"jku": url})

    def alg_none(self, user_id: str = "ada", **claims: Any) -> str:
        """Unsigned: `alg: none` (RFC 8725, section 2.1)."""
        return _signing_input({**self._header(), "alg": "none"}, self.claims(user_id, **claims)) + "."

    def hs256_confusion(self, user_id: str = "ada", **claims: Any) -> str:
        """An HMAC whose secret is the published public key (RFC 8725, section 2.1)."""
        message = _signing_input({**self._header(), "alg": "HS256"}, self.claims(user_id, **claims))
        secret = self._keys[self.kid].as_pem(private=False)
        return f"{message}.{_base64url(hmac.new(secret, message.encode(), hashlib.sha256).digest())}"

    def tampered(self, token: str, **claims: Any) -> str:
        """The same token with other claims under the old signature."""
        header, payload, signature = token.split(".")
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return f"{header}.{_base64url_json({**content, **claims})}.{signature}"

    def _header(self) -> dict[str, Any]:
        return {"alg": ALGORITHM, "kid": self.kid, "typ": "at+jwt"}


def opaque_token() -> str:
    """A token that says nothing by itself."""
    return f"opaque-{secrets.token_urlsafe(32)}"


def _stranger() -> ECKey:
    return ECKey.generate_key("P-256")


def _encode(header: Mapping[str, Any], claims: Mapping[str, Any], key: ECKey) -> str:
    return jwt.encode(_without_none(header), _without_none(claims), key, algorithms=[ALGORITHM])


def _signing_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return f"{_base64url_json(header)}.{_base64url_json(claims)}"


def _base64url_json(content: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(content, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _without_none(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None}
