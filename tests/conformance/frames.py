"""WebSocket frames as bytes, right or wrong as a case needs them. A library's builder refuses the wrong ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

RSV1: Final = 0x40
RSV2: Final = 0x20
RSV3: Final = 0x10

_FIN: Final = 0x80
_MASKED: Final = 0x80
_KEY: Final = b"\x37\xfa\x21\x3d"
_FLUSHED: Final = b"\x00\x00\xff\xff"
"""The end of what is flushed, which permessage-deflate leaves out (RFC 7692, section 7.2.1)."""


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame of a client (RFC 6455, section 5.2)."""
    return head(opcode, len(payload), fin=fin, rsv=rsv, masked=masked) + (_mask(payload) if masked else payload)


def head(
    opcode: int, length: int, *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int | None = None
) -> bytes:
    """All before the payload. `size`: in how many bytes the length stands; as few as can be, unless told."""
    first = (_FIN if fin else 0) | rsv | opcode
    size = (0 if length < 126 else 2 if length < 65_536 else 8) if size is None else size
    short = length if size == 0 else 126 if size == 2 else 127
    long = b"" if size == 0 else struct.pack("!H" if size == 2 else "!Q", length)
    return bytes((first, (_MASKED if masked else 0) | short)) + long + (_KEY if masked else b"")


def fragments(opcode: int, *payloads: bytes, rsv: int = 0) -> bytes:
    """A whole message in so many frames. `rsv` is the first one's."""
    last = len(payloads) - 1
    return b"".join(
        frame(CONTINUATION if number else opcode, payload, fin=number == last, rsv=0 if number else rsv)
        for number, payload in enumerate(payloads)
    )


def cut(payload: bytes, size: int) -> Iterator[bytes]:
    """Pieces of so many bytes."""
    return (payload[start : start + size] for start in range(0, len(payload), size))


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def deflated(payload: bytes) -> bytes:
    """As permessage-deflate sends a message that takes nothing over from one before it."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED)


def _mask(payload: bytes) -> bytes:
    length = len(payload)
    key = (_KEY * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
