"""Fetches the issuer's key set (RFC 7517)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from doorward.adapters.http_status import failure_of
from doorward.adapters.transport import Caps, HttpTransport
from doorward.core.deadline import Deadline
from doorward.errors import BadAnswer

MAX_KEYSET_BYTES: Final = 512 * 1024


class HttpKeySetSource:
    """A `KeySetSource`. The document is public: our own credential is not sent."""

    def __init__(
        self, transport: HttpTransport, *, url: str, caps: Caps, wall: Callable[[], float] = time.time
    ) -> None:
        self._transport = transport
        self._url = url
        self._caps = caps
        self._wall = wall

    async def fetch(self, *, deadline: Deadline) -> bytes:
        """The raw document.

        Raises:
            BackendError: could not be had.

        Cancellation: the connection is cut.
        """
        answer = await self._transport.request(
            "GET",
            self._url,
            headers={"Accept": "application/jwk-set+json, application/json"},
            deadline=deadline,
            caps=self._caps,
            max_body_bytes=MAX_KEYSET_BYTES,
        )
        if answer.status == 200:
            return answer.body
        if answer.status in (401, 403):
            raise BadAnswer(f"the key set is not public: {answer.status}; check auth.jwks_url")
        raise failure_of(answer, self._wall)
