"""An admitted HTTP request: the response may be a stream of hours, so the door stays with it as with a socket.

An event stream (`text/event-stream`) is ended with a last event, `auth.error`. Any other response that may not go on is cut, so
that nobody takes a part for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from doorward.asgi.denial import SEND_SECONDS, Refusal
from doorward.asgi.session import AdmittedConnection, ClientDisconnected, Surroundings
from doorward.asgi.types import Message, Receive, Scope, Send
from doorward.core.session import Close, Effect
from doorward.core.verdict import Code, Deny, Source, Unavailable
from doorward.runtime.log import get_logger

PREFLIGHT_SECONDS = 600
_ENDS_OF_EVENT = (b"\n\n", b"\r\r", b"\n\r", b"\n\r\n", b"\r\r\n")
"""An end of line and an empty line; each line ends as it likes (HTML, section 9.2.5)."""
_LONGEST_END = 3

log = get_logger("doorward")


class AdmittedExchange(AdmittedConnection, eq=False):
    """Stands between the server and the app for one request.

    Who is revoked, or refused late, is cut off at once. Where only the time is up (the token ran out, the door drains) an event
    stream is ended at once too, and any other response gets `session.app_exit_seconds` to come to its own end.
    """

    token: str = ""
    """That it came in with. Never for a log, nor for the app."""
    _is_stream: bool = False
    _last_bytes: bytes = b"\n\n"
    """Of the body, whatever chunks they came in."""
    _sending: bool = False
    _trailers: bool = False
    _completed: bool = False
    _is_up: bool = False

    @classmethod
    def let_in(cls, shared: Surroundings, scope: Scope, receive: Receive, send: Send, **admitted: Any) -> Self:
        exchange = super().let_in(shared, scope, receive, send, **admitted)
        exchange.token = admitted["subject"].token
        return exchange

    def revoke(self) -> None:
        self.session.closed()
        self._cut(Deny(Code.TOKEN_REVOKED, Source.REVOKED))

    async def receive(self) -> Message:
        """The app's `receive`; after a forced end comes a disconnect."""
        if self._closing is None and not self._over:
            event = await self._next_event()
            if event is not None:
                if event["type"] == "http.disconnect":
                    self.gone()
                return event
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The app's `send`.

        Raises:
            ClientDisconnected: the door has ended the response, or the client has left.
        """
        if self._closing is not None or (self._over and not self._completed):
            raise ClientDisconnected("the response is ended")
        if message["type"] == "http.response.start":
            self._accepted = True
            self._is_stream = _is_event_stream(message)
            self._trailers = bool(message.get("trailers"))
        elif body := message.get("body"):
            self._last_bytes = (self._last_bytes + body[-_LONGEST_END:])[-_LONGEST_END:]
        self._sending = True
        try:
            await self._server_send(message)
        finally:
            self._sending = False
        if _is_last(message, trailers=self._trailers):
            self._completed = True
            self.gone()

    async def drain(self, refusal: Unavailable, *, extra_waiting: int) -> None:  # noqa: ARG002 - a request is no crowd
        self._end(refusal)

    def _perform(self, effects: Sequence[Effect]) -> None:
        """A request is told nothing before its end."""
        for effect in effects:
            if isinstance(effect, Close):
                self._end(effect.refusal)
        self._arm()

    def _end(self, refusal: Deny | Unavailable) -> None:
        if refusal.code is Code.TOKEN_REVOKED or self._is_stream:
            self._cut(refusal)
        elif not self._is_up and not self._over:
            self._is_up = True
            self._exits += (self._loop.call_later(self._shared.app_exit_seconds, self._cut, refusal),)

    def _cut(self, refusal: Deny | Unavailable) -> None:
        if self._closing is None and not self._over:
            self._begin_close(refusal)
            self._shared.spawn(self._close(self._refusal(refusal)), "close")

    async def _say_close(self, wire: Refusal) -> None:
        if not self._accepted:
            await self._shared.denier.deny(self.scope, self._server_send, wire)
        elif self._is_stream and self._last_bytes.endswith(_ENDS_OF_EVENT) and not self._sending:
            await self._say_last(wire)
        else:
            self._abort()

    async def _say_last(self, wire: Refusal) -> None:
        """An `EventSource` comes back by itself after `retry`; a client of ours reads the code."""
        retry = f"retry: {wire.retry_after_ms}\n" if wire.retry_after_ms is not None else ""
        event = f"{retry}event: auth.error\ndata: {wire.frame()}\n\n"
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._server_send({"type": "http.response.body", "body": event.encode(), "more_body": False})
        except (TimeoutError, OSError, RuntimeError):
            self._abort()

    def _abort(self) -> None:
        """At once where the server lets us; elsewhere the server does it when the app has left."""
        abort = self.scope.get("extensions", {}).get("doorward", {}).get("abort")
        if abort is not None:
            abort()


def is_preflight(scope: Scope) -> bool:
    """Does a browser ask whether a page of another origin may make a request (Fetch, "CORS-preflight request")?"""
    asks = _header(scope, b"access-control-request-method") is not None
    return scope["method"] == "OPTIONS" and asks and _header(scope, b"origin") is not None


async def answer_preflight(scope: Scope, send: Send) -> None:
    """Yes: the request itself then needs a credential. Whether the page may read the answer is the app's to say."""
    headers = [
        (b"access-control-allow-origin", _header(scope, b"origin") or b"null"),
        (b"access-control-allow-methods", _header(scope, b"access-control-request-method") or b"GET"),
        (b"access-control-allow-headers", _header(scope, b"access-control-request-headers") or b"authorization"),
        (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
        (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)


def _is_event_stream(start: Message) -> bool:
    kinds = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return bool(kinds) and kinds[0].partition(b";")[0].strip().lower() == b"text/event-stream"


def _is_last(message: Message, *, trailers: bool) -> bool:
    if message["type"] == "http.response.trailers":
        return not message.get("more_trailers", False)
    if message["type"] == "http.response.body":
        return not message.get("more_body", False) and not trailers
    return bool(message["type"] == "http.response.pathsend")
