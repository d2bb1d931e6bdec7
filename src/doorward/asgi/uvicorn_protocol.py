"""uvicorn's own HTTP and WebSocket protocols, with the opening handshake bounded in time, in size and in number.

uvicorn with websockets-sansio has no limit on a half-sent request, and a request that websockets refuses after the
switch is never answered. Here a connection that becomes no ASGI scope in time is cut, whatever the reason, and a header
block that is too large gets its 431 while it is still coming in.
"""

from __future__ import annotations

import contextlib
import json
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from doorward.asgi.opening import Cut, OpeningCounters, OpeningPolicy, OpeningWatch, Stage
from doorward.core.limits import network_of
from doorward.core.verdict import Code, Deny, Row, Source, Unavailable, row_of

if TYPE_CHECKING:
    import asyncio
    from asyncio.transports import BaseTransport

    from uvicorn.config import Config
    from uvicorn.server import ServerState

_REQUEST_LINE_EXTRA = len(b"OPTIONS  HTTP/1.1\r\n")
_HEADER_LINE_EXTRA = len(b": \r\n")
_ABNORMAL_CLOSURE = 1006
_SERVICE_RESTART = 1012


def _problem(status: int, title: str, code: Code | None, headers: bytes = b"") -> bytes:
    """A whole HTTP response with problem details (RFC 9457), after which the connection is closed."""
    kind = f"https://doorward.dev/problems/{code.lower().replace('_', '-')}" if code else "about:blank"
    content = {"type": kind, "title": title, "status": status} | ({"code": code} if code else {})
    body = json.dumps(content).encode()
    return (
        STATUS_LINE[status]
        + b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        + headers
        + b"\r\n"
        + body
    )


def _of_row(row: Row, headers: bytes = b"") -> bytes:
    return _problem(row.http or 503, row.situation.capitalize(), row.code, headers)


_TOO_LARGE = _of_row(row_of(Deny(Code.HEADERS_TOO_LARGE, Source.ADMIT)))
_RESTARTING = _of_row(row_of(Unavailable(Code.RESTARTING, Source.DRAIN)), b"retry-after: 1\r\n")
_MALFORMED = _problem(400, "This is not a valid HTTP request", None)


def make_protocol(policy: OpeningPolicy, counters: OpeningCounters) -> type[DoorwardHttpProtocol]:
    """The protocol class for one event loop: `uvicorn.Config(..., http=make_protocol(policy, counters))`.

    It brings its own WebSocket protocol; of uvicorn's `ws` setting only `none` counts.
    """

    class BoundProtocol(DoorwardHttpProtocol):
        watch = OpeningWatch(policy, counters)

    return BoundProtocol


class _TooLarge(Exception):
    """The header block is over one of its limits."""


class _Phase(Enum):
    """Where in a request the connection is. `REFUSED`: answered; what still comes is thrown away."""

    IDLE = "idle"
    HEADER = "header"
    BODY = "body"
    REFUSED = "refused"


class DoorwardHttpProtocol(HttpToolsProtocol):
    """One TCP connection until it becomes a WebSocket or ends."""

    watch: ClassVar[OpeningWatch]
    address: str

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = network_of(self.client[0]) if self.client else ""
        self._phase = _Phase.IDLE
        self._pending_bytes = 0
        self._block_bytes = 0
        self._began_midway = False
        self._body_began_at = 0.0
        self._discarded_bytes = 0
        self.watch.counters.connections += 1
        self.watch.incomplete(self, Stage.SILENT)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.counters.connections -= 1
        self.watch.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase is _Phase.REFUSED:
            self._discard(data)
            return
        self._unset_keepalive_if_required()
        if self._phase is _Phase.IDLE:
            self._begin_header()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_unparsed(error)
        else:
            self._measure(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watch.start(self, Stage.UNREAD)

    def resume_writing(self) -> None:
        self.watch.stop(self, Stage.UNREAD)
        super().resume_writing()

    def overdue(self, stage: Stage) -> None:
        if stage is Stage.LINGERING:
            self.abort()
        elif stage in {Stage.HEADER, Stage.BODY} and self._keeps_the_peer_waiting():
            self.watch.start(self, stage)
        else:
            self.watch.cut(self, Cut(stage))

    def abort(self) -> None:
        self.transport.abort()

    # Parser callbacks. An exception here ends the parser with an error, in `data_received`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._phase is _Phase.IDLE:  # the next request in the very bytes that ended the last one
            self._begin_header()
            self._began_midway = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) + _REQUEST_LINE_EXTRA > self.watch.policy.max_line_bytes:
            raise _TooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        policy = self.watch.policy
        line = len(name) + len(value) + _HEADER_LINE_EXTRA
        self._block_bytes += line
        if (
            line > policy.max_line_bytes
            or self._block_bytes > policy.max_header_bytes
            or len(self.headers) > policy.max_headers  # the trailers of a chunked body count too
        ):
            raise _TooLarge

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._phase = _Phase.BODY
        self._pending_bytes = 0
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        self.watch.complete(self)
        self._body_began_at = self.loop.time()
        self.watch.start(self, Stage.BODY)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._pending_bytes = 0
        if self.loop.time() - self._body_began_at <= self.watch.policy.body_total_seconds:
            self.watch.start(self, Stage.BODY)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = _Phase.IDLE
        self.watch.stop(self, Stage.BODY)
        if self._cycle() is not None and not self._is_answering():
            self._await_next_request()

    # Header and body limits

    def _begin_header(self) -> None:
        self._phase = _Phase.HEADER
        self._pending_bytes = 0
        self._block_bytes = 0
        self.watch.incomplete(self, Stage.HEADER)

    def _measure(self, data: bytes) -> None:
        """Bound what the parser holds back: a header line without its end, or trailers that bring no body."""
        if self._began_midway:  # these bytes hold the end of another request; the next ones count
            self._began_midway = False
            return
        end = data.rfind(b"\n")
        if self._phase is _Phase.HEADER:
            self._pending_bytes = len(data) - end - 1 if end >= 0 else self._pending_bytes + len(data)
            if self._pending_bytes > self.watch.policy.max_line_bytes:
                self._refuse(Code.HEADERS_TOO_LARGE)
        elif self._phase is _Phase.BODY:
            self._pending_bytes += len(data)
            if self._pending_bytes - len(data) > self.watch.policy.max_header_bytes:
                self.watch.cut(self, Cut.BODY)

    def _await_next_request(self) -> None:
        """Answered before the body was there: uvicorn's own timer ended with the first byte after the answer."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    # Refusals

    def _refuse_unparsed(self, error: httptools.HttpParserError) -> None:
        if isinstance(error.__context__, _TooLarge):
            self._refuse(Code.HEADERS_TOO_LARGE)
        else:
            self._refuse(None)

    def _refuse(self, code: Code | None) -> None:
        """Answer and stop listening, so that the peer can read the answer; `None`: 400, this is not HTTP."""
        counters = self.watch.counters
        if code is Code.HEADERS_TOO_LARGE:
            counters.headers_too_large += 1
        else:
            counters.malformed += 1
        if self._is_answering():
            self.watch.cut(self, Cut.PIPELINED)
            return
        self._phase = _Phase.REFUSED
        self.flow.resume_reading()
        self.watch.incomplete(self, Stage.LINGERING)
        self.transport.write(_TOO_LARGE if code is Code.HEADERS_TOO_LARGE else _MALFORMED)
        with contextlib.suppress(NotImplementedError):  # TLS has no half-closed connection
            self.transport.write_eof()

    def _discard(self, data: bytes) -> None:
        """A close with unread bytes is a reset, and a reset may take the answer with it: read on, but not for ever."""
        self._discarded_bytes += len(data)
        if self._discarded_bytes > self.watch.policy.linger_bytes:
            self.abort()

    def _keeps_the_peer_waiting(self) -> bool:
        """We do not listen, or the peer waits for `100 Continue`: it is not late, and how long we take is the app's."""
        return self.flow.read_paused or ((cycle := self._cycle()) is not None and cycle.waiting_for_100_continue)

    def _is_answering(self) -> bool:
        cycle = self._cycle()
        return cycle is not None and not cycle.response_complete

    def _cycle(self) -> RequestResponseCycle | None:
        """The last request of this connection; uvicorn's annotation leaves out that there may be none yet."""
        return cast("RequestResponseCycle | None", self.cycle)

    # The switch to the WebSocket protocol

    def _upgrade(self, rest: bytes) -> None:
        if self._is_answering():
            self.watch.cut(self, Cut.PIPELINED)
        elif rest:
            self.watch.cut(self, Cut.EARLY)
        else:
            self.handle_websocket_upgrade()

    def handle_websocket_upgrade(self) -> None:
        self.connections.discard(self)
        lines = [self.scope["method"].encode(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            lines += [name, b": ", value, b"\r\n"]
        protocol = DoorwardWebSocketProtocol(self.config, self.server_state, self.app_state, watch=self.watch)
        self.watch.forget(self)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.open(b"".join([*lines, b"\r\n"]))


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
        self.address = network_of(self.client[0]) if self.client else ""
        self.watch.counters.websockets += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.counters.connections -= 1
        self.watch.counters.websockets -= 1
        self.watch.forget(self)
        super().connection_lost(exc)

    def open(self, request: bytes) -> None:
        """Hand over the upgrade request. What websockets does not accept as one is answered here: nobody else does."""
        super().data_received(request)
        if not self.handshake_initiated:
            self.watch.counters.malformed += 1
            self._answer(b"".join(self.conn.data_to_send()) or _MALFORMED)

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
        self.scope["extensions"]["doorward"] = {"abort": self.abort}
        await super().run_asgi()

    def handle_parser_exception(self) -> None:
        """A message too big (1009), or no WebSocket frame (1002, 1007): let the peer read why before TCP is closed."""
        sent = self.conn.close_sent
        code, reason = (sent.code, sent.reason) if sent is not None else (_ABNORMAL_CLOSURE, "")
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.disconnected = True
        self._linger()

    def shutdown(self) -> None:
        """The last resort of a stopping server, for what no drain has closed: 1012, or 503 where there is no socket yet."""
        self.stop_keepalive()
        if not self.handshake_complete:
            self._answer(_RESTARTING)
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
