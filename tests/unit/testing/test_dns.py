"""The name server answers a real resolver over UDP, and fails the way it is told."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import aiodns
import pytest

from doorward.errors import UsageError
from doorward.testing import DnsFault, FaultDns, no_leaks

BOUND_SECONDS = 5.0
NAME = "auth.test"


@pytest.fixture
async def dns() -> AsyncIterator[FaultDns]:
    async with FaultDns({NAME: ["127.0.0.2", "127.0.0.3", "::1"], "six.test": ["::2"], "empty.test": []}) as server:
        yield server


@pytest.fixture
async def resolver(dns: FaultDns) -> AsyncIterator[aiodns.DNSResolver]:
    asking = aiodns.DNSResolver(nameservers=[dns.address], timeout=0.2, tries=1)
    yield asking
    await asking.close()


async def lookup(resolver: aiodns.DNSResolver, name: str, family: int = socket.AF_INET) -> list[str]:
    async with asyncio.timeout(BOUND_SECONDS):
        result = await resolver.getaddrinfo(name, family=socket.AddressFamily(family))
    return sorted(node.addr[0].decode() for node in result.nodes)


async def fails(resolver: aiodns.DNSResolver, name: str = NAME) -> int:
    with pytest.raises(aiodns.error.DNSError) as caught:
        await lookup(resolver, name)
    return int(caught.value.args[0])


def query(name: str, *, record_type: int = 1, record_class: int = 1, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return (
        struct.pack("!HHHHHH", 7, flags, questions, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack("!HH", record_type, record_class)
    )


async def ask_raw(dns: FaultDns, datagram: bytes, *, within_seconds: float = BOUND_SECONDS) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect((dns.host, dns.port))
        await loop.sock_sendall(asking, datagram)
        return await asyncio.wait_for(loop.sock_recv(asking, 4096), within_seconds)


async def test_both_families_come_from_the_zone(dns: FaultDns, resolver: aiodns.DNSResolver) -> None:
    assert await lookup(resolver, NAME) == ["127.0.0.2", "127.0.0.3"]
    assert await lookup(resolver, NAME, socket.AF_INET6) == ["::1"]
    assert dns.queries[NAME] == dns.total == 2


async def test_the_answer_repeats_the_question_as_it_was_spelled(dns: FaultDns) -> None:
    asked = query("AuTh.TeSt")
    answer = await ask_raw(dns, asked)
    assert asked[12:] in answer
    assert answer[:2] == asked[:2]
    assert struct.unpack("!H", answer[6:8]) == (2,)
    assert dns.queries[NAME] == 1


async def test_the_ttl_is_the_one_given() -> None:
    async with FaultDns({NAME: ["127.0.0.1"]}, ttl_seconds=7) as dns:
        answer = await ask_raw(dns, query(NAME))
    assert struct.unpack("!L", answer[-10:-6]) == (7,)
    assert answer[-4:] == bytes([127, 0, 0, 1])


async def test_an_unknown_name_and_a_missing_type_differ(dns: FaultDns, resolver: aiodns.DNSResolver) -> None:
    assert await fails(resolver, "nobody.test") == aiodns.error.ARES_ENOTFOUND
    for name in ("six.test", "empty.test"):
        assert await fails(resolver, name) == aiodns.error.ARES_ENODATA


async def test_names_come_and_go(dns: FaultDns, resolver: aiodns.DNSResolver) -> None:
    dns.set("New.Test.", "127.0.0.9")
    assert (await ask_raw(dns, query("new.test")))[-4:] == bytes([127, 0, 0, 9])
    dns.remove("new.test")
    assert await fails(resolver, "new.test") == aiodns.error.ARES_ENOTFOUND


@pytest.mark.parametrize(
    ("fault", "rcode"), [(DnsFault.NXDOMAIN, 3), (DnsFault.SERVFAIL, 2), (DnsFault.REFUSED, 5)], ids=str
)
async def test_an_error_is_its_rcode_without_records(fault: DnsFault, rcode: int, dns: FaultDns) -> None:
    dns.fault = fault
    answer = await ask_raw(dns, query(NAME))
    assert answer[3] & 0x0F == rcode
    assert struct.unpack("!H", answer[6:8]) == (0,)
    dns.fault = DnsFault.NONE
    assert (await ask_raw(dns, query(NAME)))[3] & 0x0F == 0


async def test_a_black_hole_hears_and_says_nothing_until_it_is_healed(
    dns: FaultDns, resolver: aiodns.DNSResolver
) -> None:
    dns.fault = DnsFault.BLACK_HOLE
    assert await fails(resolver) == aiodns.error.ARES_ETIMEOUT
    assert dns.queries[NAME] > 0
    dns.fault = DnsFault.NONE
    assert await lookup(resolver, NAME) == ["127.0.0.2", "127.0.0.3"]


async def test_slow_answers_come_late(dns: FaultDns) -> None:
    loop = asyncio.get_running_loop()
    dns.fault = DnsFault.slow(0.15)
    started = loop.time()
    assert (await ask_raw(dns, query(NAME)))[3] & 0x0F == 0
    assert 0.145 <= loop.time() - started < BOUND_SECONDS


async def test_junk_is_no_dns_message(dns: FaultDns) -> None:
    dns.fault = DnsFault.JUNK
    assert len(await ask_raw(dns, query(NAME))) < 12


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"short",
        query(NAME, flags=0x8000),
        query(NAME, questions=2),
        query(NAME, record_class=3),
        query(NAME)[:-3],
        query(NAME)[:16],
        query(NAME)[:12] + b"\xc0\x0c\0\x01\0\x01",
    ],
    ids=["empty", "short", "a response", "two questions", "chaos", "no type", "cut name", "pointer"],
)
async def test_what_is_no_question_is_dropped(datagram: bytes, dns: FaultDns) -> None:
    with pytest.raises(TimeoutError):
        await ask_raw(dns, datagram, within_seconds=0.05)
    assert dns.total == 0


async def test_closing_drops_late_answers_and_leaves_no_file() -> None:
    dns = FaultDns({NAME: ["127.0.0.1"]})
    async with no_leaks():
        await dns.start()
        with pytest.raises(UsageError):
            await dns.start()
        port, dns.fault = dns.port, DnsFault.slow(60)
        with pytest.raises(TimeoutError):
            await ask_raw(dns, query(NAME), within_seconds=0.05)
        await dns.aclose()
    await dns.start()
    assert dns.port == port
    await dns.aclose()
