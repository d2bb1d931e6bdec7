from __future__ import annotations

import pytest

from doorward.core.credential import Transport
from doorward.core.routes import DEFAULT_ROUTE, Route, is_public, matches, route_for


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/ws", "/ws", True),
        ("/ws", "/ws/", False),
        ("/ws", "/wsx", False),
        ("/chat/*", "/chat", True),
        ("/chat/*", "/chat/", True),
        ("/chat/*", "/chat/a/b", True),
        ("/chat/*", "/chatter", False),
        ("/*", "/anything", True),
    ],
)
def test_patterns_are_exact_or_prefixes(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_the_first_matching_route_holds() -> None:
    narrow = Route("/ws/admin", required_scopes=frozenset({"admin"}))
    wide = Route("/ws/*", allow_degraded=False)

    assert route_for([narrow, wide], "/ws/admin") is narrow
    assert route_for([narrow, wide], "/ws/other") is wide
    assert route_for([narrow, wide], "/elsewhere") is DEFAULT_ROUTE


def test_the_default_route_takes_no_cookie() -> None:
    assert Transport.COOKIE not in DEFAULT_ROUTE.transports


@pytest.mark.parametrize(
    "path",
    [
        "/public/../ws",
        "/public/./x",
        "/public//x",
        "//public/x",
        "/public\\..\\ws",
        "/public/%2e%2e/ws",
        "/public/..",
        "/ws",
    ],
)
def test_a_path_that_may_be_read_as_another_is_never_public(path: str) -> None:
    assert is_public(["/public/*"], path) is False


def test_a_plain_path_may_be_public() -> None:
    assert is_public(["/status", "/public/*"], "/public/feed") is True
    assert is_public(["/status", "/public/*"], "/status") is True
    assert is_public([], "/status") is False
