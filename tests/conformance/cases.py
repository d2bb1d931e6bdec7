"""What a server must make of what a client sends (RFC 6455, RFC 7692), in the families of the Autobahn test suite.

Each case is one connection to a server that echoes: what is sent, what must come back, and how it must end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.conformance.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    close,
    cut,
    deflated,
    fragments,
    frame,
    head,
)

Message = str | bytes

FAMILIES: Final = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "reserved opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "large messages",
    "10": "odds and ends",
    "12": "compression",
}
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Of the servers under test."""

NORMAL: Final = frozenset({1000})
PROTOCOL_ERROR: Final = frozenset({1002})
NO_TEXT: Final = frozenset({1007})
NO_CODE: Final = 1005


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation.

    Attributes:
        name: family and number.
        sent: goes first.
        messages: the echoes that must come back, and nothing else.
        pongs: their payloads.
        last: goes when all of that has come. A server need not answer what comes after it.
        codes: with one of these the server closes; `NO_CODE`: with none.
        rest: a server that does not close after all of that gets this, and may notice the fault late.
        tolerated: the echoes of a server that does not mind the fault.
        piece_bytes: how much is written at a time.
        deflate: offers permessage-deflate.
        if_deflate: goes in the place of `sent` if the server takes the offer.
        codes_if_deflate: hold then.
    """

    name: str
    what: str
    sent: bytes = b""
    messages: tuple[Message, ...] = ()
    pongs: tuple[bytes, ...] = ()
    last: bytes = close()
    codes: frozenset[int] = NORMAL
    rest: bytes = b""
    tolerated: tuple[Message, ...] = ()
    piece_bytes: int | None = None
    deflate: bool = False
    if_deflate: bytes | None = None
    codes_if_deflate: frozenset[int] | None = None

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]


def every_case() -> tuple[Case, ...]:
    """In the order of their families; each name once."""
    families = (
        _framing, _pings, _reserved_bits, _opcodes, _fragmentation, _text, _closing, _large, _odds, _compression,
    )  # fmt: skip
    return tuple(case for family in families for case in family())


def _bad(name: str, what: str, bad: bytes, **fields: object) -> Case:
    """A client that breaks the protocol, after whatever else it says."""
    return Case(name, what, last=bad, **{"codes": PROTOCOL_ERROR, **fields})  # type: ignore[arg-type]


def _framing() -> Iterator[Case]:
    sizes = (0, 1, 125, 126, 127, 128, 65_535, 65_536)
    for number, size in enumerate(sizes, 1):
        yield Case(f"1.1.{number}", f"text of {size} bytes", frame(TEXT, b"*" * size), ("*" * size,))
    for number, size in enumerate(sizes, 1):
        yield Case(f"1.2.{number}", f"{size} bytes", frame(BINARY, b"\xfe" * size), (b"\xfe" * size,))
    for number, piece in enumerate((997, 65_536 // 3), 1):
        what = f"text of 65536 bytes, {piece} at a time"
        yield Case(f"1.3.{number}", what, frame(TEXT, b"*" * 65_536), ("*" * 65_536,), piece_bytes=piece)


def _pings() -> Iterator[Case]:
    for number, payload in enumerate((b"", b"Hello, world!", bytes(range(0xF0, 0x100)), b"\xfe" * 125), 1):
        yield Case(f"2.{number}", f"a ping with {len(payload)} bytes", frame(PING, payload), pongs=(payload,))
    yield _bad("2.5", "a ping with 126 bytes", frame(PING, b"\xfe" * 126))
    one_by_one = frame(PING, b"\xfe" * 125)
    yield Case("2.6", "a ping, a byte at a time", one_by_one, pongs=(b"\xfe" * 125,), piece_bytes=1)
    yield Case("2.7", "a pong that nobody asked for", frame(PONG))
    yield Case("2.8", "a pong with a payload", frame(PONG, b"unasked"))
    yield Case("2.9", "a pong, then a ping", frame(PONG, b"unasked") + frame(PING, b"asked"), pongs=(b"asked",))
    payloads = tuple(f"payload {number}".encode() for number in range(10))
    pings = b"".join(frame(PING, payload) for payload in payloads)
    yield Case("2.10", "ten pings", pings, pongs=payloads)
    yield Case("2.11", "ten pings, a byte at a time", pings, pongs=payloads, piece_bytes=1)
    yield _bad("2.12", "a pong with 126 bytes", frame(PONG, b"\xfe" * 126))


def _reserved_bits() -> Iterator[Case]:
    hello, echoed = frame(TEXT, b"Hello"), ("Hello",)
    yield _bad("3.1", "RSV3 on a text", frame(TEXT, b"x", rsv=RSV3))
    yield _bad("3.2", "a text, then RSV2 on another", frame(TEXT, b"x", rsv=RSV2), sent=hello, messages=echoed)
    chopped = frame(TEXT, b"x", rsv=RSV2 | RSV3)
    yield _bad("3.3", "the same, a byte at a time", chopped, sent=hello, messages=echoed, piece_bytes=1)
    yield _bad("3.4", "RSV1 on a text, with no extension", frame(TEXT, b"x", rsv=RSV1), sent=hello, messages=echoed)
    yield _bad("3.5", "RSV1 and RSV3 on bytes", frame(BINARY, b"x", rsv=RSV1 | RSV3))
    yield _bad("3.6", "RSV1 and RSV2 on a ping", frame(PING, b"x", rsv=RSV1 | RSV2))
    yield _bad("3.7", "all of them on a close", frame(CLOSE, b"\x03\xe8", rsv=RSV1 | RSV2 | RSV3))


def _opcodes() -> Iterator[Case]:
    for group, opcodes in ((1, range(3, 8)), (2, range(11, 16))):
        for number, opcode in enumerate(opcodes, 1):
            name = f"4.{group}.{number}"
            if number % 2:
                yield _bad(name, f"opcode {opcode}", frame(opcode, b"reserved" if number > 1 else b""))
            else:
                hello = frame(TEXT, b"Hello")
                yield _bad(name, f"a text, then opcode {opcode}", frame(opcode), sent=hello, messages=("Hello",))


def _fragmentation() -> Iterator[Case]:
    first, second = frame(TEXT, b"frag", fin=False), frame(CONTINUATION, b"ment")
    lonely, endless = frame(CONTINUATION, b"lonely"), frame(CONTINUATION, b"lonely", fin=False)
    ping, pongs = frame(PING, b"p"), (b"p",)
    yield _bad("5.1", "a ping in two frames", frame(PING, b"x", fin=False) + frame(CONTINUATION, b"y"))
    yield _bad("5.2", "a pong in two frames", frame(PONG, b"x", fin=False) + frame(CONTINUATION, b"y"))
    yield Case("5.3", "a text in two frames", first + second, ("fragment",))
    yield Case("5.4", "the same, a frame at a time", first + second, ("fragment",), piece_bytes=len(first))
    yield Case("5.5", "the same, a byte at a time", first + second, ("fragment",), piece_bytes=1)
    yield Case("5.6", "a ping between the two", first + ping + second, ("fragment",), pongs)
    yield Case(
        "5.7", "the same, a frame at a time", first + ping + second, ("fragment",), pongs, piece_bytes=len(first)
    )
    yield Case("5.8", "the same, a byte at a time", first + ping + second, ("fragment",), pongs, piece_bytes=1)
    yield _bad("5.9", "the end of a message that never began", lonely)
    yield _bad("5.10", "the same, and a text", lonely + frame(TEXT, b"Hello"))
    yield _bad("5.11", "the same, a byte at a time", lonely + frame(TEXT, b"Hello"), piece_bytes=1)
    yield _bad("5.12", "the middle of a message that never began", endless)
    yield _bad("5.13", "the same, and a text", endless + frame(TEXT, b"Hello"))
    yield _bad("5.14", "the same, a byte at a time", endless + frame(TEXT, b"Hello"), piece_bytes=1)
    yield _bad("5.15", "a message, then the middle of none", endless, sent=first + second, messages=("fragment",))
    yield _bad("5.16", "the middle of none, then a whole message", endless + first + second)
    yield _bad("5.17", "the end of none, then a whole message", lonely + first + second)
    yield _bad("5.18", "a text within a text", first + frame(TEXT, b"ment"))
    pieces = [frame(TEXT, b"a", fin=False), *(frame(CONTINUATION, b"b", fin=False) for _ in range(3))]
    many = ping.join(pieces) + ping + frame(CONTINUATION, b"c")
    yield Case("5.19", "five frames with a ping between each", many, ("abbbc",), pongs * 4)
    yield Case("5.20", "the same, a byte at a time", many, ("abbbc",), pongs * 4, piece_bytes=1)
    yield Case("5.21", "frames without payload around one with", fragments(BINARY, b"", b"x", b""), (b"x",))
    yield Case("5.22", "a thousand frames of one byte", fragments(BINARY, *[b"x"] * 1000), (b"x" * 1000,))
    # A message that the close cuts off may be told of: the close frame that is due says 1002 then.
    either = NORMAL | PROTOCOL_ERROR
    yield Case("5.23", "a close between two frames of a text", first, last=close() + second, codes=either)


_KOSME: Final = "κόσμε"
_GOOD_TEXTS: Final = (
    "", "Hello-µ@ßöäüàá-UTF-8!!", _KOSME, "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd",
    "\ufffe", "\uffff", "\U00010000", "\U0001fffe", "\U0001ffff", "\U0010fffe", "\U0010ffff", "\ufeffmark", "🚪🔑",
)  # fmt: skip
_BAD_TEXTS: Final = (
    ("a lonely continuation byte", b"\x80"),
    ("the last continuation byte", b"\xbf"),
    ("seven continuation bytes", b"\x80\xbf\x80\xbf\x80\xbf\x80"),
    ("lonely first bytes of two", b"\xc3 \xdf "),
    ("lonely first bytes of three", b"\xe1 \xef "),
    ("lonely first bytes of four", b"\xf1 \xf4 "),
    ("two bytes, the last one missing", b"\xce"),
    ("three bytes, the last one missing", b"\xe0\xa0"),
    ("four bytes, the last one missing", b"\xf0\x90\x80"),
    ("a sequence that is cut by a letter", b"\xf0\x90\x80a"),
    ("0xfe", b"\xfe"),
    ("0xff", b"\xff"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("a slash in two bytes", b"\xc0\xaf"),
    ("a slash in three bytes", b"\xe0\x80\xaf"),
    ("a slash in four bytes", b"\xf0\x80\x80\xaf"),
    ("NUL in two bytes", b"\xc0\x80"),
    ("the last of the overlong two", b"\xc1\xbf"),
    ("the last of the overlong three", b"\xe0\x9f\xbf"),
    ("the last of the overlong four", b"\xf0\x8f\xbf\xbf"),
    ("the first surrogate", b"\xed\xa0\x80"),
    ("the last surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\x80\xed\xb0\x80"),
    ("the first past U+10FFFF", b"\xf4\x90\x80\x80"),
    ("far past U+10FFFF", b"\xf7\xbf\xbf\xbf"),
    ("a text with an end of a surrogate", _KOSME.encode() + b"\xed\xa0\x80edited"),
)


def _text() -> Iterator[Case]:
    for number, text in enumerate(_GOOD_TEXTS, 1):
        what = (
            "no text"
            if not text
            else f"{'U+' + format(ord(text), '04X') if len(text) == 1 else 'letters of all sorts'}"
        )
        yield Case(f"6.1.{number}", what, frame(TEXT, text.encode()), (text,))
    letters = _KOSME.encode()
    yield Case("6.2.1", "three frames without payload", fragments(TEXT, b"", b"", b""), ("",))
    yield Case("6.2.2", "cut between letters", fragments(TEXT, *(each.encode() for each in _KOSME)), (_KOSME,))
    yield Case("6.2.3", "cut within letters", fragments(TEXT, *cut(letters, 1)), (_KOSME,))
    yield Case("6.2.4", "a byte at a time", frame(TEXT, letters), (_KOSME,), piece_bytes=1)
    within = frame(TEXT, letters[:1], fin=False) + frame(PING, b"p") + frame(CONTINUATION, letters[1:])
    yield Case("6.2.5", "a ping within a letter", within, (_KOSME,), (b"p",))
    for number, (what, bad) in enumerate(_BAD_TEXTS, 1):
        yield _bad(f"6.3.{number}", what, frame(TEXT, bad), codes=NO_TEXT)
    for number, (what, bad) in enumerate((_BAD_TEXTS[23], _BAD_TEXTS[24]), 1):
        begun = frame(TEXT, letters, fin=False) + frame(CONTINUATION, bad, fin=False)
        rest = frame(CONTINUATION, b"edited")
        yield _bad(f"6.4.{number}", f"{what}, in a frame in the middle", begun + rest, codes=NO_TEXT)
        yield _bad(f"6.5.{number}", f"{what}, and then nothing more of the message", begun, codes=NO_TEXT, rest=rest)
    whole = frame(TEXT, b"\xce" + b"x" * 20_000)
    yield _bad(
        "6.5.3",
        "a letter that cannot be, and then nothing more of the frame",
        whole[:12],
        codes=NO_TEXT,
        rest=whole[12:],
    )
    yield Case("6.6.1", "what is no text, as bytes", frame(BINARY, b"\xed\xa0\x80"), (b"\xed\xa0\x80",))


def _closing() -> Iterator[Case]:
    hello, echoed = frame(TEXT, b"Hello"), ("Hello",)
    yield Case("7.1.1", "a message, then a close", hello, echoed)
    yield Case("7.1.2", "two closes", last=close() + close())
    yield Case("7.1.3", "a ping after the close", last=close() + frame(PING, b"late"))
    yield Case("7.1.4", "a text after the close", last=close() + hello)
    yield Case("7.1.5", "256 KiB after the close", last=close() + frame(BINARY, b"\xfe" * 262_144))
    yield Case("7.3.1", "a close without a code", last=close(None), codes=frozenset({NO_CODE, 1000}))
    yield _bad("7.3.2", "a close with one byte", frame(CLOSE, b"\x03"))
    yield Case("7.3.3", "a close with a code alone", last=close(1000))
    yield Case("7.3.4", "a close with a reason", last=close(1000, b"Hello World!"))
    yield Case("7.3.5", "the longest reason", last=close(1000, b"*" * 123))
    yield _bad("7.3.6", "a reason that is too long", close(1000, b"*" * 124))
    yield _bad("7.5.1", "a reason that is no text", close(1000, b"\xed\xa0\x80"), codes=frozenset({1002, 1007}))
    good = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999)
    for number, code in enumerate(good, 1):
        yield Case(f"7.7.{number}", f"code {code}", last=close(code), codes=frozenset({code, 1000}))
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535), 1):
        yield _bad(f"7.9.{number}", f"code {code}", close(code, b"reason"))


def _large() -> Iterator[Case]:
    mebibyte = 1024 * 1024
    for number, size in enumerate((262_144, mebibyte), 1):
        yield Case(f"9.1.{number}", f"text of {size} bytes", frame(TEXT, b"*" * size), ("*" * size,))
        yield Case(f"9.2.{number}", f"{size} bytes", frame(BINARY, b"\xfe" * size), (b"\xfe" * size,))
    for number, piece in enumerate((1024, 65_536), 1):
        pieces = tuple(cut(b"*" * mebibyte, piece))
        what = f"text of 1 MiB in frames of {piece} bytes"
        yield Case(f"9.3.{number}", what, fragments(TEXT, *pieces), ("*" * mebibyte,))
        yield Case(f"9.4.{number}", f"1 MiB in frames of {piece} bytes", fragments(BINARY, *pieces), (b"*" * mebibyte,))
    yield Case(
        "9.5.1", "1 MiB, 64 KiB at a time", frame(BINARY, b"x" * mebibyte), (b"x" * mebibyte,), piece_bytes=65_536
    )
    too_big = frozenset({1009})
    yield _bad("9.9.1", "more than the server takes", head(BINARY, MAX_MESSAGE_BYTES + 1), codes=too_big)
    pieces = tuple(cut(b"x" * (MAX_MESSAGE_BYTES + 1), 65_536))
    yield _bad("9.9.2", "the same, in frames", fragments(BINARY, *pieces), codes=too_big)


def _odds() -> Iterator[Case]:
    pieces = tuple(cut(b"*" * 65_536, 1300))
    yield Case("10.1.1", "text of 64 KiB in frames of 1300 bytes", fragments(TEXT, *pieces), ("*" * 65_536,))
    yield _bad("10.2.1", "a text that is not masked", frame(TEXT, b"Hello", masked=False))
    yield _bad("10.2.2", "a close that is not masked", frame(CLOSE, b"\x03\xe8", masked=False))
    yield _bad("10.3.1", "the first bit of a long length", head(BINARY, 1 << 63, size=8), codes=frozenset({1002, 1009}))
    for number, size in enumerate((2, 8), 1):
        long_way = head(BINARY, 5, size=size) + frame(BINARY, b"Hello")[6:]
        what = f"a length of 5 in {size} bytes"
        yield _bad(f"10.3.{number + 1}", what, long_way, rest=close(), tolerated=(b"Hello",))
    hundred = tuple(f"message {number}" for number in range(100))
    yield Case(
        "10.4.1", "a hundred messages at once", b"".join(frame(TEXT, each.encode()) for each in hundred), hundred
    )


def _compression() -> Iterator[Case]:
    for number, size in enumerate((0, 16, 1024, 65_536, 262_144), 1):
        text = ("doorward " * (size // 9 + 1))[:size]
        plain, compressed = text.encode(), deflated(text.encode())
        yield Case(
            f"12.1.{number}", f"text of {size} bytes", frame(TEXT, plain), (text,),
            deflate=True, if_deflate=frame(TEXT, compressed, rsv=RSV1),
        )  # fmt: skip
        yield Case(
            f"12.2.{number}", f"{size} bytes", frame(BINARY, plain), (plain,),
            deflate=True, if_deflate=frame(BINARY, compressed, rsv=RSV1),
        )  # fmt: skip
        pieces = tuple(cut(compressed, 64)) or (b"",)
        yield Case(
            f"12.3.{number}", f"text of {size} bytes, in frames", frame(TEXT, plain), (text,),
            deflate=True, if_deflate=fragments(TEXT, *pieces, rsv=RSV1),
        )  # fmt: skip
    yield Case("12.4.1", "a plain text", frame(TEXT, b"Hello"), ("Hello",), deflate=True)
    late = frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", rsv=RSV1)
    yield _bad("12.5.1", "RSV1 on a frame that begins nothing", late, deflate=True)
    yield _bad("12.5.2", "RSV1 on a ping", frame(PING, b"x", rsv=RSV1), deflate=True)
    garbage = frame(BINARY, b"\xff\xff\xff\xff", rsv=RSV1)
    either = frozenset({1002, 1007})
    yield _bad("12.5.3", "what cannot be inflated", garbage, deflate=True, codes_if_deflate=either)
    bomb = frame(BINARY, deflated(b"x" * (MAX_MESSAGE_BYTES + 1)), rsv=RSV1)
    too_big = frozenset({1009})
    yield _bad("12.5.4", "more than the server takes, inflated", bomb, deflate=True, codes_if_deflate=too_big)
