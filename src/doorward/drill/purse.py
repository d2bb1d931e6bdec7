"""The tokens of a play: fresh ones of each kind, and those that were prepared before the fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import count

from doorward.drill.results import Kind
from doorward.testing import FakeAuthService, opaque_token

RESERVE = 200
"""Tokens signed with the old key before a rotation."""


class Purse:
    """Hands out tokens. Warm, rejected and revoked ones go round; every other one is new."""

    def __init__(self, auth: FakeAuthService) -> None:
        self.refusable: set[str] = set()
        """Tokens that a look at the key set refuses."""
        self._auth = auth
        self._numbers = count(1)
        self._prepared: dict[Kind, deque[str]] = {}
        self._signed_before: deque[str] | None = None

    def take(self, kind: Kind) -> str | None:
        """A token of this kind; `None` is no token at all."""
        prepared = self._prepared.get(kind)
        if prepared:
            prepared.rotate()
            return prepared[0]
        user = f"user-{next(self._numbers)}"
        match kind:
            case Kind.NO_TOKEN:
                return None
            case Kind.STRANGER:
                return opaque_token()
            case Kind.OPAQUE | Kind.WARM_OPAQUE:
                return self._auth.issue_opaque(user)
            case Kind.FORGED:
                return self._refusable(self._auth.mint.forged(user))
            case Kind.EXPIRED:
                return self._refusable(self._auth.mint.expired(user))
            case Kind.JWT if self._signed_before:
                return self._signed_before.popleft()
        return self._auth.issue(user)

    def prepare(self, kind: Kind, number: int) -> Sequence[str]:
        """Make so many; from now on these are the ones of their kind."""
        tokens = [token for token in (self.take(kind) for _ in range(number)) if token is not None]
        self._prepared[kind] = deque(tokens)
        return tokens

    def prepare_revoked(self, number: int) -> Sequence[str]:
        """Good tokens that are revoked at once."""
        names = [f"jti-{next(self._numbers)}" for _ in range(number)]
        tokens = [self._auth.issue(f"leaver-{name}", jti=name) for name in names]
        for name in names:
            self._auth.revoke(jti=name)
        self._prepared[Kind.REVOKED] = deque(tokens)
        return tokens

    def rotate(self) -> None:
        """New tokens are signed with a new key; `JWT` still means one signed with the old."""
        self._signed_before = deque(self._auth.issue(f"user-{next(self._numbers)}") for _ in range(RESERVE))
        self._auth.rotate_key()

    def _refusable(self, token: str) -> str:
        self.refusable.add(token)
        return token
