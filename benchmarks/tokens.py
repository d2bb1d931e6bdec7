"""Access tokens for the generator, minted before anything is measured: one header line for each handshake."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

from doorward.testing import TokenMint

ISSUER = "https://issuer.example"
USER_ID = "ada"
TTL_SECONDS = 24 * 3600.0


class Purse:
    """Tokens of one mint, and the key set that they are checked against, as files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.key_set = folder / "jwks.json"
        self._mint = TokenMint(ISSUER)
        self._folder = folder
        self._numbers = itertools.count()
        self.key_set.write_text(json.dumps(self._mint.key_set()))

    def token(self, user_id: str = USER_ID) -> str:
        return self._mint.sign(self._mint.claims(user_id, ttl_seconds=TTL_SECONDS))

    def carried(self) -> str:
        """A token as a browser carries it in a subprotocol."""
        return base64.urlsafe_b64encode(self.token().encode()).rstrip(b"=").decode()

    def header_lines(self, count: int) -> Path:
        """A file with a header line for each of so many tokens, no two alike."""
        path = self._folder / f"headers-{next(self._numbers)}.txt"
        path.write_text("".join(f"Authorization: Bearer {self.token()}\n" for _ in range(count)))
        return path
