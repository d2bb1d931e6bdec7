"""Remembers where the auth service lives, so that a sick name server is no outage.

An address that was once good is used for as long as nobody gives a better one: up to 24 h where TLS proves the peer's name, up to
5 min where nothing does. New answers are fetched in the background; only the very first caller of a name waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from doorward.core.deadline import Deadline
from doorward.errors import BackendError, ResolveError
from doorward.runtime.ports import Address, Clock, DnsClient

QUERY_SECONDS: Final = 1.0
"""No query outlives this."""

MIN_REFRESH_SECONDS: Final = 1.0
MAX_REFRESH_SECONDS: Final = 60.0
MAX_AGE_WITH_TLS_SECONDS: Final = 24 * 3600.0
MAX_AGE_WITHOUT_TLS_SECONDS: Final = 300.0
MAX_HOSTS: Final = 64

_LOOPBACK = (Address("127.0.0.1", socket.AF_INET), Address("::1", socket.AF_INET6))


@dataclass(slots=True)
class _Known:
    """Times on the monotonic clock. A failed query moves `refresh_at`, never `fetched_at`."""

    addresses: Sequence[Address]
    fetched_at: float
    refresh_at: float


class Resolver:
    """Last-known-good addresses per host, with one query in flight per host.

    Args:
        tls: whether connections prove the peer's name, which allows a longer memory.
    """

    def __init__(self, client: DnsClient, clock: Clock, *, tls: bool) -> None:
        self._client = client
        self._clock = clock
        self._max_age = MAX_AGE_WITH_TLS_SECONDS if tls else MAX_AGE_WITHOUT_TLS_SECONDS
        self._known: dict[str, _Known] = {}
        self._flights: dict[str, asyncio.Task[Sequence[Address]]] = {}

    async def resolve(self, host: str, *, deadline: Deadline) -> Sequence[Address]:
        """Addresses of a name: at once from memory where there are any, else from the one query in flight.

        Raises:
            ResolveError: nothing is known, and the query failed or was not back by the deadline.

        Cancellation: the query goes on, for whoever asks next.
        """
        name = host.rstrip(".").lower()
        fixed = _fixed(name)
        if fixed is not None:
            return fixed
        now = self._clock.monotonic()
        known = self._known.get(name)
        if known is None or now - known.fetched_at > self._max_age:
            return await self._first_answer(name, deadline)
        if now >= known.refresh_at:
            self._flight(name)
        return known.addresses

    async def aclose(self) -> None:
        """Give up the queries in flight. The client belongs to whoever made it."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights, timeout=QUERY_SECONDS)

    async def _first_answer(self, name: str, deadline: Deadline) -> Sequence[Address]:
        flight = self._flight(name)
        await asyncio.wait({flight}, timeout=deadline.remaining(self._clock.monotonic()))
        if not flight.done():
            raise ResolveError(f"{name}: no answer of the name servers in time")
        if flight.cancelled():
            raise ResolveError(f"{name}: the resolver is closed")
        return flight.result()

    def _flight(self, name: str) -> asyncio.Task[Sequence[Address]]:
        flight = self._flights.get(name)
        if flight is None:
            # An empty context: whoever asked first does not own the query.
            flight = asyncio.create_task(self._query(name), name=f"resolve {name}", context=contextvars.Context())
            self._flights[name] = flight
            flight.add_done_callback(lambda done: self._landed(name, done))
        return flight

    async def _query(self, name: str) -> Sequence[Address]:
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                deadline = Deadline.after(self._clock.monotonic(), QUERY_SECONDS)
                addresses, ttl_seconds = await self._client.query(name, deadline=deadline)
        except TimeoutError:
            raise ResolveError(f"{name}: no answer of the name servers in {QUERY_SECONDS:g} s") from None
        if not addresses:
            raise ResolveError(f"{name}: the name servers gave no address")
        self._remember(name, addresses, ttl_seconds)
        return addresses

    def _remember(self, name: str, addresses: Sequence[Address], ttl_seconds: float) -> None:
        now = self._clock.monotonic()
        self._known.pop(name, None)
        while len(self._known) >= MAX_HOSTS:
            del self._known[next(iter(self._known))]
        refresh_seconds = min(max(ttl_seconds, MIN_REFRESH_SECONDS), MAX_REFRESH_SECONDS)
        self._known[name] = _Known(tuple(addresses), now, now + refresh_seconds)

    def _landed(self, name: str, flight: asyncio.Task[Sequence[Address]]) -> None:
        self._flights.pop(name, None)
        if flight.cancelled() or not isinstance(flight.exception(), BackendError):
            return
        known = self._known.get(name)
        if known is not None:
            known.refresh_at = self._clock.monotonic() + MIN_REFRESH_SECONDS


def _fixed(name: str) -> Sequence[Address] | None:
    """Addresses that need no name server: literals, and `localhost` with all below it (RFC 6761, section 6.3)."""
    try:
        address = ip_address(name)
    except ValueError:
        return _LOOPBACK if name == "localhost" or name.endswith(".localhost") else None
    return (Address(str(address), socket.AF_INET if address.version == 4 else socket.AF_INET6),)
