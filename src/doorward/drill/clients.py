"""Clients of a drill: they open real WebSockets, note what they are told and how long it took, and never wait for ever."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from doorward.core.verdict import TABLE, Code
from doorward.drill.results import Kind, Outcome, Phase, Sample

PROTOCOL = "doorward.v1"
BEARER = "base64url.bearer.authorization.doorward."
FIRST_FRAME_SECONDS = 1.0
"""After an accepted handshake of ours the greeting or the refusal comes at once; a door that says nothing has let us in."""

UNAVAILABLE_CODES = frozenset(
    {
        Code.RATE_LIMITED,
        Code.SERVICE_UNAVAILABLE,
        Code.OVERLOADED,
        Code.INTERNAL,
        Code.RESTARTING,
        Code.AUTH_TIMEOUT,
    }
)
_DENYING_STATUS = frozenset({400, 401, 403, 407, 431})
_DENYING_CLOSE = frozenset({1008, 1009, 3000, 3003, 4401, 4403})
_TRYING_CLOSE = frozenset({1006, 1011, 1012, 1013, 1014, 3008, 4408, 4429, 4503})
_KNOWN_CODES = frozenset(row.code.value for row in TABLE)


@dataclass(frozen=True, slots=True)
class Told:
    """What a handshake came to. `status` of the HTTP answer, `close` of the close frame; `error` the words with either."""

    status: int | None = None
    close: int | None = None
    error: dict[str, Any] | None = None
    greeting: dict[str, Any] | None = None

    @property
    def code(self) -> str | None:
        code = (self.error or {}).get("code")
        return code if isinstance(code, str) and code in _KNOWN_CODES else None

    @property
    def outcome(self) -> Outcome:
        if self.code is not None:
            return Outcome.UNAVAILABLE if self.code in UNAVAILABLE_CODES else Outcome.DENY
        if self.close is not None:
            return _of_close(self.close)
        if self.status == 101:
            return Outcome.ALLOW
        return _of_status(self.status)


def _of_close(close: int) -> Outcome:
    if close in _DENYING_CLOSE:
        return Outcome.DENY
    return Outcome.UNAVAILABLE if close in _TRYING_CLOSE else Outcome.BROKEN


def _of_status(status: int | None) -> Outcome:
    if status in _DENYING_STATUS:
        return Outcome.DENY
    return Outcome.UNAVAILABLE if status is not None and (status == 429 or status >= 500) else Outcome.BROKEN


class Conversation(asyncio.Protocol):
    """One connection: the opening handshake and the first word after it."""

    def __init__(
        self, uri: WebSocketURI, token: str | None, *, browser: bool, headers: Sequence[tuple[str, str]]
    ) -> None:
        offered = [Subprotocol(PROTOCOL)]
        if browser and token is not None:
            offered.append(Subprotocol(BEARER + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()))
        scheme = "https" if uri.secure else "http"
        origin = Origin(f"{scheme}://{uri.host}:{uri.port}") if browser else None
        self.told: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self._websocket = ClientProtocol(uri, origin=origin, subprotocols=offered)
        self._request = self._websocket.connect()
        if token is not None and not browser:
            self._request.headers["Authorization"] = f"Bearer {token}"
        for name, value in headers:
            self._request.headers[name] = value
        self._transport: asyncio.Transport | None = None
        self._error: dict[str, Any] | None = None
        self._greeted: asyncio.TimerHandle | None = None
        self._asked: dict[str, asyncio.Future[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes no other
        self._transport = transport
        self._websocket.send_request(self._request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        was_open = self.accepted
        self._websocket.receive_data(data)
        self._read()
        if self.accepted and not was_open and not self.told.done():
            wait = FIRST_FRAME_SECONDS
            self._greeted = asyncio.get_running_loop().call_later(wait, self._tell, Told(status=101))
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()
        if self._greeted is not None:
            self._greeted.cancel()
        if not self.told.done():
            self._websocket.receive_eof()
            self._read()
        self._tell(Told(status=101, close=1006) if self.accepted else Told())

    @property
    def accepted(self) -> bool:
        return self._websocket.handshake_exc is None and self._websocket.state.name != "CONNECTING"

    @property
    def _is_open(self) -> bool:
        return self._websocket.state.name == "OPEN"

    @property
    def close_received(self) -> int | None:
        """The code that the other side closed with; `None`: it has not said so."""
        received = self._websocket.close_rcvd
        return received.code if received is not None else None

    @property
    def unsent_bytes(self) -> int:
        """What was said and the kernel did not take yet: the other side does not read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def ping(self, number: int, *, padding: str = "") -> asyncio.Future[None]:
        """Ask the app behind the door for a sign of life; done when it answers."""
        name = f"{padding}{number}"
        answered = self._asked[name] = asyncio.get_running_loop().create_future()
        if self._is_open:
            self._websocket.send_text(json.dumps({"id": name, "type": "ping"}).encode())
            self._flush()
        return answered

    def stop_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def leave(self) -> None:
        """Say goodbye, and close without waiting for the other side's."""
        if self._transport is None:
            return
        if self.accepted and self._is_open:
            self._websocket.send_close(1000)
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for chunk in self._websocket.data_to_send():
            if chunk:
                self._transport.write(chunk)

    def _read(self) -> None:
        refused = self._websocket.handshake_exc
        if isinstance(refused, InvalidStatus):
            self._tell(Told(status=refused.response.status_code, error=_object(bytes(refused.response.body or b""))))
        elif refused is not None:
            self._tell(Told())
        for event in self._websocket.events_received():
            if isinstance(event, Frame):
                self._frame(event)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT:
            message = _object(bytes(frame.data))
            if message.get("notice") == "auth.assurance":
                self._tell(Told(status=101, greeting=message))
            elif message.get("type") == "auth.error":
                self._error = message
            elif (answered := self._asked.pop(str(message.get("reply_to")), None)) is not None:
                answered.set_result(None)
        elif frame.opcode is Opcode.CLOSE:
            received = self._websocket.close_rcvd
            self._tell(Told(status=101, close=received.code if received else 1005, error=self._error))

    def _tell(self, told: Told) -> None:
        if not self.told.done():
            self.told.set_result(told)


class Dialer:
    """Opens handshakes at one door and writes them down.

    Args:
        url: `ws://` or `wss://` of the door.
        began: monotonic second from which `at_seconds` counts.
        give_up_seconds: no client waits longer; what it did not hear by then is `SILENT`.
        addresses: local addresses to call from, in turn; none: the system's choice.
    """

    def __init__(self, url: str, *, began: float, give_up_seconds: float, addresses: Sequence[str] = ()) -> None:
        self.url = url
        self.began = began
        self.give_up_seconds = give_up_seconds
        self.open: set[Conversation] = set()
        self._addresses: Iterator[str] | None = cycle(addresses) if addresses else None

    async def ask(
        self,
        phase: Phase,
        kind: Kind,
        token: str | None,
        *,
        browser: bool = False,
        headers: Sequence[tuple[str, str]] = (),
        hold: bool = False,
    ) -> Sample:
        """Open one handshake and wait for its answer, `give_up_seconds` at most.

        Args:
            hold: leave an accepted socket open, in `open`.

        Cancellation: the connection is cut.
        """
        loop = asyncio.get_running_loop()
        uri = parse_uri(self.url)
        began = loop.time()
        sample = Sample(phase, kind, round(began - self.began, 4), 0.0, Outcome.SILENT, browser)
        conversation = Conversation(uri, token, browser=browser, headers=headers)
        told: Told | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.give_up_seconds):
                    told = await self._converse(conversation, uri)
        finally:
            kept = hold and told is not None and told.outcome is Outcome.ALLOW
            if kept:
                self.open.add(conversation)
            elif told is None:
                conversation.abort()
            else:
                conversation.leave()
        return replace(_filled(sample, told), seconds=round(loop.time() - began, 5))

    async def _converse(self, conversation: Conversation, uri: WebSocketURI) -> Told:
        loop = asyncio.get_running_loop()
        local = (next(self._addresses), 0) if self._addresses is not None else None
        secure: Any = True if uri.secure else None
        try:
            await loop.create_connection(lambda: conversation, uri.host, uri.port, ssl=secure, local_addr=local)
        except OSError:
            return Told()
        return await conversation.told

    def leave_all(self) -> None:
        """Close every socket that was held."""
        while self.open:
            self.open.pop().leave()


def _filled(sample: Sample, told: Told | None) -> Sample:
    if told is None:
        return sample
    error, greeting = told.error or {}, told.greeting or {}
    retry = error.get("retry_after_ms")
    return replace(
        sample,
        outcome=told.outcome,
        status=told.status,
        close=told.close,
        code=told.code,
        cause=_text(error.get("cause")),
        retry_after_ms=retry if isinstance(retry, int) else None,
        assurance=_text(greeting.get("assurance")),
        degraded=greeting.get("degraded") is True,
        decision_id=_text(error.get("decision_id") or greeting.get("decision_id")),
    )


def word_of(frame: bytes) -> str:
    """The code in a frame that says why somebody is refused; nothing in any other."""
    return _text(_object(frame).get("code")) or ""


def http_address(url: str) -> tuple[str, int]:
    """Host and port behind a `ws://`, `wss://` or `http(s)://` URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme in {"wss", "https"} else 80)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
