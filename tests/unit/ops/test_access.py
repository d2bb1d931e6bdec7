"""Who sits at this very host. Everything else about access needs a door, and is in tests/integration/test_ops.py."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from doorward.ops.access import is_this_host


def request(*headers: tuple[str, str], peer: str | None = "127.0.0.1") -> Request:
    fields = [(name.encode(), value.encode()) for name, value in headers]
    return Request({"type": "http", "headers": fields, "client": (peer, 4242) if peer is not None else None})


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "127.9.9.9:1", "[::1]", "[::1]:8000"]
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
def test_this_host(host: str, peer: str) -> None:
    assert is_this_host(request(("host", host), peer=peer))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "evil.localhost.example:80", "127.0.0.1.evil.example", "192.0.2.1:8000",
        "0.0.0.0:8000",        "localhost:", "localhost:x", "[::2]:8000", "[localhost", "", ":8000", "localhost:8000, evil.example",
        "user@localhost", "2130706433",
    ],
)  # fmt: skip
def test_a_name_of_the_outside_is_not_this_host(host: str) -> None:
    assert not is_this_host(request(("host", host)))


@pytest.mark.parametrize("peer", ["192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "unix", None])
def test_a_peer_from_outside_is_not_this_host(peer: str | None) -> None:
    assert not is_this_host(request(("host", "localhost"), peer=peer))


@pytest.mark.parametrize(
    "header",
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server", "x-real-ip", "via"],
)
def test_who_forwards_is_not_this_host(header: str) -> None:
    assert not is_this_host(request(("host", "localhost"), (header, "127.0.0.1")))


def test_without_a_name_or_with_two_it_is_not_this_host() -> None:
    assert not is_this_host(request())
    assert not is_this_host(request(("host", "localhost"), ("host", "localhost")))
