"""The port to one connection, and its adapter: one WebSocket, opened before a deadline and closed within a bound."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

import aiohappyeyeballs
import websockets
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from doorward.client.meaning import NO_STATUS, Reason, of_answer
from doorward.client.wire import SUBPROTOCOL
from doorward.core.credential import BEARER_PREFIX
from doorward.core.verdict import Action
from doorward.errors import DoorwardError, ResolveError

if TYPE_CHECKING:
    from doorward.client.http import Network
    from doorward.core.deadline import Deadline

Carrier = Literal["header", "subprotocol"]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
NEXT_ADDRESS_SECONDS = 0.25
"""RFC 8305, section 5."""
USER_AGENT = "doorward"

_SILENT = logging.Logger("doorward.client.line", logging.CRITICAL + 1)  # noqa: LOG001 - outside the hierarchy, where no setting reaches it
"""websockets logs whole requests at DEBUG, and ours hold a token."""


class LineClosed(Exception):
    """The other side closed it, or it broke."""

    def __init__(self, code: int = NO_STATUS, reason: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason


class NotOpened(DoorwardError):
    """No connection came of it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


class Line(Protocol):
    """One open connection."""

    async def send(self, text: str) -> None:
        """Raises `LineClosed`."""
        ...

    async def receive(self) -> str:
        """The next message. Raises `LineClosed`."""
        ...

    def abort(self) -> None:
        """Break it off at once; `receive` and `send` end."""
        ...

    async def aclose(self) -> None:
        """Close it politely, within a bound. Twice is once. Cancellation: it is broken off."""
        ...


class Dial(Protocol):
    """Opens lines."""

    async def __call__(self, token: str, *, deadline: Deadline) -> Line:
        """A line that the server has accepted; what the door says comes over it.

        Raises:
            NotOpened: it could not be opened, or was refused.

        Cancellation: leaves nothing open.
        """
        ...


class WebSocketDial:
    """Over TCP, with TLS where the address says so. Proxies of the environment are not used, redirects not followed.

    Args:
        carrier: where the token goes: `Authorization`, or a subprotocol, as browsers do it; for proxies that take the header away.
    """

    def __init__(self, network: Network, *, path: str = "/ws", carrier: Carrier, close_seconds: float) -> None:
        self._network = network
        self._url = "ws" + network.url.removeprefix("http") + path
        self._carrier: Carrier = carrier
        self._close_seconds = close_seconds

    async def __call__(self, token: str, *, deadline: Deadline) -> Line:
        try:
            async with asyncio.timeout_at(deadline.at):
                return WebSocketLine(await self._open(token, deadline))
        except TimeoutError:
            raise NotOpened(_ours("CONNECT_TIMEOUT", "no answer in time")) from None
        except InvalidStatus as refused:
            answer = refused.response
            raise NotOpened(
                of_answer(answer.status_code, answer.headers.get("Retry-After"), bytes(answer.body or b""))
            ) from None
        except ssl.SSLError as error:
            words = getattr(error, "verify_message", None) or error.reason or "no TLS connection"
            raise NotOpened(_ours("TLS_FAILED", str(words))) from error
        except ResolveError as error:
            raise NotOpened(_ours("CONNECT_FAILED", str(error))) from error
        except (InvalidMessage, EOFError):
            raise NotOpened(_ours("CONNECT_FAILED", "the server closed the connection without an answer")) from None
        except InvalidHandshake:
            raise NotOpened(_ours("CONNECT_FAILED", "what answers there speaks no WebSocket")) from None
        except (OSError, RuntimeError, ValueError) as error:  # uvloop's are RuntimeErrors; a redirect is a ValueError
            raise NotOpened(_ours("CONNECT_FAILED", _in_words(error))) from error

    async def _open(self, token: str, deadline: Deadline) -> websockets.ClientConnection:
        tls = await self._network.tls()
        connected = await self._tcp(deadline)
        offered = [SUBPROTOCOL]
        headers = {}
        if self._carrier == "subprotocol":
            offered.append(BEARER_PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("="))
        else:
            headers["Authorization"] = f"Bearer {token}"
        try:
            return await websockets.connect(
                self._url,
                sock=connected,
                ssl=tls,
                subprotocols=[websockets.Subprotocol(name) for name in offered],
                additional_headers=headers,
                user_agent_header=USER_AGENT,
                compression=None,
                open_timeout=None,  # ours is around it
                ping_interval=None,  # the application is asked, not only its server
                close_timeout=self._close_seconds,
                max_size=MAX_MESSAGE_BYTES,
                logger=_SILENT,
            )
        except BaseException:
            connected.close()
            raise

    async def _tcp(self, deadline: Deadline) -> socket.socket:
        parts = urlsplit(self._url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        addresses = await self._network.resolver.resolve(parts.hostname or "", deadline=deadline)
        infos = [(each.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each.host, port)) for each in addresses]
        return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)


class WebSocketLine:
    """A `Line` over the websockets library."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    async def receive(self) -> str:
        try:
            while True:
                message = await self._connection.recv()
                if isinstance(message, str):
                    return message
        except ConnectionClosed as closed:
            raise _closed(closed) from None

    def abort(self) -> None:
        self._connection.transport.abort()

    async def aclose(self) -> None:
        try:
            with suppress(TimeoutError):
                await self._connection.close()
        finally:
            self.abort()


def _closed(closed: ConnectionClosed) -> LineClosed:
    return LineClosed() if closed.rcvd is None else LineClosed(closed.rcvd.code, closed.rcvd.reason)


def _in_words(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else type(error).__name__


def _ours(code: str, detail: str) -> Reason:
    return Reason(code, Action.RETRY, detail=detail)
