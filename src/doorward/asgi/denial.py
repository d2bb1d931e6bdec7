"""A refusal on the wire: an HTTP response, or accept and close, as the table says.

Browsers cannot read the HTTP status of a refused handshake, so a client of ours behind an allowed origin is let in for one frame.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from doorward.asgi.types import Scope, Send
from doorward.core.credential import offers_ours, real_protocols
from doorward.core.reconnect import Crowd, retry_after
from doorward.core.verdict import Action, Code, Deny, Row, Unavailable, close_code, close_reason, row_of
from doorward.runtime.bounded import promptly
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock

SEND_SECONDS = 1.0
LINGER_SECONDS = 1.0
PRIVATE_CLOSE = 4000
PROBLEM_TYPE = "https://doorward.dev/problems/"
_SHED_CODES = frozenset({Code.RATE_LIMITED, Code.OVERLOADED})

log = get_logger("doorward")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal with everything that the wire needs. `retry_after_ms` is `None` where waiting mends nothing."""

    row: Row
    decision_id: str
    retry_after_ms: int | None
    close: int

    @property
    def reason(self) -> str:
        return close_reason(self.row.code, self.decision_id, self.retry_after_ms)

    @property
    def private_close(self) -> int:
        """As in the style `http` (RFC 6455, section 7.4.2: 4000 and up are for private use), for a server that sends no other."""
        return PRIVATE_CLOSE + (self.row.http or 0)

    def frame(self) -> str:
        """The last text frame to a client of ours."""
        return encoded(
            {
                "type": "auth.error",
                "code": self.row.code,
                "cause": self.row.cause,
                "retry_after_ms": self.retry_after_ms,
                "action": self.row.action,
                "decision_id": self.decision_id,
            }
        )

    def problem(self) -> bytes:
        """RFC 9457 problem details."""
        body: dict[str, Any] = {
            "type": PROBLEM_TYPE + self.row.code.lower().replace("_", "-"),
            "title": self.row.situation,
            "status": self.row.http,
            "code": self.row.code,
            "decision_id": self.decision_id,
        }
        if self.row.cause is not None:
            body["cause"] = self.row.cause
        if self.retry_after_ms is not None:
            body["retry_after_ms"] = self.retry_after_ms
        return msgspec.json.encode(body)


class Denier:
    """Writes refusals, and spreads the crowd that is told to wait."""

    def __init__(
        self,
        *,
        clock: Clock,
        uniform: Callable[[], float],
        style: Literal["iana", "http"],
        mode: Literal["auto", "http", "close"],
        max_lingering: int,
        reconnect_rate_per_second: float,
    ) -> None:
        self.lingering = 0
        self._clock = clock
        self._uniform = uniform
        self._style: Literal["iana", "http"] = style
        self._mode = mode
        self._max_lingering = max_lingering
        self._rate = reconnect_rate_per_second
        self._crowd = Crowd()

    def refusal(
        self, verdict: Deny | Unavailable, decision_id: str, *, extra_waiting: int = 0, stays: bool = False
    ) -> Refusal:
        """Args:
        extra_waiting: clients that are about to be told to wait too, when draining.
        stays: the client stays connected, and is none of those that come back.
        """
        row = row_of(verdict)
        if row.retry_seconds is not None and not stays and row.code is not Code.RATE_LIMITED:
            self._crowd.told_to_wait(self._clock.monotonic())  # one address that asks too often is no crowd
        return Refusal(row, decision_id, self._retry_after_ms(verdict, row, extra_waiting), self.code_of(verdict))

    def code_of(self, verdict: Deny | Unavailable) -> int:
        """The close code in the configured style."""
        return close_code(row_of(verdict), style=self._style)

    async def deny(self, scope: Scope, send: Send, refusal: Refusal, *, may_accept: bool = True) -> None:
        """Refuse a handshake that is not accepted yet. Bounded: a peer that does not read is cut.

        Args:
            may_accept: the origin is one that may be let in for a frame.
        """
        try:
            await promptly(self._deny(scope, send, refusal, may_accept=may_accept), SEND_SECONDS)
        except (TimeoutError, OSError, RuntimeError):
            log.debug("the refusal could not be sent", id=refusal.decision_id)

    async def _deny(self, scope: Scope, send: Send, refusal: Refusal, *, may_accept: bool) -> None:
        if scope["type"] == "http":
            await _respond(send, refusal, "http.response", readable_by(scope) if may_accept else ())
        elif may_accept and self._accepts_first(scope, refusal):
            await self._close(scope, send, refusal, ours=True)
        elif "websocket.http.response" in scope.get("extensions", {}) and refusal.row.http is not None:
            await _respond(send, refusal, "websocket.http.response")
        elif may_accept and self._would_mislead(refusal):
            await self._close(scope, send, refusal, ours=False)
        else:
            await send({"type": "websocket.close", "code": refusal.close, "reason": refusal.reason})

    async def say_and_close(self, scope: Scope, send: Send, refusal: Refusal, *, ours: bool) -> None:
        """Close an accepted socket: the error frame for a client of ours, the close frame, and the end of the connection."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if ours:
                    await send({"type": "websocket.send", "text": refusal.frame()})
                await _send_close(send, refusal)
        except (TimeoutError, OSError, RuntimeError):
            pass  # the peer is gone, or does not read: it is cut below
        abort = scope.get("extensions", {}).get("doorward", {}).get("abort")
        if abort is not None:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, abort)

    def _accepts_first(self, scope: Scope, refusal: Refusal) -> bool:
        if not self._may_close(refusal):
            return False
        subprotocols = scope.get("subprotocols", ())
        speaks = offers_ours(subprotocols) and bool(real_protocols(subprotocols))
        is_browser = any(name == b"origin" for name, _ in scope["headers"])
        return speaks and (is_browser or self._mode == "close")

    def _would_mislead(self, refusal: Refusal) -> bool:
        """Without the extension a server answers every refusal with 403, and whoever should come back takes that for a no."""
        return refusal.row.action is Action.RETRY and self._may_close(refusal)

    def _may_close(self, refusal: Refusal) -> bool:
        if refusal.row.close is None or self._mode == "http":
            return False
        return refusal.row.code not in _SHED_CODES or self.lingering < self._max_lingering

    async def _close(self, scope: Scope, send: Send, refusal: Refusal, *, ours: bool) -> None:
        self.lingering += 1
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._one_less)
        protocol = next(iter(real_protocols(scope.get("subprotocols", ()))), None)
        await send({"type": "websocket.accept", "subprotocol": protocol, "headers": []})
        await self.say_and_close(scope, send, refusal, ours=ours)

    def _one_less(self) -> None:
        self.lingering -= 1

    def _retry_after_ms(self, verdict: Deny | Unavailable, row: Row, extra_waiting: int) -> int | None:
        if row.retry_seconds is None:
            return None
        seconds = retry_after(
            row.retry_seconds,
            waiting=self._crowd.waiting(self._clock.monotonic()) + extra_waiting,
            rate_per_second=self._rate,
            uniform=self._uniform(),
            asked_seconds=verdict.retry_after_seconds if isinstance(verdict, Unavailable) else None,
        )
        return int(seconds * 1000)


async def _send_close(send: Send, refusal: Refusal) -> None:
    """Raises: TimeoutError, OSError, RuntimeError: the peer is gone, or does not read."""
    try:
        await send({"type": "websocket.close", "code": refusal.close, "reason": refusal.reason})
    except (TimeoutError, OSError, RuntimeError):
        raise
    except Exception as error:  # noqa: BLE001 - daphne sends no code below 3000, and says so by no class of its own
        log.debug("the server does not send this close code", code=refusal.close, error=str(error))
        await send({"type": "websocket.close", "code": refusal.private_close, "reason": refusal.reason})


async def _respond(send: Send, refusal: Refusal, event: str, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """An HTTP response, by `event`: the ASGI messages of a request, or of the denial extension."""
    body = refusal.problem()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *more,
    ]
    if refusal.retry_after_ms is not None:
        headers.append((b"retry-after", str(math.ceil(refusal.retry_after_ms / 1000)).encode()))
    if refusal.row.http == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": f"{event}.start", "status": refusal.row.http or 403, "headers": headers})
    await send({"type": f"{event}.body", "body": body, "more_body": False})


def readable_by(scope: Scope) -> Sequence[tuple[bytes, bytes]]:
    """Let a page of an allowed origin read why it was refused (Fetch, "CORS protocol")."""
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    return [(b"access-control-allow-origin", origins[0]), (b"vary", b"origin")] if len(origins) == 1 else ()


def encoded(message: dict[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
