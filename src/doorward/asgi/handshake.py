"""An ASGI scope read as a handshake: who is calling, from where, with what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import structlog

from doorward.asgi.types import Scope
from doorward.core.credential import Presented, Transport, scrubbed
from doorward.core.limits import UNIX_PEER
from doorward.core.proxies import is_private
from doorward.core.routes import Route, path_in_app, route_for
from doorward.runtime.authenticator import Handshake

Network = IPv4Network | IPv6Network

log = structlog.get_logger("doorward")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_READ = frozenset({b"host", b"origin", b"authorization", b"cookie", b"x-forwarded-for", b"x-forwarded-proto"})
"""The headers that count here; the others are passed over once."""


class HandshakeReader:
    """Knows whose `X-Forwarded-For` and `X-Forwarded-Proto` count. A peer without an address is one on a Unix socket.

    Args:
        untrusted: told of each private address that is taken for the client, and says that it only forwards.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        trusted_proxies: Sequence[str],
        untrusted: Callable[[str], None] = lambda _address: None,
    ) -> None:
        self._routes = routes
        self._trusts_unix = UNIX_PEER in trusted_proxies
        self._trusted: list[Network] = [
            ip_network(proxy, strict=False) for proxy in trusted_proxies if proxy != UNIX_PEER
        ]
        self._untrusted = untrusted
        self._has_warned = False

    def read(self, scope: Scope, route: Route | None = None) -> Handshake:
        """Args: route: whose rules hold; by default that of the path."""
        headers: Sequence[tuple[bytes, bytes]] = [header for header in scope["headers"] if header[0] in _READ]
        address = self._peer(scope)
        scheme = scope.get("scheme", "ws")
        root_path = scope.get("root_path", "")
        if self._is_trusted(address):
            address = self._forwarded_for(headers) or address
            scheme = _last(headers, b"x-forwarded-proto") or scheme
        elif _one(headers, b"x-forwarded-for") is not None and is_private(address):
            self._untrusted(address)
        return Handshake(
            path=path_in_app(scope["path"], root_path),
            address=address,
            origin=_one(headers, b"origin"),
            host=_one(headers, b"host"),
            scheme=scheme,
            presented=Presented(headers, scope.get("subprotocols", ()), scope.get("query_string", b"")),
            route=route or route_for(self._routes, scope["path"], root_path),
            is_safe=scope.get("method") in SAFE_METHODS,
        )

    def _forwarded_for(self, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """The right-most entry that is not a trusted proxy: everything left of it is the client's own word."""
        entries = [
            part.strip()
            for name, value in headers
            if name == b"x-forwarded-for"
            for part in value.decode("latin-1").split(",")
        ]
        while entries:
            address = _address(entries.pop())
            if address is None:
                return None
            if not self._is_trusted(address):
                if entries and is_private(address):
                    self._untrusted(address)
                return address
        return None

    def _peer(self, scope: Scope) -> str:
        client = scope.get("client")
        if client and client[0]:
            return str(client[0])
        if not self._trusts_unix and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the server names no client addresses, so all clients share one limit: add unix to trusted_proxies"
            )
        return UNIX_PEER

    def _is_trusted(self, address: str) -> bool:
        if address == UNIX_PEER:
            return self._trusts_unix
        if not self._trusted:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:  # a listener for both kinds
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._trusted)


def scrubbed_scope(scope: Scope, admission: object, transports: frozenset[Transport], cookie: str) -> dict[str, Any]:
    """The scope for the app: without the credential, with the live view."""
    query = scope.get("query_string", b"")
    clean = scrubbed(Presented(scope["headers"], scope.get("subprotocols", ()), query), transports, cookie=cookie)
    seen = {**scope, "headers": clean.headers, "query_string": clean.query, "doorward": admission}
    if "subprotocols" in scope:
        seen["subprotocols"] = clean.subprotocols
    return seen


def origin_of(scope: Scope) -> str | None:
    """The `Origin`, which a page cannot choose; `None` where there is none."""
    return _one(scope["headers"], b"origin")


def _one(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    """The value of a header that stands once; a repeated one matches nothing, so it is refused further on."""
    found = None
    for name, value in headers:
        if name == wanted:
            text = value.decode("latin-1")
            found = text if found is None else f"{found},{text}"
    return found


def _last(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    value = _one(headers, wanted)
    return value.split(",")[-1].strip().lower() or None if value else None


def _address(entry: str) -> str | None:
    """`192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`."""
    host = entry
    if entry.startswith("["):
        host = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        host = entry.partition(":")[0]
    try:
        return str(ip_address(host))
    except ValueError:
        return None
