"""Asks name servers with c-ares: never in the event loop's default executor, where a hung lookup would starve everything else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Final

import aiodns
import pycares

from doorward.core.deadline import Deadline
from doorward.errors import ConfigError, ResolveError
from doorward.runtime.ports import Address

TRY_SECONDS: Final = 0.4
TRIES: Final = 2
RESOLUTION_DELAY_SECONDS: Final = 0.05
"""How long an address of one family waits for the other's (RFC 8305, section 3)."""

RENEW_SECONDS: Final = 1.0
"""A channel lives at least so long, unless it refuses from its start."""

_NO_ANSWER = frozenset({pycares.errno.ARES_ECONNREFUSED, pycares.errno.ARES_ETIMEOUT, pycares.errno.ARES_ECANCELLED})
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class AresDnsClient:
    """A `DnsClient`. Reads /etc/hosts first and then asks: `nameservers` (`host` or `host:port`), or the system's.

    A c-ares channel can die for good: made while another one is closed, or after an outage of the network, it refuses every
    query without asking anybody, or never comes back (c-ares issue 1000). So one that gave no answer at all is replaced before
    the next query; and one that refuses the very first, at once.

    Args:
        key: of `nameservers` in the settings, for an error.

    Raises:
        ConfigError: an entry of `nameservers` is not an address.
    """

    def __init__(self, nameservers: Sequence[str] = (), *, key: str = "auth.dns_servers") -> None:
        self._nameservers = list(nameservers)
        self._key = key
        self._retired: aiodns.DNSResolver | None = None
        self._is_suspect = False
        self._resolver = self._channel()
        self._made_at = asyncio.get_running_loop().time()
        self._is_unproven = True
        """The channel has not answered yet, and may be dead from its start."""
        self._is_closed = False

    async def query(self, host: str, *, deadline: Deadline) -> tuple[Sequence[Address], float]:
        """Both families at once. One that answers does not wait long for one that does not.

        Raises:
            ResolveError: no such name, no answer, or no address.

        Cancellation: c-ares ends the lookup by itself after `TRIES` tries.
        """
        now = asyncio.get_running_loop().time
        if self._is_suspect and now() - self._made_at >= RENEW_SECONDS:
            await self._renew(now())
        asked = self._resolver
        try:
            return await self._ask(host, deadline)
        except ResolveError as error:
            if _errno(error) != pycares.errno.ARES_ECONNREFUSED or not (
                self._is_unproven or asked is not self._resolver
            ):
                raise
        if asked is self._resolver:  # nobody else has replaced it meanwhile
            await self._renew(now())
            self._is_unproven = False  # that is enough for name servers that do refuse
        return await self._ask(host, deadline)

    async def _ask(self, host: str, deadline: Deadline) -> tuple[Sequence[Address], float]:
        now = asyncio.get_running_loop().time
        lookups = {asyncio.ensure_future(self._lookup(host, family)): family for family in _FAMILIES}
        try:
            pending = set(lookups)
            ends_at = deadline.at
            while pending and now() < ends_at:
                done, pending = await asyncio.wait(
                    pending, timeout=max(ends_at - now(), 0.0), return_when=asyncio.FIRST_COMPLETED
                )
                if any(lookup.exception() is None for lookup in done):
                    ends_at = min(ends_at, now() + RESOLUTION_DELAY_SECONDS)
            found = _merged(host, [lookup for lookup in lookups if lookup.done()])
            retired, self._retired = self._retired, None
            await _close(retired)  # the new channel works, so no other is being made
            return found
        finally:
            self._is_suspect = not any(_was_answered(lookup) for lookup in lookups)
            self._is_unproven = self._is_unproven and self._is_suspect
            for lookup in lookups:
                lookup.cancel()

    async def aclose(self) -> None:
        """End every lookup. Bounded: c-ares cleans up on a thread of its own."""
        self._is_closed = True
        for channel in (self._resolver, self._retired):
            await _close(channel)

    def _channel(self) -> aiodns.DNSResolver:
        try:
            return aiodns.DNSResolver(
                nameservers=self._nameservers or None, timeout=TRY_SECONDS, tries=TRIES, lookups="fb"
            )
        except pycares.AresError as error:
            raise ConfigError(
                f"{self._key}: {', '.join(self._nameservers)}: write IP addresses, each with an optional :port"
            ) from error

    async def _renew(self, now: float) -> None:
        """A fresh channel. The old one is closed when this one has answered: not while a new one is being made."""
        if self._is_closed:
            return
        before = self._retired
        self._retired, self._resolver = self._resolver, self._channel()
        self._made_at, self._is_suspect, self._is_unproven = now, False, True
        await _close(before)

    async def _lookup(self, host: str, family: socket.AddressFamily) -> list[tuple[Address, float]]:
        try:
            result = await self._resolver.getaddrinfo(host, family=family, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise ResolveError(
                f"{host}: {error.args[1] if len(error.args) > 1 else 'no answer of the name servers'}"
            ) from error
        except (UnicodeError, RuntimeError) as error:
            raise ResolveError(f"{host}: cannot be asked about ({type(error).__name__})") from error
        return [
            (Address(_text(node.addr[0]), family), float(node.ttl)) for node in result.nodes if node.family == family
        ]


def _was_answered(lookup: asyncio.Future[list[tuple[Address, float]]]) -> bool:
    """A name server said something, if only that there is no such name."""
    if not lookup.done() or lookup.cancelled():
        return False
    failure = lookup.exception()
    return failure is None or _errno(failure) not in {None, *_NO_ANSWER}


def _errno(failure: BaseException) -> int | None:
    """Of c-ares; `None`: it did not come to that."""
    cause = failure.__cause__
    return int(cause.args[0]) if isinstance(cause, aiodns.error.DNSError) else None


async def _close(channel: aiodns.DNSResolver | None) -> None:
    if channel is not None:
        with contextlib.suppress(RuntimeError):  # closed before
            await channel.close()


def _merged(
    host: str, lookups: Sequence[asyncio.Future[list[tuple[Address, float]]]]
) -> tuple[Sequence[Address], float]:
    """IPv4 first: a broken IPv6 route, which is the common fault, then costs no connection its first 250 ms."""
    found = [pair for lookup in lookups if lookup.exception() is None for pair in lookup.result()]
    if found:
        addresses = tuple(dict.fromkeys(address for address, _ in found))
        return addresses, min(ttl for _, ttl in found)
    failures = [failure for lookup in lookups if (failure := lookup.exception()) is not None]
    raise failures[0] if failures else ResolveError(f"{host}: no address, or no answer of the name servers in time")


def _text(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address
