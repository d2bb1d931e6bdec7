"""uvicorn's own HTTP protocol, with the opening handshake bounded in time, in size and in number.

uvicorn with websockets-sansio has no limit on a half-sent request, and a request that websockets refuses after the
switch is never answered. Here a connection that becomes no ASGI scope in time is cut, whatever the reason, and a header
block that is too large gets its 431 while it is still coming in.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import TYPE_CHECKING, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from doorward.asgi.opening import Cut, OpeningCounters, OpeningPolicy, OpeningWatch, Stage
from doorward.asgi.server_answers import MALFORMED, TOO_LARGE
from doorward.asgi.upgrade import UpgradeRequest
from doorward.asgi.uvicorn_websocket import DoorwardWebSocketProtocol
from doorward.core.limits import network_of
from doorward.core.verdict import Code

if TYPE_CHECKING:
    import asyncio

_REQUEST_LINE_EXTRA = len(b"OPTIONS  HTTP/1.1\r\n")
_HEADER_LINE_EXTRA = len(b": \r\n")


def make_protocol(policy: OpeningPolicy, counters: OpeningCounters) -> type[DoorwardHttpProtocol]:
    """The protocol class for one event loop: `uvicorn.Config(..., http=make_protocol(policy, counters))`.

    It brings its own WebSocket protocol; of uvicorn's `ws` setting only `none` counts.
    """

    class BoundProtocol(DoorwardHttpProtocol):
        watch = OpeningWatch(policy, counters)

    return BoundProtocol


class _Tunnel(Exception):
    """`CONNECT`: what follows its header is no HTTP, and we are no proxy."""


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

    watch: OpeningWatch
    address: str

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's own, which makes Python's sockets of the addresses, twice, and asks the system five times."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport, "sockname")
        client = _address(transport, "peername")
        self.client = (client[0], client[1]) if client is not None and client[1] is not None else None
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.address = network_of(self.client[0]) if self.client else ""
        self._phase = _Phase.IDLE
        self._pending_bytes = 0
        self._block_bytes = 0
        self._began_midway = False
        self._body_began_at = 0.0
        self._discarded_bytes = 0
        self._upgrades = False
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
            self._behind_upgrade(data, upgrade.args[0])
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
        elif stage is Stage.UNREAD and not self._leaves_unread():
            return
        elif stage in {Stage.HEADER, Stage.BODY} and self._keeps_the_peer_waiting():
            self.watch.start(self, stage)
        else:
            self.watch.cut(self, Cut(stage))

    def abort(self) -> None:
        self.transport.abort()

    # Parser callbacks. An exception here ends the parser with an error, in `data_received`.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._upgrades = False
        if self._phase is _Phase.IDLE:  # the next request in the very bytes that ended the last one
            self._begin_header()
            self._began_midway = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) + _REQUEST_LINE_EXTRA > self.watch.policy.max_line_bytes:
            raise _TooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        headers, policy = self.headers, self.watch.policy
        headers.append((name, value.rstrip(b" \t")))  # RFC 9112, section 5: white space behind the value is none of it
        line = len(name) + len(value) + _HEADER_LINE_EXTRA
        self._block_bytes += line
        if (
            line > policy.max_line_bytes
            or self._block_bytes > policy.max_header_bytes
            or len(headers) > policy.max_headers  # the trailers of a chunked body count too
        ):
            raise _TooLarge

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():  # then the parser ends the message here, whether it has a body or not
            self._upgrades = super()._should_upgrade()
            if not self._upgrades:
                if self.parser.get_method() == b"CONNECT":
                    raise _Tunnel
                return  # to come back in `_ignore_upgrade`
        self.scope["extensions"] = {"doorward": {"abort": self.transport.abort}}
        super().on_headers_complete()
        self._phase = _Phase.BODY
        self._pending_bytes = 0
        if self._upgrades:
            return
        self.headers = self.headers.copy()  # trailers are counted, but are no headers (RFC 9110, section 6.5.1)
        self.watch.complete(self)
        self._body_began_at = self.loop.time()
        self.watch.start(self, Stage.BODY)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._pending_bytes = 0
        if self.loop.time() - self._body_began_at <= self.watch.policy.body_total_seconds:
            self.watch.start(self, Stage.BODY)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._phase = _Phase.IDLE
        self.watch.stop(self, Stage.BODY)
        if self._cycle() is not None and not self._is_answering():
            self._await_next_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():  # and we may be closing, which waits for the peer to read it
            self.watch.start(self, Stage.UNREAD)

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
        self.transport.write(TOO_LARGE if code is Code.HEADERS_TOO_LARGE else MALFORMED)
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

    def _leaves_unread(self) -> bool:
        """Our buffer is full, or the last answer is complete and not yet read. While another one goes out, it says nothing."""
        unread = self.transport.get_write_buffer_size() > 0 and not self._is_answering()
        return self.flow.write_paused or unread

    def _is_answering(self) -> bool:
        cycle = self._cycle()
        return cycle is not None and not cycle.response_complete

    def _cycle(self) -> RequestResponseCycle | None:
        """The last request of this connection; uvicorn's annotation leaves out that there may be none yet."""
        return cast("RequestResponseCycle | None", self.cycle)

    # The switch to the WebSocket protocol, and to others

    def _behind_upgrade(self, data: bytes, end: int) -> None:
        """The parser has stopped at the `end` of a header that asks for another protocol, and would leave out the body."""
        rest = memoryview(data)[end:]  # no copies: one read may hold thousands of such requests
        while not self._upgrades:
            try:
                self._ignore_upgrade()
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                self._refuse_unparsed(error)
                return
            else:
                self._measure(data)
                return
        self._upgrade(rest)

    def _ignore_upgrade(self) -> None:
        """Serve the request as any other (RFC 9110, section 7.8): a parser gets its header again, less what made this one stop.

        A new one, as the old may have seen `Connection: close`, after which it takes nothing any more.
        """
        headers = self.headers
        version = self.parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)
        fields = b"".join(b"%b: %b\r\n" % field for field in headers if field[0] != b"upgrade")
        self._block_bytes = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        self.parser.feed_data(head + fields + b"\r\n")
        self.scope["headers"] = headers

    def _should_upgrade(self) -> bool:
        """Found out once a request; uvicorn asks four times."""
        return self._upgrades

    def _upgrade(self, rest: memoryview) -> None:
        if self._is_answering():
            self.watch.cut(self, Cut.PIPELINED)
        elif rest:
            self.watch.cut(self, Cut.EARLY)
        else:
            self.handle_websocket_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """The request goes over as it was parsed."""
        self.connections.discard(self)
        self.watch.forget(self)
        self._unset_keepalive_if_required()
        request = UpgradeRequest(self.scope["method"], self.url, self.headers)
        protocol = DoorwardWebSocketProtocol(self, watch=self.watch, address=self.address)
        self.parser = None  # type: ignore[assignment]  # it holds on to this object, which is not needed any more
        self.transport.set_protocol(protocol)
        if self.flow.write_paused:  # by an answer before, which the peer has not read yet
            protocol.pause_writing()
        protocol.open(request)


def _address(transport: asyncio.Transport, which: str) -> tuple[str, int | None] | None:
    """Host and port as ASGI has them; a path and no port for a Unix socket. `None` where there is none, or not any more."""
    try:
        name = transport.get_extra_info(which)
    except OSError:
        return None
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name, None) if isinstance(name, str) and name else None
