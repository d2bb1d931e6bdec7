from __future__ import annotations

import pytest

from doorward.core.credential import Transport
from doorward.core.routes import DEFAULT_ROUTE, Route, guards_http, is_public, matches, route_for


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


API = ("/api/*", "!/api/config")


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/x", "/api/config/", "//api/x", "/api//config", "/x/../api/y"])
def test_a_guarded_http_path(path: str) -> None:
    assert guards_http(API, path)


@pytest.mark.parametrize(
    "path", ["/API%2fx/../../api", "/%61pi/x", "\\api\\x", "/./api/config", "/api/./config", "/api/%63onfig"]
)
def test_a_path_that_may_be_folded_into_a_guarded_one(path: str) -> None:
    assert guards_http(API, path)


@pytest.mark.parametrize("path", ["/", "", "/apix", "/api/config", "/.well-known/x", "/x/api/y"])
def test_a_path_that_no_pattern_names(path: str) -> None:
    assert not guards_http(API, path)


def test_without_patterns_http_is_not_guarded() -> None:
    assert not guards_http((), "/api/x")
