"""uvicorn's own WebSocket protocol, which always answers an upgrade and lets a peer read why it is closed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from doorward.asgi.opening import Cut, OpeningWatch, Stage
from doorward.asgi.server_answers import MALFORMED, RESTARTING
from doorward.core.limits import network_of
from doorward.core.verdict import Code

if TYPE_CHECKING:
    from asyncio.transports import BaseTransport

    from uvicorn._types import ASGISendEvent
    from uvicorn.config import Config
    from uvicorn.server import ServerState

_UNSENT_BYTES = 16_384
"""What the kernel has not taken, and a message more: past it the application waits. A stalled peer costs this, not 64 KiB."""

_ABNORMAL_CLOSURE = 1006
_SERVICE_RESTART = 1012
_TRY_AGAIN_LATER = 1013


class DoorwardWebSocketProtocol(WebSocketsSansIOProtocol):
    """A connection after the switch. `open` always ends in a scope or in an answer, within the call.

    The application finds `scope["extensions"]["doorward"]["abort"]`: closes the TCP connection at once, for a peer that
    does not answer a close frame.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], *, watch: OpeningWatch
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.watch = watch
        self.address = ""
        self._discards = False
        self._discarded_bytes = 0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self.address = network_of(self.client[0]) if self.client else ""
        self.watch.counters.websockets += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.counters.connections -= 1
        self.watch.counters.websockets -= 1
        self.watch.forget(self)
        super().connection_lost(exc)
        self.conn.parser.close()  # it holds on to `conn`: so nothing of the connection waits for the garbage collector

    def open(self, request: bytes) -> None:
        """Hand over the upgrade request. What websockets does not accept as one is answered here: nobody else does."""
        super().data_received(request)
        if not self.handshake_initiated:
            self.watch.counters.malformed += 1
            self._answer(b"".join(self.conn.data_to_send()) or MALFORMED)

    def data_received(self, data: bytes) -> None:
        if self._discards:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > self.watch.policy.linger_bytes:
                self.abort()
            return
        if not self.handshake_complete:
            self.watch.cut(self, Cut.EARLY)
            return
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch.start(self, Stage.UNREAD)

    def resume_writing(self) -> None:
        self.watch.stop(self, Stage.UNREAD)
        super().resume_writing()

    def overdue(self, stage: Stage) -> None:
        self.watch.cut(self, Cut(stage))

    def abort(self) -> None:
        self.transport.abort()

    async def run_asgi(self) -> None:
        self.scope["extensions"]["doorward"] = {"abort": self.transport.abort}
        await super().run_asgi()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._forget_handshake()
        elif message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # uvicorn forgets it, and then logs every refusal as an error of the app

    def _forget_handshake(self) -> None:
        """The headers have done their work; they would stay as long as the connection does, a fifth of what it takes."""
        self.request.headers.clear()
        self.response.headers.clear()

    def handle_parser_exception(self) -> None:
        """A message too big (1009), or no WebSocket frame (1002, 1007): let the peer read why before TCP is closed."""
        sent = self.conn.close_sent
        code, reason = (sent.code, sent.reason) if sent is not None else (_ABNORMAL_CLOSURE, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.disconnected = True
        self._linger()

    def keepalive_timeout(self) -> None:
        """The peer has not answered a ping: it is gone, or reads too slowly. Not 1011, which says that the bug is ours."""
        self.pong_timer = self.pending_ping_payload = None
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(_TRY_AGAIN_LATER, Code.OVERLOADED)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
            self.transport.close()

    def shutdown(self) -> None:
        """The last resort of a stopping server, for what no drain has closed: 1012, or 503 where there is no socket yet."""
        self.stop_keepalive()
        if not self.handshake_complete:
            self._answer(RESTARTING)
            return
        if not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": _SERVICE_RESTART})
            self.conn.send_close(_SERVICE_RESTART, Code.RESTARTING)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = self.disconnected = True
        self.transport.close()

    def _linger(self) -> None:
        """End our side and throw away what still comes, for a bounded time."""
        self._discards = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(self.watch.policy.linger_seconds, self.transport.abort)
        with contextlib.suppress(NotImplementedError):  # TLS has no half-closed connection
            self.transport.write_eof()

    def _answer(self, response: bytes) -> None:
        """Answer instead of the application, for good."""
        self.handshake_complete = self.close_sent = self.disconnected = True
        self.transport.write(response)
        self.transport.close()
