"""LOCAL: what can be known of a token without asking about it. Waits for nothing but a key that is not in the set."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from doorward.core.claims import ClaimsPolicy, check, is_expired
from doorward.core.deadline import Deadline
from doorward.core.decisions import TokenKey
from doorward.core.keyset import KeySet, Parsed, UnknownKey, parse_token, unverified_claims, verify
from doorward.core.limits import Lane
from doorward.core.lru import Lru
from doorward.core.verdict import Cause, Code, Deny, Principal, Source, Unavailable
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.ports import Clock

PROOF_ENTRIES = 32_768


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What is known of a token before anybody is asked, without the token. `local` only if it is fully verified.

    `claimed`: what a JWT says of itself while there is no key set; it counts once the auth service has called the token valid,
    so that a revocation finds it by token id and session.
    """

    key: TokenKey
    lane: Lane
    is_jwt: bool
    local: Principal | None = None
    claimed: Principal | None = None


Read = Reading | Deny | Unavailable


class Subject(msgspec.Struct, frozen=True, gc=False):
    """A token and what is known of it. `repr` never shows the token."""

    token: str
    reading: Reading

    def __repr__(self) -> str:
        return f"Subject(token=..., reading={self.reading!r})"

    @property
    def key(self) -> TokenKey:
        return self.reading.key

    @property
    def local(self) -> Principal | None:
        return self.reading.local


class TokenReader:
    """Remembers what it has proven, so that a token that comes again costs one digest.

    Args:
        algorithms, typ: what a JWT may be; see `core.keyset.parse_token`.
        binding: what else a digest is made of: verdicts for another issuer or audience are other verdicts.
        needs_keys: nobody else can be asked, so that a JWT waits for the first key set.
        takes_opaque: somebody can be asked about a token that is no JWT.
    """

    def __init__(
        self,
        keys: KeysetRefresher,
        claims: ClaimsPolicy,
        clock: Clock,
        *,
        algorithms: frozenset[str],
        typ: str | None,
        binding: bytes,
        needs_keys: bool,
        takes_opaque: bool,
    ) -> None:
        self._keys = keys
        self._claims = claims
        self._clock = clock
        self._algorithms = algorithms
        self._typ = typ
        self._needs_keys = needs_keys
        self._takes_opaque = takes_opaque
        self._digest = hashlib.blake2b(binding, key=secrets.token_bytes(32), digest_size=32)
        self._proofs: Lru[TokenKey, tuple[KeySet, Reading]] = Lru(PROOF_ENTRIES)

    def key_of(self, token: str) -> TokenKey:
        """Means nothing outside this process, and is no way back to the token (RFC 7693, keyed)."""
        digest = self._digest.copy()
        digest.update(token.encode())
        return TokenKey(digest.digest())

    def proven(self, key: TokenKey, wall_now: float) -> Reading | Deny | None:
        """The proof of an earlier handshake: the signature still holds, the clock is asked again."""
        found = self._proofs.get(key)
        if found is None or found[0] is not self._keys.keyset:
            return None
        reading = found[1]
        assert reading.local is not None  # noqa: S101 - only what is verified is kept
        if is_expired(reading.local, self._claims, wall_now):
            return Deny(Code.TOKEN_EXPIRED, Source.LOCAL)
        return reading

    def read(self, token: str, key: TokenKey, waiting: Deadline) -> Read | Coroutine[Any, Any, Read]:
        """A token that is not proven yet; where keys have to be looked for first, what to await for it.

        Cancellation: a look for new keys goes on for whoever shares it.
        """
        parsed = parse_token(token, self._algorithms, self._typ)
        if isinstance(parsed, Deny):
            return parsed
        if parsed is None:
            if not self._takes_opaque:
                return Deny(Code.TOKEN_INVALID, Source.LOCAL, "it is no JWT, and nobody can be asked about it")
            return Reading(key, Lane.UNPROVEN, is_jwt=False)
        keyset = self._keys.keyset
        if keyset is not None:
            claims = verify(parsed, keyset)
            if isinstance(claims, UnknownKey):
                return self._with_newer_keys(parsed, key, keyset, waiting)
            return self._proof(claims, key, keyset)
        if self._needs_keys:
            return self._with_first_keys(parsed, key, waiting)
        return Reading(key, Lane.UNPROVEN, is_jwt=True, claimed=self._claimed(parsed))

    async def _with_first_keys(self, parsed: Parsed, key: TokenKey, waiting: Deadline) -> Read:
        await self._keys.look_again(waiting)
        keyset = self._keys.keyset
        if keyset is None:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.LOCAL, Cause.KEYSET, "no key set yet")
        claims = verify(parsed, keyset)
        if isinstance(claims, UnknownKey):
            return await self._with_newer_keys(parsed, key, keyset, waiting)
        return self._proof(claims, key, keyset)

    async def _with_newer_keys(self, parsed: Parsed, key: TokenKey, keyset: KeySet, waiting: Deadline) -> Read:
        looked = self._keys.is_definitive() or await self._keys.look_again(waiting)
        if not looked or not self._keys.is_definitive():
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.LOCAL, Cause.KEYSET, "a key that is not in the set")
        keyset = self._keys.keyset or keyset
        claims = verify(parsed, keyset)
        if isinstance(claims, UnknownKey):
            return Deny(Code.TOKEN_INVALID, Source.LOCAL, "signed with a key that the issuer does not publish")
        return self._proof(claims, key, keyset)

    def _proof(self, claims: Mapping[str, Any] | Deny, key: TokenKey, keyset: KeySet) -> Reading | Deny:
        """Args: claims: what `verify` says."""
        principal = check(claims, self._claims, self._clock.wall()) if not isinstance(claims, Deny) else claims
        if isinstance(principal, Deny):
            return principal
        reading = Reading(key, Lane.PROVEN, is_jwt=True, local=principal)
        self._proofs.put(key, (keyset, reading))
        return reading

    def _claimed(self, parsed: Parsed) -> Principal | None:
        claims = unverified_claims(parsed)
        principal = check(claims, self._claims, self._clock.wall()) if claims is not None else None
        return principal if isinstance(principal, Principal) else None
