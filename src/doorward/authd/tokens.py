"""Access tokens: made with the signing key of the moment, read back against the published set.

Source: RFC 9068 (JWT profile for access tokens), RFC 8725 (best current practices).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from joserfc import jwt

from doorward.authd import keys
from doorward.authd.keys import ALGORITHM, SigningKey
from doorward.core.claims import ClaimsPolicy, check
from doorward.core.keyset import KeySet, UnknownKey, parse_keyset, parse_token, verify
from doorward.core.verdict import Deny, Principal

TYP = "at+jwt"
CLIENT_ID = "doorward"
MAX_TOKEN_CHARACTERS = 8_192


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a token speaks for."""

    user_id: str
    email: str
    permissions: tuple[str, ...]
    session_id: str


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """Not a good token of ours. `opaque`: not even a JWT. `reason` holds no foreign text."""

    reason: str
    opaque: bool = False


class Tokens:
    """Mints and reads. `use` exchanges the keys while it runs. Times are wall-clock seconds."""

    def __init__(self, *, issuer: str, audiences: Sequence[str], life_seconds: int) -> None:
        self._issuer = issuer
        self._audiences = tuple(audiences)
        self.life_seconds = life_seconds
        self._keys: tuple[SigningKey, ...] = ()
        self._parsed: KeySet | None = None

    def use(self, signing_keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(signing_keys)

    def published(self, wall_now: float) -> bytes:
        """The key set as the doors fetch it."""
        return keys.published(self._keys, wall_now)

    def mint(self, subject: Subject, *, issued_at: int, wall_now: float) -> str:
        """A signed token. Its permissions are those of now; the door asks again for live ones."""
        key = keys.signer(self._keys, wall_now)
        claims = {
            "iss": self._issuer,
            "aud": self._audiences[0] if len(self._audiences) == 1 else list(self._audiences),
            "sub": subject.user_id,
            "client_id": CLIENT_ID,
            "iat": issued_at,
            "exp": issued_at + self.life_seconds,
            "jti": secrets.token_urlsafe(16),
            "sid": subject.session_id,
            "email": subject.email,
            "permissions": list(subject.permissions),
            "scope": " ".join(subject.permissions),
        }
        header = {"alg": ALGORITHM, "kid": key.kid, "typ": TYP}
        return jwt.encode(header, claims, key.material, algorithms=[ALGORITHM])

    def read(self, token: str, *, wall_now: float, audience: str | None = None) -> Principal | Unacceptable:
        """Who the token speaks for, by signature and claims alone; whether it was revoked is the store's to say.

        Args:
            audience: must be one of the token's; `None`: any of ours.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            return Unacceptable("the token is too long", opaque=True)
        parsed = parse_token(token, frozenset({ALGORITHM}), TYP)
        if parsed is None:
            return Unacceptable("not a token of this service", opaque=True)
        claims = parsed if isinstance(parsed, Deny) else verify(parsed, self._keyset(wall_now))
        if isinstance(claims, UnknownKey):
            return Unacceptable("no such key")
        verdict = claims if isinstance(claims, Deny) else check(claims, self._policy(audience), wall_now)
        if isinstance(verdict, Deny):
            return Unacceptable(verdict.detail or verdict.reason)
        if verdict.session_id is None or verdict.jti is None or verdict.issued_at is None:
            return Unacceptable("sid, jti or iat is missing")
        return verdict

    def _keyset(self, wall_now: float) -> KeySet:
        document = self.published(wall_now)
        if self._parsed is None or self._parsed.document != document:
            self._parsed = parse_keyset(document, wall_now)
        return self._parsed

    def _policy(self, audience: str | None) -> ClaimsPolicy:
        return ClaimsPolicy(self._issuer, frozenset(self._audiences if audience is None else {audience}))


def next_issue_time(wall_now: float, not_before_ms: int | None) -> int:
    """`iat` in whole seconds, past the user's last revocation even within the same second.

    A revocation by user covers `iat` <= its time; a sign-in right after it must not be born revoked.
    """
    now = int(wall_now)
    return now if not_before_ms is None else max(now, not_before_ms // 1000 + 1)


def next_not_before(wall_now: float, previous_ms: int | None) -> int:
    """The time of a new revocation by user in milliseconds: covers every token issued so far, `next_issue_time`'s included."""
    now = int(wall_now * 1000)
    return now if previous_ms is None else max(now, (previous_ms // 1000 + 1) * 1000)
