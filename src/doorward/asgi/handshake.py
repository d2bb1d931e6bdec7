"""An ASGI scope read as a handshake: who is calling, from where, with what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from doorward.asgi.types import Scope
from doorward.core.credential import Headers, Presented, carriers_of, scrubbed
from doorward.core.limits import UNIX_PEER
from doorward.core.proxies import is_private
from doorward.core.routes import Route, path_in_app, route_for
from doorward.runtime.authenticator import Handshake
from doorward.runtime.log import get_logger

Network = IPv4Network | IPv6Network

log = get_logger("doorward")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

KEPT_PATHS = 64
"""There are few paths, but for those that somebody makes up."""


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
        self._place = lru_cache(maxsize=KEPT_PATHS)(
            lambda path, root_path: (path_in_app(path, root_path), route_for(routes, path, root_path))
        )
        self._trusts_unix = UNIX_PEER in trusted_proxies
        self._trusted: list[Network] = [
            ip_network(proxy, strict=False) for proxy in trusted_proxies if proxy != UNIX_PEER
        ]
        self._untrusted = untrusted
        self._has_warned = False

    def read(self, scope: Scope, route: Route | None = None) -> Handshake:
        """Args: route: whose rules hold; by default that of the path."""
        values = _by_name(scope["headers"])
        address = self._peer(scope)
        scheme = scope.get("scheme", "ws")
        if self._is_trusted(address):
            address = self._forwarded_for(values) or address
            scheme = _last(values, b"x-forwarded-proto") or scheme
        elif b"x-forwarded-for" in values and is_private(address):
            self._untrusted(address)
        path, of_path = self._place(scope["path"], scope.get("root_path", ""))
        return Handshake(
            path=path,
            address=address,
            origin=_text(values, b"origin"),
            host=_text(values, b"host"),
            scheme=scheme,
            presented=Presented(
                carriers_of(scope["headers"]), scope.get("subprotocols", ()), scope.get("query_string", b"")
            ),
            route=route or of_path,
            is_safe=scope.get("method") in SAFE_METHODS,
        )

    def _forwarded_for(self, values: Mapping[bytes, bytes]) -> str | None:
        """The right-most entry that is not a trusted proxy: everything left of it is the client's own word."""
        found = _text(values, b"x-forwarded-for")
        entries = [part.strip() for part in found.split(",")] if found is not None else []
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


def scrubbed_scope(scope: Scope, admission: object, handshake: Handshake, cookie: str) -> dict[str, Any]:
    """The scope for the app: without the credential, with the live view."""
    clean = scrubbed(handshake.presented, handshake.route.transports, cookie=cookie, among=scope["headers"])
    seen = {**scope, "headers": clean.headers, "query_string": clean.query, "doorward": admission}
    if "subprotocols" in scope:
        seen["subprotocols"] = clean.subprotocols
    return seen


def origin_of(scope: Scope) -> str | None:
    """The `Origin`, which a page cannot choose; `None` where there is none."""
    return _text(_by_name(scope["headers"]), b"origin")


def _by_name(headers: Headers) -> Mapping[bytes, bytes]:
    """The values; those of a repeated header with commas between, so that it matches nothing and is refused further on."""
    values = dict(headers)
    if len(values) == len(headers):
        return values
    repeated: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        repeated.setdefault(name, []).append(value)
    return {name: b",".join(each) for name, each in repeated.items()}


def _text(values: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = values.get(name)
    return value.decode("latin-1") if value is not None else None


def _last(values: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = _text(values, name)
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
