"""Requests with a JSON answer, each whole before its deadline. What is not an answer is `Unanswered`, whatever the cause."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from doorward.adapters.dns import AresDnsClient
from doorward.adapters.transport import Caps, HttpTransport
from doorward.client.errors import Unanswered
from doorward.client.meaning import header_seconds, milliseconds
from doorward.core.answer import shown
from doorward.errors import BackendError, UsageError
from doorward.runtime.clock import SystemClock
from doorward.runtime.resolver import Resolver

if TYPE_CHECKING:
    from doorward.core.deadline import Deadline

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""A page of a hundred long messages."""
CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """Any status is an answer. `content` is `None` where the body is not JSON."""

    status: int
    content: Any
    retry_after_seconds: float | None

    @property
    def code(self) -> str:
        """The word for programs: of problem details, or of OAuth's `error`."""
        for key in ("code", "error"):
            if isinstance(word := self._field(key), str) and word:
                return shown(word)
        return f"HTTP_{self.status}"

    @property
    def words(self) -> str:
        """The words for people, if there are any."""
        for key in ("detail", "message", "title"):
            if isinstance(words := self._field(key), str) and words:
                return shown(words)
        return f"the server answered {self.status}"

    def _field(self, key: str) -> object:
        return self.content.get(key) if isinstance(self.content, dict) else None


class Network:
    """The way to one server: name look-ups and connections, made at the first use. `aclose` it."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.url = base_url(url)
        self._given_tls = tls
        self._tls: ssl.SSLContext | None = tls
        self._dns: AresDnsClient | None = None
        self._resolver: Resolver | None = None
        self._transport: HttpTransport | None = None

    @property
    def is_secure(self) -> bool:
        return self.url.startswith("https:")

    @property
    def resolver(self) -> Resolver:
        if self._resolver is None:
            self._dns = AresDnsClient()
            self._resolver = Resolver(self._dns, SystemClock(), tls=self.is_secure)
        return self._resolver

    async def tls(self) -> ssl.SSLContext | None:
        """What we trust, read once and off the loop; `None` for plain HTTP."""
        if self.is_secure and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls if self.is_secure else None

    async def call(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        body: object = None,
        bearer: str | None = None,
    ) -> Answer:
        """One request.

        Raises:
            Unanswered: no whole answer before the deadline, or none at all.

        Cancellation: the connection is cut.
        """
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        try:
            answer = await (await self._connections()).request(
                method,
                self.url + path,
                headers=headers,
                body=None if body is None else msgspec.json.encode(body),
                deadline=deadline,
                caps=_caps(deadline),
                max_body_bytes=MAX_ANSWER_BYTES,
            )
        except BackendError as error:
            raise Unanswered("UNREACHABLE", str(error)) from error
        content = _parsed(answer.body)
        said = milliseconds(content.get("retry_after_ms")) if isinstance(content, dict) else None
        waits = header_seconds(answer.headers.get("Retry-After")) if said is None else said
        return Answer(answer.status, content, waits)

    async def aclose(self) -> None:
        """Close what is open. Cancellation: the next call closes the rest."""
        if self._transport is not None:
            await self._transport.aclose()
        if self._resolver is not None:
            await self._resolver.aclose()
        if self._dns is not None:
            await self._dns.aclose()
        self._transport = self._resolver = self._dns = None

    async def _connections(self) -> HttpTransport:
        tls = await self.tls()
        if self._transport is None:
            self._transport = HttpTransport(self.resolver, limit=CONNECTIONS, tls=tls, keeps=False)
        return self._transport


def base_url(url: str) -> str:
    """Scheme, host and port, and a path in front of ours if there is one; without query and fragment.

    Raises:
        UsageError: no address of a server.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    try:
        known = scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.username or parts.password:
        raise UsageError(f"{shown(url)} is no address of a chat server; write one like https://chat.example.com")
    return f"{scheme}://{parts.netloc}{parts.path.removesuffix('/ws').rstrip('/')}"


def _caps(deadline: Deadline) -> Caps:
    """The deadline is the only bound, but for one address: then the next one is tried."""
    seconds = deadline.remaining(asyncio.get_running_loop().time())
    return Caps(seconds, seconds, seconds, seconds, address_seconds=seconds / 3)


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
