"""What a `FaultProxy` can do to a connection. A fault is a value: compare it, name it in a table, switch to it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

from doorward.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PART_BYTES = 64 * 1024
DRIP_SECONDS = 0.1


class FaultKind(StrEnum):
    """The kinds, each with what it does to new connections and to those already open."""

    NONE = "none"
    """Bytes pass. What another fault held back is delivered late, as by a process that was thawed."""
    REFUSE = "refuse"
    """Nobody listens: the kernel refuses. Open connections are reset, as when the process died."""
    BLACK_HOLE = "black_hole"
    """A SYN is never answered. Open connections freeze: nothing more is read or sent."""
    RESET = "reset"
    """Accepted, then RST. Open connections get their RST at once."""
    SILENCE = "silence"
    """Accepted and read, never answered; the request is not passed on. An answer under way stops where it is."""
    HEADER_STALL = "header_stall"
    """The status line and one header of the real answer, then silence. An answer under way stops where it is."""
    DRIP = "drip"
    """The real answer, a byte at a time. An answer under way goes on like that."""
    TRUNCATE = "truncate"
    """Half the body of the real answer, then a clean close. An answer under way is closed where it is."""
    TLS_STALL = "tls_stall"
    """The first flight (the ClientHello) is read and never answered. Connections answered before go on as usual."""
    LATENCY = "latency"
    """The first byte of each answer comes later. An answer under way goes on."""
    STALE_KEEP_ALIVE = "stale_keep_alive"
    """One exchange a connection; a second request on it is reset unanswered. It is not passed on."""
    ANSWER = "answer"
    """The proxy answers the next complete request itself (plain HTTP/1.1), then closes. It is not passed on."""


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """Raw bytes of an answer: `head`, `part` so many times, `tail`. Endless bodies need no memory."""

    head: bytes
    part: bytes = b""
    repeat: int = 1
    tail: bytes = b""

    def chunks(self) -> Iterator[bytes]:
        """The answer in pieces of at most about 64 KiB."""
        yield self.head
        at_once = max(PART_BYTES // max(len(self.part), 1), 1)
        for done in range(0, self.repeat if self.part else 0, at_once):
            yield self.part * min(at_once, self.repeat - done)
        yield self.tail


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its parameters. Use the constants and the makers below.

    `share` is the part of connections and requests that it strikes, drawn with the proxy's seed.
    """

    kind: FaultKind
    seconds: float = 0.0
    """LATENCY: the delay. DRIP: per byte. ANSWER: before the answer."""
    jitter_seconds: float = 0.0
    """Up to this much more, drawn with the proxy's seed."""
    share: float = 1.0
    answer: CannedAnswer | None = field(default=None, repr=False)

    NONE: ClassVar[Fault]
    REFUSE: ClassVar[Fault]
    BLACK_HOLE: ClassVar[Fault]
    RESET: ClassVar[Fault]
    SILENCE: ClassVar[Fault]
    HEADER_STALL: ClassVar[Fault]
    DRIP: ClassVar[Fault]
    TRUNCATE: ClassVar[Fault]
    TLS_STALL: ClassVar[Fault]
    STALE_KEEP_ALIVE: ClassVar[Fault]

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError("the share of a fault is between 0 and 1")
        if self.share < 1 and self.kind in {FaultKind.REFUSE, FaultKind.BLACK_HOLE}:
            raise UsageError(f"{self.kind} is a state of the listening socket; it strikes everybody or nobody")
        if (self.answer is None) is (self.kind is FaultKind.ANSWER):
            raise UsageError("an answer goes with FaultKind.ANSWER, and only with it")

    def __str__(self) -> str:
        return f"{self.kind}({self.seconds:g} s)" if self.seconds else str(self.kind)

    def for_share(self, share: float) -> Fault:
        """The same fault, for this part of connections and requests only: `Fault.latency(1.5).for_share(0.9)`."""
        return replace(self, share=share)

    @classmethod
    def latency(cls, seconds: float, *, jitter_seconds: float = 0.0) -> Fault:
        """Every answer starts this much later."""
        return cls(FaultKind.LATENCY, seconds=seconds, jitter_seconds=jitter_seconds)

    @classmethod
    def drip(cls, seconds_per_byte: float = DRIP_SECONDS) -> Fault:
        """One byte of the answer each `seconds_per_byte`."""
        return cls(FaultKind.DRIP, seconds=seconds_per_byte)

    @classmethod
    def status(
        cls, code: int, body: bytes = b"", headers: Mapping[str, str] | None = None, *, delay_seconds: float = 0.0
    ) -> Fault:
        """This status to everything. `headers` replace the JSON content type."""
        return cls._answers(CannedAnswer(_head(code, len(body), headers) + body), delay_seconds)

    @classmethod
    def body(cls, body: bytes, headers: Mapping[str, str] | None = None) -> Fault:
        """A 200 with this body: wrong JSON, half JSON, another contract, junk."""
        return cls.status(200, body, headers)

    @classmethod
    def redirect(cls, location: str, *, code: int = 307) -> Fault:
        """Sends everybody elsewhere."""
        return cls.status(code, headers={"Location": location})

    @classmethod
    def huge_body(cls, size_bytes: int = 1 << 30) -> Fault:
        """A 200 whose body is this long: a JSON string that does not end before."""
        parts = max(size_bytes // PART_BYTES, 1)
        head = _head(200, parts * PART_BYTES + 2, None)
        return cls._answers(CannedAnswer(head + b'"', b"a" * PART_BYTES, parts, b'"'))

    @classmethod
    def gzip_bomb(cls, expanded_bytes: int = 64 << 20) -> Fault:
        """A small gzip body that expands to this much. Made here, so construct it before the clock runs."""
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        zeros = bytes(1 << 20)
        packed = [packer.compress(zeros) for _ in range(max(expanded_bytes // len(zeros), 1))]
        body = b"".join([*packed, packer.flush()])
        return cls.status(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"})

    @classmethod
    def nested_json(cls, depth: int = 100_000) -> Fault:
        """A 200 with arrays nested so deep."""
        return cls.body(b"[" * depth + b"]" * depth)

    @classmethod
    def informational_flood(cls, count: int = 100_000) -> Fault:
        """So many `103 Early Hints`, then an empty 200."""
        return cls._answers(CannedAnswer(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", count, _head(200, 0, None)))

    @classmethod
    def _answers(cls, answer: CannedAnswer, delay_seconds: float = 0.0) -> Fault:
        return cls(FaultKind.ANSWER, seconds=delay_seconds, answer=answer)


Fault.NONE = Fault(FaultKind.NONE)
Fault.REFUSE = Fault(FaultKind.REFUSE)
Fault.BLACK_HOLE = Fault(FaultKind.BLACK_HOLE)
Fault.RESET = Fault(FaultKind.RESET)
Fault.SILENCE = Fault(FaultKind.SILENCE)
Fault.HEADER_STALL = Fault(FaultKind.HEADER_STALL)
Fault.DRIP = Fault.drip()
Fault.TRUNCATE = Fault(FaultKind.TRUNCATE)
Fault.TLS_STALL = Fault(FaultKind.TLS_STALL)
Fault.STALE_KEEP_ALIVE = Fault(FaultKind.STALE_KEEP_ALIVE)


def _head(code: int, length: int, headers: Mapping[str, str] | None) -> bytes:
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = "Unknown"
    fields = {"Content-Type": "application/json"} if headers is None else dict(headers)
    fields |= {"Content-Length": str(length), "Connection": "close"}
    lines = [f"HTTP/1.1 {code} {phrase}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
