"""REVOKED, CACHE: what the door remembers that others have said of a token. Read on every handshake, written by live answers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace

from doorward.core.answer import Invalid, Valid
from doorward.core.claims import ClaimsPolicy, merged
from doorward.core.decisions import Entry, VerdictCache
from doorward.core.unverified import expected_audience
from doorward.core.verdict import Code, Deny, Principal, Source
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock
from doorward.runtime.token_reader import Reading, Subject

OPAQUE_BAR_SECONDS = 3600.0


class Known:
    """The verdict cache, the revocations and the bars, asked together.

    Args:
        audiences: those that are accepted; a bar holds for the issuer and the one of them that was asked for.
    """

    def __init__(
        self, cache: VerdictCache, memory: NodeMemory, claims: ClaimsPolicy, *, audiences: Sequence[str], clock: Clock
    ) -> None:
        self.cache = cache
        self.memory = memory
        self._claims = claims
        self._audiences = audiences
        self._clock = clock

    def entry(self, reading: Reading) -> Entry | None:
        """The last live *valid*; not one from a time without a key set, if the claims now say more, or somebody else."""
        entry, local = self.cache.known(reading.key), reading.local
        if entry is None or local is None:
            return entry
        said = entry.admission.principal
        same = said.user_id == local.user_id and said.jti == local.jti and said.issued_at == local.issued_at
        return entry if same else None

    def principal(self, reading: Reading) -> Principal | None:
        """Who the token is about, without asking: its claims, with the session and the expiry that were said of it live.

        The permissions are those of the claims; an opaque token has only what was said of it.
        """
        entry = self.entry(reading)
        if entry is None or reading.local is None:
            return reading.local if entry is None else entry.principal
        return replace(entry.principal, permissions=reading.local.permissions)

    def revoked(self, reading: Reading, entry: Entry | None) -> Deny | None:
        """Args: entry: that of this reading."""
        principal = reading.local if entry is None else entry.admission.principal
        if principal is None:
            return None
        revoked = self.memory.revocations.is_revoked(principal, None if entry is None else entry.validated_at)
        return Deny(Code.TOKEN_REVOKED, Source.REVOKED) if revoked else None

    def validated_at(self, reading: Reading) -> float | None:
        """When we last asked about a token that was then called valid: wall-clock seconds. Stands in for a missing `iat`."""
        entry = self.entry(reading)
        return entry.validated_at if entry is not None else None

    def is_barred(self, subject: Subject, wall: float) -> bool:
        """Was it refused live before?"""
        return self.memory.bars.holds(self._bar(subject), wall)

    def mismatch(self, reading: Reading, answer: Valid | Invalid) -> str | None:
        """What is wrong with an answer that is not about this token; it must not be learned."""
        if isinstance(answer, Valid) and merged(reading.local, answer, self._claims) is None:
            return "the answer names another user or session than the token"
        return None

    async def learn_invalid(self, subject: Subject) -> None:
        """Bar it, here and on disk. The write is bounded by the store itself."""
        wall = self._clock.wall()
        self.cache.put_invalid(subject.key, now=self._clock.monotonic())
        expires_at = subject.local.expires_at if subject.local is not None else None
        until = max(expires_at, wall) if expires_at else wall + OPAQUE_BAR_SECONDS
        await self.memory.bar(self._bar(subject), until + self._claims.expiry_leeway_seconds, subject.reading.lane)
        await self.memory.contact()

    async def learn_valid(self, subject: Subject, answer: Valid, asked_at: float) -> Principal:
        """Who it is. Lifts a bar.

        Args:
            asked_at: wall-clock second at which the question went out.
        """
        reading, claims = subject.reading, self._claims
        principal = merged(reading.local or reading.claimed, answer, claims) or merged(reading.local, answer, claims)
        assert principal is not None  # noqa: S101 - a mismatch was refused as a complaint
        now = self._clock.monotonic()
        self.cache.put_valid(reading.key, principal, now=now, wall_now=asked_at, hint_seconds=answer.cache_seconds)
        await self.memory.lift(self._bar(subject))
        await self.memory.contact()
        return principal

    def _bar(self, subject: Subject) -> bytes:
        """What a refusal is remembered by. Of a JWT without its signature: an ECDSA signature has a twin that holds too."""
        token = subject.token
        signed = f"jwt\0{token.rpartition('.')[0]}" if subject.reading.is_jwt else f"opaque\0{token}"
        audience = expected_audience(token, self._audiences, self._claims.audience_claim)
        refused = f"{self._claims.issuer}\0{audience}\0{signed}".encode()
        return hmac.digest(self.memory.key, hashlib.sha256(refused).digest(), "sha256")
