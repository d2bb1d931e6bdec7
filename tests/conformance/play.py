"""Plays a case against a server and judges what came back. Nothing here waits longer than `BOUND_SECONDS`."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Generator
from dataclasses import dataclass, field

from tests.conformance.cases import Case, Message
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

BOUND_SECONDS = 10.0
"""A server that has not ended the connection by then hangs."""

PATIENCE_SECONDS = 0.5
"""A server that has not closed by then has not noticed."""

READ_BYTES = 65_536
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"


class Verdict(enum.IntEnum):
    """From best to worst."""

    OK = 0
    NON_STRICT = 1
    """The fault was noticed, but late, or told with another code, or an echo that was due is missing; or it is tolerated."""
    FAILED = 2
    HANG = 3


@dataclass(frozen=True, slots=True)
class Site:
    """Where a server under test listens, and what it wants to see of a client."""

    port: int
    headers: str = ""


@dataclass(slots=True)
class Seen:
    """What came back. `code` of the close frame, if one came; `fault`: why what came is no WebSocket."""

    messages: list[Message] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    code: int | None = None
    fault: str | None = None
    ended: bool = False
    deflate: bool = False
    late: bool = False


async def verdict(case: Case, site: Site) -> Verdict:
    """Plays it and judges.

    Raises:
        OSError, ValueError: the server cannot be reached, or does not open the WebSocket.

    Cancellation: the connection is closed.
    """
    return judge(case, await play(case, site))


def judge(case: Case, seen: Seen) -> Verdict:
    if not seen.ended:
        return Verdict.HANG
    if seen.fault is not None:
        return Verdict.FAILED
    codes = case.codes_if_deflate if seen.deflate and case.codes_if_deflate is not None else case.codes
    said = seen.messages == list(case.messages) and seen.pongs == list(case.pongs)
    if said and seen.code in codes and not seen.late:
        return Verdict.OK
    if 1000 in case.codes:  # there is nothing wrong that a server could be lenient with
        return Verdict.FAILED
    expected = list(case.messages)
    is_proper = seen.messages in (expected[: len(seen.messages)], expected + list(case.tolerated))
    return Verdict.NON_STRICT if is_proper else Verdict.FAILED


async def play(case: Case, site: Site) -> Seen:
    """The whole conversation.

    Raises:
        OSError, ValueError: as `verdict`.

    Cancellation: the connection is closed.
    """
    async with asyncio.timeout(BOUND_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            accepted = await _open(case, site, reader, writer)
        talk = _Talk(case, reader, writer, deflate=accepted)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND_SECONDS):
                await talk.hold()
        return talk.seen
    finally:
        writer.transport.abort()


async def _open(case: Case, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """The opening handshake. True if the server takes the offer to compress."""
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{OFFER if case.deflate else ''}{site.headers}\r\n"
    )
    writer.write(request.encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if not answer.startswith("http/1.1 101 "):
        raise ValueError(f"no WebSocket: {answer}")
    return "permessage-deflate" in answer


class _Talk:
    """A connection that is open."""

    def __init__(
        self, case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, deflate: bool
    ) -> None:
        self.seen = Seen(deflate=deflate)
        self._case = case
        self._reader = reader
        self._writer = writer
        self._received = StreamReader()
        self._frames = self._parse()
        self._message: list[bytes] = []
        self._text = False

    async def hold(self) -> None:
        case = self._case
        sent = case.if_deflate if self.seen.deflate and case.if_deflate is not None else case.sent
        writing = asyncio.create_task(self._write(sent))
        try:
            while not self._complete:
                await self._read()
            await writing
            writing = asyncio.create_task(self._write(case.last))
            if case.rest and not await self._noticed():
                self.seen.late = True
                await self._write(case.rest)
            while not self.seen.ended:
                await self._read()
        finally:
            writing.cancel()
            await asyncio.wait({writing})

    @property
    def _complete(self) -> bool:
        seen, case = self.seen, self._case
        came = len(seen.messages) >= len(case.messages) and len(seen.pongs) >= len(case.pongs)
        return came or seen.ended

    async def _noticed(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.seen.code is None and not self.seen.ended:
                    await self._read()
        return self.seen.code is not None or self.seen.ended

    async def _write(self, content: bytes) -> None:
        """A server that closes in the middle is no fault of the writing."""
        size = self._case.piece_bytes or max(len(content), 1)
        with contextlib.suppress(OSError):
            for start in range(0, len(content), size):
                self._writer.write(content[start : start + size])
                await self._writer.drain()
                await asyncio.sleep(0)

    async def _read(self) -> None:
        try:
            content = await self._reader.read(READ_BYTES)
        except OSError:
            content = b""
        if not content:
            self.seen.ended = True
            return
        self._received.feed_data(content)
        if self.seen.fault is None:
            try:
                next(self._frames)
            except (ProtocolError, UnicodeDecodeError) as error:
                self.seen.fault = repr(error)

    def _parse(self) -> Generator[None, None, None]:
        """Reads frames for ever; yields where there is none."""
        inflate = [PerMessageDeflate(True, True, 15, 15)] if self.seen.deflate else []
        while True:
            frame = yield from Frame.parse(self._received.read_exact, mask=False, extensions=inflate)
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if self.seen.code is not None:
            raise ProtocolError("a frame after the close")
        match frame.opcode:
            case Opcode.CLOSE:
                self.seen.code = int(Close.parse(frame.data).code)
            case Opcode.PONG:
                self.seen.pongs.append(bytes(frame.data))
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.opcode is not Opcode.CONT:
                    self._text = frame.opcode is Opcode.TEXT
                self._message.append(bytes(frame.data))
                if frame.fin:
                    whole = b"".join(self._message)
                    self.seen.messages.append(whole.decode() if self._text else whole)
                    self._message.clear()
