"""A DNS server on loopback with a zone of its own, which can lie, stall and fall silent."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, ClassVar

from doorward.errors import UsageError
from doorward.testing.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_TTL_SECONDS = 60

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_TAIL = struct.Struct("!HH")
_RECORD = struct.Struct("!HHHLH")
_NAME_OF_QUESTION = 0xC00C
"""A compression pointer to the name right after the header (RFC 1035, section 4.1.4)."""

_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0100
_CLASS_IN = 1


class RecordType(IntEnum):
    """The record types the zone can hold (RFC 1035, RFC 3596)."""

    A = 1
    AAAA = 28


class _Rcode(IntEnum):
    NOERROR = 0
    SERVFAIL = 2
    NXDOMAIN = 3
    REFUSED = 5


class DnsFaultKind(StrEnum):
    """What can be wrong with a name server."""

    NONE = "none"
    """Answers from the zone; a name that is not in it is NXDOMAIN, a type that it lacks an empty answer."""
    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    BLACK_HOLE = "black_hole"
    """Reads the question and never answers."""
    SLOW = "slow"
    """Answers from the zone, late. Answers that are waiting when it is healed still come late."""
    JUNK = "junk"
    """Answers with bytes that are no DNS message."""


@dataclass(frozen=True, slots=True)
class DnsFault:
    """One fault of a name server. Use the constants, or `DnsFault.slow`."""

    kind: DnsFaultKind
    seconds: float = 0.0

    NONE: ClassVar[DnsFault]
    NXDOMAIN: ClassVar[DnsFault]
    SERVFAIL: ClassVar[DnsFault]
    REFUSED: ClassVar[DnsFault]
    BLACK_HOLE: ClassVar[DnsFault]
    JUNK: ClassVar[DnsFault]

    @classmethod
    def slow(cls, seconds: float) -> DnsFault:
        """Every answer comes this much later."""
        return cls(DnsFaultKind.SLOW, seconds)

    def __str__(self) -> str:
        return f"{self.kind}({self.seconds:g} s)" if self.seconds else str(self.kind)


DnsFault.NONE = DnsFault(DnsFaultKind.NONE)
DnsFault.NXDOMAIN = DnsFault(DnsFaultKind.NXDOMAIN)
DnsFault.SERVFAIL = DnsFault(DnsFaultKind.SERVFAIL)
DnsFault.REFUSED = DnsFault(DnsFaultKind.REFUSED)
DnsFault.BLACK_HOLE = DnsFault(DnsFaultKind.BLACK_HOLE)
DnsFault.JUNK = DnsFault(DnsFaultKind.JUNK)

_RCODES = {
    DnsFaultKind.NXDOMAIN: _Rcode.NXDOMAIN,
    DnsFaultKind.SERVFAIL: _Rcode.SERVFAIL,
    DnsFaultKind.REFUSED: _Rcode.REFUSED,
}


class FaultDns(StandIn):
    """A real UDP name server. Names are compared without regard to case; it knows A and AAAA only.

    ```python
    async with FaultDns({"auth.test": ["127.0.0.1"]}) as dns:
        settings = Settings(auth={"url": "http://auth.test:8001", "dns_servers": [dns.address]})
        dns.fault = DnsFault.BLACK_HOLE
    ```

    Args:
        zone: addresses by name.
        ttl_seconds: the TTL of every record.
        host: the loopback address to listen on.
    """

    def __init__(
        self,
        zone: Mapping[str, Sequence[str]] | None = None,
        *,
        ttl_seconds: int = DEFAULT_TTL_SECONDS,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.port = 0
        self.ttl_seconds = ttl_seconds
        self.fault = DnsFault.NONE
        """What is wrong now; may be switched at any time."""
        self.queries: Counter[str] = Counter()
        """Questions heard, by name in lower case, whatever was answered."""
        self.total = 0
        self._zone: dict[str, tuple[IPv4Address | IPv6Address, ...]] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._late: set[asyncio.TimerHandle] = set()
        for name, addresses in (zone or {}).items():
            self.set(name, *addresses)

    async def start(self) -> None:
        """Take a free UDP port; after `aclose` the same one again."""
        if self._transport is not None:
            raise UsageError("the name server is already running")
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Listener(self), (self.host, self.port))
        self.port = self._transport.get_extra_info("sockname")[1]

    async def aclose(self) -> None:
        """Stop listening; late answers are dropped."""
        while self._late:
            self._late.pop().cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
            await asyncio.sleep(0)

    @property
    def address(self) -> str:
        """`host:port`, as `auth.dns_servers` takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def set(self, name: str, *addresses: str) -> None:
        """Give a name these addresses; none: the name exists and has no address."""
        self._zone[name.lower().rstrip(".")] = tuple(ip_address(address) for address in addresses)

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._zone.pop(name.lower().rstrip("."), None)

    def heard(self, datagram: bytes, sender: tuple[str, int]) -> None:
        """Take one question. What is no well-formed question is dropped."""
        question = _parse(datagram)
        if question is None or self._transport is None:
            return
        self.total += 1
        self.queries[question.name] += 1
        answer = self._answer(question)
        if answer is None:
            return
        if self.fault.kind is DnsFaultKind.SLOW:
            self._send_late(answer, sender)
        else:
            self._transport.sendto(answer, sender)

    def _answer(self, question: _Question) -> bytes | None:
        kind = self.fault.kind
        if kind is DnsFaultKind.BLACK_HOLE:
            return None
        if kind is DnsFaultKind.JUNK:
            return question.id.to_bytes(2) + b"\xff" * 7
        if kind in _RCODES:
            return question.answer(_RCODES[kind], (), 0)
        if question.name not in self._zone:
            return question.answer(_Rcode.NXDOMAIN, (), 0)
        return question.answer(_Rcode.NOERROR, self._zone[question.name], self.ttl_seconds)

    def _send_late(self, answer: bytes, sender: tuple[str, int]) -> None:
        def send() -> None:
            self._late.discard(handle)
            if self._transport is not None:
                self._transport.sendto(answer, sender)

        handle = asyncio.get_running_loop().call_later(self.fault.seconds, send)
        self._late.add(handle)


@dataclass(frozen=True, slots=True)
class _Question:
    """The one question of a query. `raw` is repeated in the answer as it came: resolvers check the case they chose."""

    id: int
    flags: int
    name: str
    type: int
    raw: bytes

    def answer(self, rcode: _Rcode, addresses: Sequence[IPv4Address | IPv6Address], ttl_seconds: int) -> bytes:
        records = [
            _RECORD.pack(_NAME_OF_QUESTION, self.type, _CLASS_IN, ttl_seconds, len(address.packed)) + address.packed
            for address in addresses
            if self.type == (RecordType.A if address.version == 4 else RecordType.AAAA)
        ]
        flags = _RESPONSE | _AUTHORITATIVE | (self.flags & _RECURSION_DESIRED) | rcode
        return _HEADER.pack(self.id, flags, 1, len(records), 0, 0) + self.raw + b"".join(records)


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, server: FaultDns) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.heard(data, addr)


def _parse(datagram: bytes) -> _Question | None:
    """The question of a standard query (RFC 1035, section 4.1); `None` for anything else. EDNS records are not read."""
    if len(datagram) < _HEADER.size:
        return None
    query_id, flags, questions, *_ = _HEADER.unpack_from(datagram)
    if flags & _RESPONSE or questions != 1:
        return None
    labels: list[str] = []
    at = _HEADER.size
    while at < len(datagram) and (length := datagram[at]):
        label = datagram[at + 1 : at + 1 + length]
        if length > 63 or len(label) < length:
            return None
        labels.append(label.decode("latin-1").lower())
        at += 1 + length
    end = at + 1 + _QUESTION_TAIL.size
    if end > len(datagram):
        return None
    record_type, record_class = _QUESTION_TAIL.unpack_from(datagram, at + 1)
    if record_class != _CLASS_IN:
        return None
    return _Question(query_id, flags, ".".join(labels), record_type, datagram[_HEADER.size : end])
