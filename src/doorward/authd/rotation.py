"""What a presented refresh token gets: rotation, and the overlap that forgives a lost answer or a second tab. Pure.

Source: RFC 9700 section 4.14.2 (refresh token rotation and reuse detection).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "dwr_"


@dataclass(frozen=True, slots=True)
class Presented:
    """What the store knows of the token. Wall-clock seconds."""

    expires_at: float
    session_revoked: bool
    used_at: float | None = None
    successor_used: bool = False
    derivable: bool = False
    """The successor can be made again: its salt was not erased yet."""


class Outcome(StrEnum):
    ROTATE = "rotate"
    """First use: make the successor."""
    REPEAT = "repeat"
    """Used a moment ago and its successor is not: give the same successor again."""
    REUSED = "reused"
    """Used before and not forgivable: somebody else may hold it. Revoke the whole session."""
    INVALID = "invalid"
    """Unknown, expired or revoked: `invalid_grant`."""


def decide(presented: Presented | None, *, wall_now: float, overlap_seconds: float) -> Outcome:
    """The one rule of rotation."""
    if presented is None or presented.session_revoked or wall_now >= presented.expires_at:
        return Outcome.INVALID
    if presented.used_at is None:
        return Outcome.ROTATE
    recent = wall_now - presented.used_at < overlap_seconds
    if recent and presented.derivable and not presented.successor_used:
        return Outcome.REPEAT
    return Outcome.REUSED


def successor_of(token: str, salt: bytes) -> str:
    """The token that takes this one's place. Needs both the token, which is not stored, and the salt, which soon is not."""
    digest = hmac.digest(token.encode(), salt, "sha256")
    return PREFIX + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def digest_of(secret: str) -> bytes:
    """What is stored in place of a random secret. Plain SHA-256 does: there are 256 random bits to guess."""
    return hashlib.sha256(secret.encode()).digest()
