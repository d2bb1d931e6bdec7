"""An ASGI scope read as a handshake."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing

from doorward.asgi.handshake import HandshakeReader, scrubbed_scope
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


NO_ADDRESS = [None, (), ["", "0"]]
"""What servers say of a peer on a Unix socket."""


@pytest.mark.parametrize("client", NO_ADDRESS)
def test_a_peer_on_a_unix_socket_is_not_trusted_by_an_address_that_it_has_not(client: Any) -> None:
    lines = (("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http"))
    reader = HandshakeReader([], ["0.0.0.0/0", "::/0"])
    with structlog.testing.capture_logs() as said:
        seen = [reader.read(scope(*lines, client=client)) for _ in range(2)]
    assert {(handshake.address, handshake.scheme) for handshake in seen} == {("unix", "wss")}
    assert [line["event"] for line in said] == [
        "the server names no client addresses, so all clients share one limit: add unix to trusted_proxies"
    ], "once"


@pytest.mark.parametrize("client", NO_ADDRESS)
def test_a_peer_on_a_unix_socket_can_be_the_proxy(client: Any) -> None:
    reader = HandshakeReader([], ["unix", "192.0.2.0/24"])
    lines = (("x-forwarded-for", "198.51.100.7, 203.0.113.9, 192.0.2.9"), ("x-forwarded-proto", "https"))
    handshake = reader.read(scope(*lines, client=client))
    assert (handshake.address, handshake.scheme) == ("203.0.113.9", "https")
    assert reader.read(scope(("x-forwarded-for", "203.0.113.9, unix"), client=client)).address == "unix"
    assert reader.read(scope(client=client)).address == "unix"


def test_a_proxy_that_comes_to_a_listener_for_both_kinds_is_known_by_its_ipv4_address() -> None:
    peer = ("::ffff:192.0.2.9", 1)
    handshake = HandshakeReader([], ["192.0.2.0/24"]).read(scope(("x-forwarded-for", "203.0.113.9"), client=peer))
    assert handshake.address == "203.0.113.9"


def test_who_has_an_address_is_no_peer_on_a_unix_socket() -> None:
    handshake = HandshakeReader([], ["unix"]).read(scope(("x-forwarded-for", "203.0.113.9")))
    assert handshake.address == "192.0.2.1"


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


@pytest.mark.parametrize(
    ("peer", "header", "trusted", "noted"),
    [
        ("10.0.0.5", "203.0.113.9", [], ["10.0.0.5"]),
        ("10.0.0.5", "203.0.113.9", ["10.0.0.0/8"], []),
        ("10.0.0.5", "198.51.100.7, 172.16.0.9", ["10.0.0.0/8"], ["172.16.0.9"]),
        ("10.0.0.5", "172.16.0.9", ["10.0.0.0/8"], []),
        ("10.0.0.5", "198.51.100.7, 8.8.8.8", ["10.0.0.0/8"], []),
        ("8.8.8.8", "203.0.113.9", [], []),
        ("10.0.0.5", None, [], []),
    ],
    ids=["a proxy", "a trusted one", "one behind it", "a client in the house", "a client outside", "a stranger", "nobody's"],
)  # fmt: skip
def test_a_private_address_that_forwards_untrusted_is_noted(
    peer: str, header: str | None, trusted: list[str], noted: list[str]
) -> None:
    seen: list[str] = []
    lines = () if header is None else (("x-forwarded-for", header),)
    HandshakeReader([], trusted, untrusted=seen.append).read(scope(*lines, client=(peer, 1)))
    assert seen == noted


@pytest.mark.parametrize("kind", [tuple, list], ids=["pairs", "lists, as some servers have them"])
def test_the_app_gets_the_headers_in_order_and_no_credential(kind: Any) -> None:
    lines = (
        ("host", "door.example"),
        ("cookie", "theme=dark; __Host-doorward=ambient"),
        ("x-app", "1"),
        ("cookie", "theme=dark"),
        ("authorization", "Bearer secret"),
        ("cookie", "__Host-doorward=ambient"),
        ("x-app", "2"),
        ("authorization", "Basic of-the-app"),
    )
    brought = scope(*lines, subprotocols=["doorward.v1"], query_string=b"a=1&ticket=secret")
    brought["headers"] = [kind(header) for header in brought["headers"]]
    before = list(brought["headers"])
    seen = scrubbed_scope(brought, "view", HandshakeReader([], ()).read(brought), "__Host-doorward")
    assert [(name.decode(), value.decode()) for name, value in seen["headers"]] == [
        ("host", "door.example"),
        ("cookie", "theme=dark"),
        ("x-app", "1"),
        ("cookie", "theme=dark"),
        ("x-app", "2"),
        ("authorization", "Basic of-the-app"),
    ]
    assert (seen["doorward"], seen["subprotocols"], seen["query_string"]) == ("view", ["doorward.v1"], b"a=1")
    assert brought["headers"] == before
