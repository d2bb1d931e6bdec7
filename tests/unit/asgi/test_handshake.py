"""An ASGI scope read as a handshake."""

from __future__ import annotations

from typing import Any

import pytest

from doorward.asgi.handshake import HandshakeReader
from doorward.core.routes import DEFAULT_ROUTE, Route

ADMIN = Route("/admin/*")


def scope(*headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return {"type": "websocket", "path": "/ws", "headers": raw, "client": ("192.0.2.1", 1), "scheme": "wss", **more}


def test_what_a_plain_scope_says() -> None:
    handshake = HandshakeReader([ADMIN], ()).read(
        scope(("host", "door.example"), ("origin", "https://door.example"), subprotocols=["doorward.v1"])
    )
    assert (handshake.path, handshake.address, handshake.scheme) == ("/ws", "192.0.2.1", "wss")
    assert (handshake.host, handshake.origin) == ("door.example", "https://door.example")
    assert list(handshake.presented.subprotocols) == ["doorward.v1"]
    assert handshake.route is DEFAULT_ROUTE


def test_the_first_route_that_matches_holds() -> None:
    assert HandshakeReader([ADMIN], ()).read(scope(path="/admin/users")).route is ADMIN


@pytest.mark.parametrize("client", [None, ()])
def test_a_server_that_does_not_know_its_client(client: Any) -> None:
    """As on a Unix socket: all share one limit, and nobody is taken for a trusted proxy."""
    handshake = HandshakeReader([], ["0.0.0.0/0"]).read(scope(("x-forwarded-for", "203.0.113.9"), client=client))
    assert handshake.address == "unknown"


def test_a_scope_without_the_optional_parts() -> None:
    bare = {"type": "websocket", "path": "/ws", "headers": []}
    handshake = HandshakeReader([], ()).read(bare)
    assert (handshake.scheme, handshake.host, handshake.origin) == ("ws", None, None)
    assert list(handshake.presented.subprotocols) == []


def test_a_repeated_origin_matches_nothing() -> None:
    origin = "https://door.example"
    handshake = HandshakeReader([], ()).read(scope(("origin", origin), ("origin", origin)))
    assert handshake.origin not in {origin, None}


@pytest.mark.parametrize(
    ("proto", "scheme"), [("https", "https"), ("HTTPS", "https"), ("http, https", "https"), ("", "wss"), (",", "wss")]
)
def test_the_nearest_proxy_says_the_scheme(proto: str, scheme: str) -> None:
    reader = HandshakeReader([], ["192.0.2.0/24"])
    assert reader.read(scope(("x-forwarded-proto", proto))).scheme == scheme


def test_the_right_most_address_that_is_no_proxy() -> None:
    reader = HandshakeReader([], ["192.0.2.0/24", "2001:db8:aaaa::/48"])
    lines = (("x-forwarded-for", "203.0.113.66, 198.51.100.7"), ("x-forwarded-for", "2001:db8:aaaa::1, 192.0.2.9"))
    assert reader.read(scope(*lines)).address == "198.51.100.7"


def test_only_proxies_all_the_way() -> None:
    reader = HandshakeReader([], ["192.0.2.0/24"])
    assert reader.read(scope(("x-forwarded-for", "192.0.2.8, 192.0.2.9"))).address == "192.0.2.1"
