"""A WebSocket connection on uvicorn, which always answers an upgrade and lets a peer read why it is closed.

In place of uvicorn's own, which has the whole request written anew and taken apart a second time. The frames are websockets'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from doorward.asgi.inbox import Inbox
from doorward.asgi.opening import Cut, OpeningWatch, Stage
from doorward.asgi.server_answers import MALFORMED, RESTARTING
from doorward.asgi.upgrade import Accepted, NotAnUpgrade, UpgradeRequest, accepted, path_and_query
from doorward.core.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from doorward.asgi.types import App, Message, Scope

_log = logging.getLogger("uvicorn.error")

_UNSENT_BYTES = 16_384
"""What the kernel has not taken, and a message more: past it the application waits. A stalled peer costs this, not 64 KiB."""

_CLOSE_SECONDS = 10.0
"""How long the peer may take to answer a close frame, and to read what is left for it."""

_PING_BYTES = 4

_NO_STATUS = 1005
_ABNORMAL_CLOSURE = 1006
_INVALID_DATA = 1007
_SERVICE_RESTART = 1012
_TRY_AGAIN_LATER = 1013

# On Python 3.11 a member of an enum, read from its class, takes as long as a small function.
_SERVER, _OPEN = Side.SERVER, State.OPEN
_TEXT, _BINARY, _CONT, _PING, _PONG, _CLOSE = (
    Opcode.TEXT,
    Opcode.BINARY,
    Opcode.CONT,
    Opcode.PING,
    Opcode.PONG,
    Opcode.CLOSE,
)

_OPENING: Final = 0
"""The application has not said yet whether it takes the connection."""
_ANSWERING: Final = 1
"""It refuses, with a response of its own (ASGI's Websocket Denial Response)."""
_TALKING: Final = 2
_CLOSED: Final = 3
"""It has closed the connection, or refused it: it may say nothing more."""
_ENDED: Final = 4
"""Nobody hears it any more."""


class DoorwardWebSocketProtocol(asyncio.Protocol):
    """A connection after the switch. `open` always ends in a scope or in an answer, within the call.

    The application finds `scope["extensions"]["doorward"]["abort"]`: closes the TCP connection at once, for a peer that
    does not answer a close frame.
    """

    __slots__ = (
        "_app", "_app_state", "_client", "_close_timer", "_config", "_connections", "_default_headers", "_denial",
        "_discarded_bytes", "_discards", "_fragments", "_frames", "_inbox", "_is_text", "_keepalive", "_loop",
        "_owed_pong", "_path", "_phase", "_pinged", "_read_paused", "_root_path", "_server", "_switch", "_tasks", "_tls",
        "_writable", "address", "transport", "watch",
    )  # fmt: skip

    def __init__(self, http: HttpToolsProtocol, *, watch: OpeningWatch, address: str) -> None:
        """Takes over the connection of `http`. `address` as the watch counts it."""
        self.transport = http.transport
        self.watch = watch
        self.address = address
        self._loop = http.loop
        self._config = http.config
        self._app: App = http.app
        self._app_state = http.app_state
        self._root_path = http.root_path
        self._connections = http.connections
        self._tasks = http.tasks
        self._default_headers = http.server_state.default_headers
        self._server = http.server
        self._client = http.client
        self._path = ""
        self._tls = http.scheme == "https"
        self._phase = _OPENING
        self._switch: Accepted | None = None
        self._denial: Message | None = None
        self._frames: Protocol | None = None
        self._inbox: Inbox[Message] = Inbox(http.loop)
        self._fragments: list[bytes] = []
        self._is_text = False
        self._read_paused = False
        self._writable: asyncio.Event | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._pinged: bytes | None = None
        self._owed_pong = b""
        self._close_timer: asyncio.TimerHandle | None = None
        self._discards = False
        self._discarded_bytes = 0

    def open(self, request: UpgradeRequest) -> None:
        """Hand over the upgrade request. What is not in order is answered here: nobody else does."""
        self._connections.add(self)  # type: ignore[arg-type]  # uvicorn calls the `shutdown` of each, and nothing else
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self.watch.counters.websockets += 1
        try:
            scope = self._scope(request)
            self._switch = accepted(request, compresses=self._config.ws_per_message_deflate)
        except NotAnUpgrade as refusal:
            self.watch.counters.malformed += not refusal.response
            self._answer(refusal.response or MALFORMED)
            return
        self._inbox.put({"type": "websocket.connect"})
        task = self._loop.create_task(self._run(scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the transport tells

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_keepalive()
        counters = self.watch.counters
        counters.connections -= 1
        counters.websockets -= 1
        self.watch.stop(self, Stage.UNREAD)
        self._connections.discard(self)
        self._tell_disconnect(_ABNORMAL_CLOSURE if self._frames is None else _NO_STATUS)
        self._phase = _ENDED
        if self._writable is not None:  # asyncio resumes nobody whose transport is lost
            self._writable.set()
            self._writable = None
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._frames is not None:  # its parser holds on to it: so nothing waits for the garbage collector
            self._frames.parser.close()
        if exc is None:
            self.transport.close()

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()
        self.watch.start(self, Stage.UNREAD)

    def resume_writing(self) -> None:
        self.watch.stop(self, Stage.UNREAD)
        if self._writable is not None:
            self._writable.set()
            self._writable = None
        pong, self._owed_pong = self._owed_pong, b""
        if pong and self._phase == _TALKING:
            self.transport.write(pong)

    def data_received(self, data: bytes) -> None:
        frames = self._frames
        if self._discards:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > self.watch.policy.linger_bytes:
                self.abort()
        elif frames is not None:
            frames.receive_data(data)
            for frame in frames.events_received():
                self._take(frame)
                if self._discards:
                    return
            if frames.parser_exc is not None:
                self._break_off(frames)
        elif self._phase in {_OPENING, _ANSWERING}:
            self.watch.cut(self, Cut.EARLY)

    # What the watch and the server ask for

    def overdue(self, stage: Stage) -> None:
        self.watch.cut(self, Cut(stage))

    def abort(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        """The last resort of a stopping server, for what no drain has closed: 1012, or 503 where there is no socket yet."""
        self._stop_keepalive()
        if self._phase in {_OPENING, _ANSWERING}:
            self._answer(RESTARTING)
            return
        if self._frames is not None and self._phase == _TALKING:
            self._tell_disconnect(_SERVICE_RESTART)
            self._close(self._frames, _SERVICE_RESTART, Code.RESTARTING)
            self._phase = _ENDED
        self._hang_up()

    # The application

    def _scope(self, request: UpgradeRequest) -> Scope:
        raw_path, query_string = path_and_query(request.target)
        path = raw_path.decode("ascii")
        self._path = self._root_path + (unquote(path) if "%" in path else path)
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self._tls else "ws",
            "server": self._server,
            "client": self._client,
            "root_path": self._root_path,
            "path": self._path,
            "raw_path": self._root_path.encode("ascii") + raw_path,
            "query_string": query_string,
            "headers": request.headers,
            "subprotocols": _subprotocols(request),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, "doorward": {"abort": self.transport.abort}},
        }

    async def _run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:  # noqa: BLE001 - the server's last line of defence; a cancelled app has failed too
            _log.exception("Exception in ASGI application\n")
            self._fail()
        else:
            if self._phase in {_OPENING, _ANSWERING}:
                _log.error("ASGI callable returned without completing handshake.")
                self._fail()
        if self._close_timer is None:
            self._hang_up()

    async def receive(self) -> Message:
        """The application's `receive`."""
        event = await self._inbox.take()
        if self._read_paused and not self._inbox:
            self._resume_reading()
        return event

    async def send(self, message: Message) -> None:
        """The application's `send`.

        Raises:
            ClientDisconnected: nobody hears it any more.
            RuntimeError: not what may come now.
        """
        if self._writable is not None:
            await self._writable.wait()
        kind = message["type"]
        if self._phase == _TALKING and self._frames is not None:
            self._say(self._frames, kind, message)
        elif self._phase == _OPENING:
            self._decide(kind, message)
        elif self._phase == _ENDED:
            if kind != "websocket.close":  # it is closed, whoever was first
                raise ClientDisconnected
        elif self._phase == _ANSWERING and kind == "websocket.http.response.body" and self._denial is not None:
            self._deny(self._denial, message)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r}: the connection is being refused, or was closed.")

    def _decide(self, kind: str, message: Message) -> None:
        """The first thing that the application says. uvicorn's lines, without a query: that may be a credential."""
        if kind == "websocket.accept" and self._switch is not None:
            self._accept(self._switch, message)
        elif kind == "websocket.close":
            self._tell_disconnect(_ABNORMAL_CLOSURE)
            self._answer(_response(403, (), b""))
            self._phase = _CLOSED
            _log.info('%s - "WebSocket %s" 403', self._peer(), quote(self._path))
        elif kind == "websocket.http.response.start":
            if message["status"] not in STATUS_LINE:
                raise RuntimeError(f"Invalid HTTP status code {message['status']!r} in response.")
            self._denial = {**message, "body": b""}
            self._phase = _ANSWERING
            _log.info('%s - "WebSocket %s" %d', self._peer(), quote(self._path), message["status"])
        else:
            raise RuntimeError(
                f"Expected websocket.accept, websocket.close or websocket.http.response.start, but got {kind!r}."
            )

    def _accept(self, switch: Accepted, message: Message) -> None:
        if self.transport.is_closing():
            raise ClientDisconnected
        headers = [*self._default_headers, *message.get("headers", ())]
        if subprotocol := message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        lines = _header_lines(headers)
        self._frames = frames = Protocol(_SERVER, state=_OPEN, max_size=self._config.ws_max_size, logger=_log)
        frames.extensions = switch.extensions
        self._switch = None
        self._phase = _TALKING
        self.transport.write(b"".join([switch.lines, *lines, b"\r\n"]))
        self._schedule_ping()
        if _log.isEnabledFor(logging.INFO):
            _log.info('%s - "WebSocket %s" [accepted]', self._peer(), quote(self._path))

    def _peer(self) -> str:
        return f"{self._client[0]}:{self._client[1]}" if self._client else ""

    def _deny(self, denial: Message, message: Message) -> None:
        denial["body"] += message.get("body", b"")
        if not message.get("more_body", False):
            self._tell_disconnect(_ABNORMAL_CLOSURE)
            self._answer(_response(denial["status"], denial.get("headers", ()), denial["body"]))
            self._phase = _CLOSED

    def _say(self, frames: Protocol, kind: str, message: Message) -> None:
        try:
            if kind == "websocket.send":
                data, text = message.get("bytes"), message.get("text")
                if data is not None:
                    frames.send_binary(data)
                elif text is not None:
                    frames.send_text(text.encode())
                self._write(frames)
            elif kind == "websocket.close":
                self._close_by_app(frames, message.get("code", 1000), message.get("reason") or "")
            else:
                raise RuntimeError(f"Expected websocket.send or websocket.close, but got {kind!r}.")
        except InvalidState as error:  # the peer has closed
            raise ClientDisconnected from error

    def _close_by_app(self, frames: Protocol, code: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        self._close(frames, code, reason)
        self._tell_disconnect(code, reason)
        self._phase = _CLOSED
        if self._read_paused:
            self._resume_reading()
        self._close_timer = self._loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    # The peer

    def _take(self, frame: Any) -> None:
        opcode = frame.opcode
        if opcode is _TEXT or opcode is _BINARY:
            self._is_text = opcode is _TEXT
            if frame.fin:
                self._deliver(frame.data)
            else:
                self._fragments = [frame.data]
        elif opcode is _CONT:
            if frame.data:  # of empty ones there may be any number
                self._fragments.append(frame.data)
            if frame.fin:
                message, self._fragments = b"".join(self._fragments), []
                self._deliver(message)
        elif opcode is _PING:
            if self._frames is not None:
                self._pong(self._frames)
        elif opcode is _PONG:
            self._take_pong(frame)
        elif opcode is _CLOSE:
            self.handle_close(frame)

    def _pong(self, frames: Protocol) -> None:
        """Who pings and does not read is owed one answer, to the last ping, and no heap of them (RFC 6455, section 5.5.3)."""
        if self._writable is None or frames.state is not _OPEN:
            self._write(frames)
        elif pongs := frames.data_to_send():
            self._owed_pong = pongs[-1]

    def _deliver(self, data: bytes) -> None:
        """A message. While the application does not take it, no more are read."""
        if self._phase != _TALKING or self._frames is None:
            return  # behind the application's close, until the peer answers that
        if not self._is_text:
            waited_for = self._inbox.put({"type": "websocket.receive", "bytes": data})
        else:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                with contextlib.suppress(InvalidState):  # its close came with the same bytes
                    self._frames.send_close(_INVALID_DATA)
                self._break_off(self._frames)
                return
            waited_for = self._inbox.put({"type": "websocket.receive", "text": text})
        if not (waited_for or self._read_paused):
            self._read_paused = True
            self.transport.pause_reading()

    def handle_close(self, _: Frame) -> None:
        """The peer has closed, or answers our close."""
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
            self._hang_up()
        elif self._frames is not None and self._phase == _TALKING and not self.transport.is_closing():
            theirs = self._frames.close_rcvd
            if theirs is not None:
                self._tell_disconnect(theirs.code, theirs.reason)
            self._write(self._frames)
            self._phase = _ENDED
            self._hang_up()

    def _break_off(self, frames: Protocol) -> None:
        """A message too big (1009), or no WebSocket frame (1002, 1007): let the peer read why before TCP is closed."""
        sent = frames.close_sent
        self._tell_disconnect(*((sent.code, sent.reason) if sent is not None else (_ABNORMAL_CLOSURE, "")))
        self._write(frames)
        self._phase = _ENDED
        self._linger()

    def _linger(self) -> None:
        """End our side and throw away what still comes, for a bounded time."""
        self._discards = True
        if self._read_paused:
            self._resume_reading()
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._close_timer = self._loop.call_later(self.watch.policy.linger_seconds, self.transport.abort)
        with contextlib.suppress(NotImplementedError):  # TLS has no half-closed connection
            self.transport.write_eof()

    def _resume_reading(self) -> None:
        self._read_paused = False
        self.transport.resume_reading()
        if self._pinged is not None:  # its pong may be among what waits to be read
            self._await_pong()

    # Is it still there?

    def _schedule_ping(self) -> None:
        if self._config.ws_ping_interval:
            self._keepalive = self._loop.call_later(self._config.ws_ping_interval, self._ping)

    def _ping(self) -> None:
        """Four random bytes tell this ping from any other (RFC 6455, section 5.5.3)."""
        self._keepalive = None
        if self._frames is None or self._phase != _TALKING or self.transport.is_closing():
            return
        payload = secrets.token_bytes(_PING_BYTES)
        self._frames.send_ping(payload)
        self._write(self._frames)
        if self._config.ws_ping_timeout is None:
            self._schedule_ping()
        else:
            self._pinged = payload
            self._await_pong()

    def _await_pong(self) -> None:
        """From now on."""
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self._config.ws_ping_timeout is not None:
            self._keepalive = self._loop.call_later(self._config.ws_ping_timeout, self._give_up)

    def _take_pong(self, frame: Any) -> None:
        if self._pinged is not None and frame.data == self._pinged:
            self._stop_keepalive()
            self._schedule_ping()

    def _give_up(self) -> None:
        """The peer has not answered a ping: it is gone, or reads too slowly. Not 1011, which says that the bug is ours.

        While the application does not take its messages we would not hear the answer, and ping on: TCP gives up on who is gone.
        """
        self._keepalive = self._pinged = None
        if self._read_paused:
            self._schedule_ping()
        elif self._frames is not None and self._phase == _TALKING and not self.transport.is_closing():
            self._frames.fail(_TRY_AGAIN_LATER, Code.OVERLOADED)
            self._write(self._frames)
            self._phase = _ENDED
            self._hang_up()

    def _stop_keepalive(self) -> None:
        self._pinged = None
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None

    # What goes out

    def _write(self, frames: Protocol) -> None:
        self.transport.write(b"".join(frames.data_to_send()))

    def _close(self, frames: Protocol, code: int, reason: str) -> None:
        frames.send_close(code, reason)
        self._write(frames)

    def _hang_up(self) -> None:
        """Close the TCP connection once the peer has read what is left. It need not, so that has an end."""
        if self._close_timer is None and self.transport.get_write_buffer_size():
            self._close_timer = self._loop.call_later(_CLOSE_SECONDS, self.transport.abort)
        self.transport.close()

    def _tell_disconnect(self, code: int, reason: str = "") -> None:
        self._inbox.put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _fail(self) -> None:
        """The application has failed before it decided."""
        if self._phase in {_OPENING, _ANSWERING}:
            self._answer(_response(500, (), b"Internal Server Error"))

    def _answer(self, response: bytes) -> None:
        """Answer the handshake with something else than the switch, for good."""
        self._phase = _ENDED
        self._switch = self._denial = None
        self.transport.write(response)
        self._hang_up()


def _subprotocols(request: UpgradeRequest) -> list[str]:
    return [
        offered.strip()
        for name, value in request.headers
        if name == b"sec-websocket-protocol"
        for offered in value.decode("latin-1").split(",")
    ]


def _header_lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Raises: RuntimeError: the application gave what is no header, and would be read as more than one."""
    lines = []
    for name, value in headers:
        if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            raise RuntimeError(f"Invalid HTTP header {name!r}.")
        lines.append(name + b": " + value + b"\r\n")
    return lines


def _response(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """A whole HTTP response, after which the connection is closed."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    usual = (
        (b"date", formatdate(usegmt=True).encode()),
        (b"connection", b"close"),
        (b"content-length", b"%d" % len(body)),
        (b"content-type", b"text/plain; charset=utf-8"),
    )
    given += [each for each in usual if each[0] not in names]
    return b"".join([STATUS_LINE[status], *_header_lines(given), b"\r\n", body])
