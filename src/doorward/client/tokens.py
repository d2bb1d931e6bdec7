"""The token that opens the door, and who brings it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import msgspec

from doorward.errors import UsageError

_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. `expires_at` in wall-clock seconds, `None` where it is not known. `repr` never shows the token.

    Raises:
        UsageError: no bearer token looks like this (RFC 6750, section 2.1).
    """

    value: str
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not _B64TOKEN.fullmatch(self.value):
            raise UsageError(
                "this is no bearer token: it is empty, or holds a space, a line break or a letter beyond ASCII"
            )

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at})"


class TokenProvider(Protocol):
    """Brings access tokens. `Session` is one, `FixedToken` another; yours may ask whom it likes."""

    async def token(self, *, stale: str | None = None) -> Token:
        """A token to present.

        Args:
            stale: one that was refused, or is about to expire. Bring another. To bring the same one says that there is no other.

        Raises:
            SignedOut: the person has to sign in again. This, and only this, ends the connection.
            Exception: whatever else is raised means that nobody could be asked: it is tried again later.

        Cancellation: may come at any await; it does when the bound `Timing.token_seconds` is over.
        """
        ...


class FixedToken:
    """One token, and no way to get another: for a script that lives no longer than it."""

    def __init__(self, value: str, *, expires_at: float | None = None) -> None:
        self._token = Token(value, expires_at)

    async def token(self, *, stale: str | None = None) -> Token:  # noqa: ARG002 - there is no other
        return self._token


class User(msgspec.Struct, frozen=True):
    """Who is signed in."""

    user_id: str
    email: str | None = None
    permissions: list[str] = []


class Tokens(msgspec.Struct, frozen=True):
    """What a session is made of, as it is stored. `expires_at` in wall-clock seconds. `repr` never shows the tokens."""

    access_token: str
    refresh_token: str
    expires_at: float
    user: User | None = None

    def __repr__(self) -> str:
        return f"Tokens(expires_at={self.expires_at}, user={self.user})"
