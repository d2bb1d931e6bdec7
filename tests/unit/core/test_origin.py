from __future__ import annotations

import pytest

from doorward.core.origin import allowed, is_behind_tls, normalised

LISTED = frozenset({"https://app.example"})


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        (None, "wss", "door.example"),
        ("https://app.example", "wss", "door.example"),
        ("https://app.example", "wss", None),
        ("https://door.example", "wss", "door.example"),
        ("https://door.example", "wss", "DOOR.example:443"),
        ("http://127.0.0.1:8000", "ws", "127.0.0.1:8000"),
        ("http://[::1]:8000", "ws", "[::1]:8000"),
        ("https://door.example:8443", "https", "door.example:8443"),
    ],
)
def test_no_origin_the_same_and_the_listed_ones_may_connect(origin: str | None, scheme: str, host: str | None) -> None:
    assert allowed(origin, scheme=scheme, host=host, extra=LISTED) is True


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("https://evil.example", "wss", "door.example"),
        ("https://app.example.evil.example", "wss", "door.example"),
        ("https://app.example:8443", "wss", "door.example"),
        ("http://app.example", "wss", "door.example"),
        ("http://door.example", "wss", "door.example"),
        ("https://door.example:8443", "wss", "door.example"),
        ("null", "wss", "door.example"),
        ("", "wss", "door.example"),
        ("null", "wss", None),
        ("https://door.example/path", "wss", "door.example"),
        ("https://user@door.example", "wss", "door.example"),
        ("https://door.example", "wss", "door.example:99999"),
        ("file://door.example", "ftp", "door.example"),
        ("https://", "wss", ""),
    ],
)
def test_any_other_origin_may_not(origin: str, scheme: str, host: str | None) -> None:
    assert allowed(origin, scheme=scheme, host=host, extra=LISTED) is False


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "expected"),
    [
        ("https://app.example", "ws", "app.example", True),
        ("https://app.example", "http", "app.example", True),
        ("https://app.example", "wss", "app.example", False),
        ("http://app.example", "wss", "app.example", False),
        ("https://app.example", "ws", "app.example:8000", False),
        ("https://evil.example", "ws", "app.example", False),
        ("https://app.example", "ws", None, False),
    ],
)
def test_an_origin_that_differs_by_tls_alone_is_known(
    origin: str, scheme: str, host: str | None, expected: bool
) -> None:
    assert is_behind_tls(origin, scheme=scheme, host=host) is expected


def test_the_default_port_is_filled_in() -> None:
    assert normalised("https://A.example") == normalised("https://a.example:443") == ("https", "a.example", "443")
    assert normalised("http://a.example:0") == ("http", "a.example", "0")


@pytest.mark.parametrize("text", ["https://[::1", "https://a.example:port", "a.example", "https://a.example?x", "//a"])
def test_what_is_no_origin_is_none(text: str) -> None:
    assert normalised(text) is None
