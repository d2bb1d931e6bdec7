"""The DNS client against a real UDP name server, healthy and not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiodns
import pytest

from doorward.adapters.dns import RENEW_SECONDS, AresDnsClient
from doorward.core.deadline import Deadline
from doorward.errors import ConfigError, ResolveError
from doorward.runtime.clock import SystemClock
from doorward.runtime.ports import Address, DnsClient
from doorward.runtime.resolver import QUERY_SECONDS, Resolver
from doorward.testing import DnsFault, FaultDns, eventually

V4 = Address("192.0.2.7", socket.AF_INET)
V6 = Address("2001:db8::7", socket.AF_INET6)


@pytest.fixture
async def server() -> AsyncIterator[FaultDns]:
    zone = {
        "both.test": [V6.host, V4.host],
        "four.test": [V4.host],
        "six.test": [V6.host],
        "many.test": ["192.0.2.1", "192.0.2.2"],
    }
    async with FaultDns(zone, ttl_seconds=33) as server:
        yield server


@pytest.fixture
async def client(server: FaultDns) -> AsyncIterator[DnsClient]:
    client = AresDnsClient([server.address])
    yield client
    await client.aclose()


def within(seconds: float) -> Deadline:
    return Deadline.after(asyncio.get_running_loop().time(), seconds)


@pytest.mark.parametrize(("host", "expected"), [("both.test", (V4, V6)), ("four.test", (V4,)), ("six.test", (V6,))])
async def test_addresses_and_ttl(client: DnsClient, host: str, expected: tuple[Address, ...]) -> None:
    assert await client.query(host, deadline=within(5)) == (expected, 33.0)


async def test_all_addresses_of_a_name(client: DnsClient) -> None:
    addresses, _ = await client.query("many.test", deadline=within(5))
    assert {address.host for address in addresses} == {"192.0.2.1", "192.0.2.2"}


@pytest.mark.parametrize("fault", [DnsFault.NXDOMAIN, DnsFault.SERVFAIL, DnsFault.REFUSED, DnsFault.JUNK])
async def test_a_name_server_that_fails(client: DnsClient, server: FaultDns, fault: DnsFault) -> None:
    server.fault = fault
    with pytest.raises(ResolveError):
        await client.query("both.test", deadline=within(5))
    server.fault = DnsFault.NONE
    assert (await client.query("both.test", deadline=within(5)))[0] == (V4, V6)


async def test_a_black_hole_ends_at_the_deadline(client: DnsClient, server: FaultDns) -> None:
    server.fault = DnsFault.BLACK_HOLE
    started = asyncio.get_running_loop().time()
    with pytest.raises(ResolveError):
        await client.query("both.test", deadline=within(0.2))
    assert asyncio.get_running_loop().time() - started < 0.7


async def test_a_black_hole_ends_by_itself(client: DnsClient, server: FaultDns) -> None:
    server.fault = DnsFault.BLACK_HOLE
    started = asyncio.get_running_loop().time()
    with pytest.raises(ResolveError):
        await client.query("both.test", deadline=within(20))
    assert asyncio.get_running_loop().time() - started < 3


async def test_a_cancelled_query_does_not_spoil_the_next(client: DnsClient, server: FaultDns) -> None:
    server.fault = DnsFault.BLACK_HOLE
    for _ in range(20):
        query = asyncio.create_task(client.query("both.test", deadline=within(5)))
        await asyncio.sleep(0)
        query.cancel()
        await asyncio.wait({query})
        assert query.cancelled()
    server.fault = DnsFault.NONE
    assert (await client.query("four.test", deadline=within(5)))[0] == (V4,)


async def test_a_name_of_the_hosts_file_needs_no_server(server: FaultDns) -> None:
    server.fault = DnsFault.BLACK_HOLE
    client = AresDnsClient([server.address])
    addresses, _ = await client.query("localhost", deadline=within(1))
    assert addresses
    assert server.total == 0
    await client.aclose()


@pytest.mark.parametrize("host", ["", "a" * 300, "bad name.test", "xn--\udcff.test", "a..b"])
async def test_a_name_that_is_none(client: DnsClient, host: str) -> None:
    with pytest.raises(ResolveError):
        await client.query(host, deadline=within(2))


async def test_a_bad_server_entry_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"auth\.dns_servers"):
        AresDnsClient(["not an address"])


async def test_closing_ends_what_is_in_flight(server: FaultDns) -> None:
    server.fault = DnsFault.BLACK_HOLE
    client = AresDnsClient([server.address])
    query = asyncio.create_task(client.query("both.test", deadline=within(20)))
    await eventually(lambda: server.total > 0)
    await client.aclose()
    with pytest.raises(ResolveError):
        await asyncio.wait_for(query, 2)
    with pytest.raises(ResolveError):
        await client.query("both.test", deadline=within(1))
    await client.aclose()


async def test_the_resolver_rides_out_a_dns_outage(client: DnsClient, server: FaultDns) -> None:
    server.ttl_seconds = 0
    resolver = Resolver(client, SystemClock(), tls=False)
    assert await resolver.resolve("four.test", deadline=within(2)) == (V4,)
    server.fault = DnsFault.BLACK_HOLE
    heard = server.queries["four.test"]
    await eventually_asked(resolver, server, heard)
    assert await resolver.resolve("four.test", deadline=within(0.0)) == (V4,)
    with pytest.raises(ResolveError):
        await resolver.resolve("both.test", deadline=within(0.2))
    server.fault = DnsFault.NONE
    await eventually(lambda: not resolver._flights, within_seconds=QUERY_SECONDS + 2)
    assert await resolver.resolve("both.test", deadline=within(2)) == (V4, V6)
    await resolver.aclose()


async def eventually_asked(resolver: Resolver, server: FaultDns, heard: int) -> None:
    """Resolve until a refresh has gone out; each answer comes at once."""
    ends_at = asyncio.get_running_loop().time() + 5
    while server.queries["four.test"] == heard:
        assert asyncio.get_running_loop().time() < ends_at
        assert await resolver.resolve("four.test", deadline=within(0.0)) == (V4,)
        await asyncio.sleep(0.02)


async def test_a_channel_that_gave_no_answer_is_replaced_and_one_that_said_no_is_kept() -> None:
    async with FaultDns({"auth.test": ["127.0.0.1"]}) as dns:
        client = AresDnsClient([dns.address])
        try:
            first = client._resolver
            with pytest.raises(ResolveError):
                await client.query("nobody.test", deadline=within(1))
            await asyncio.sleep(RENEW_SECONDS)
            await client.query("auth.test", deadline=within(1))
            assert client._resolver is first
            dns.fault = DnsFault.BLACK_HOLE
            with pytest.raises(ResolveError):
                await client.query("elsewhere.test", deadline=within(1))
            dns.fault = DnsFault.NONE
            await client.query("auth.test", deadline=within(1))
            assert client._resolver is not first
        finally:
            await client.aclose()


async def test_a_channel_that_refuses_from_its_start_is_replaced_within_the_query(server: FaultDns) -> None:
    """As one that died while it was made: it refuses at once, and asks nobody."""
    client = AresDnsClient([server.address])
    await client._resolver.close()
    client._resolver = await refusing_channel()
    answers = await asyncio.gather(*(client.query("both.test", deadline=within(5)) for _ in range(3)))
    assert [addresses for addresses, _ in answers] == [(V4, V6)] * 3
    await client.aclose()


async def test_name_servers_that_refuse_are_asked_twice_at_most() -> None:
    channel = await refusing_channel()
    client = AresDnsClient(channel.nameservers)
    made = client._resolver
    for _ in range(3):
        with pytest.raises(ResolveError):
            await client.query("both.test", deadline=within(5))
    assert client._retired is made, "one new channel, and not one a query"
    await channel.close()
    await client.aclose()


async def refusing_channel() -> aiodns.DNSResolver:
    """Of a name server that is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        nameserver = f"127.0.0.1:{taken.getsockname()[1]}"
    return aiodns.DNSResolver(nameservers=[nameserver], timeout=0.4, tries=2, lookups="fb")
