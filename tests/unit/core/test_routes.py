from __future__ import annotations

import pytest

from doorward.core.credential import Transport
from doorward.core.routes import (
    DEFAULT_ROUTE,
    Route,
    guards_http,
    is_public,
    matches,
    path_in_app,
    pattern_fault,
    route_for,
)


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


@pytest.mark.parametrize("pattern", ["/", "/*", "/ws", "/ws/", "/chat/*", "/a b/c", "/.well-known/x"])
def test_a_pattern_that_can_match_has_no_fault(pattern: str) -> None:
    assert pattern_fault(pattern) is None
    assert matches(pattern, pattern.replace("*", "x"))


@pytest.mark.parametrize(
    ("pattern", "mend"),
    [
        ("", "/*"),
        ("*", "/*"),
        ("**", "/*"),
        ("ws", "/ws/*"),
        ("api/*", "/api/*"),
        ("/api*", "/api/*"),
        ("/api/**", "/api/*"),
        ("/*/x", "/*"),
        ("/api/{id}", "/api/*"),
        ("/api/x?y", "/api/x/*"),
        ("/api/x#y", "/api/x/*"),
        ("/api/x ", "/api/x/*"),
        (" /api/x", "/api/x/*"),
    ],
)
def test_a_pattern_that_no_path_matches_is_told_with_one_that_does(pattern: str, mend: str) -> None:
    fault = pattern_fault(pattern)
    assert fault is not None
    assert fault.endswith(f"; write {mend}")
    assert pattern_fault(mend) is None


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


BOSS = Route("/boss", required_scopes=frozenset({"admin"}), allow_degraded=False)
OPEN = Route("/open/*", transports=frozenset({Transport.HEADER, Transport.COOKIE}))


@pytest.mark.parametrize("path", ["/boss", "/boss/", "//boss", "/./boss", "/open/../boss", "\\boss", "/%62oss"])
def test_rules_hold_for_all_that_a_path_may_be_read_as(path: str) -> None:
    """Litestar serves `/boss/` and `//boss` as `/boss`."""
    assert route_for([OPEN, BOSS], path).required_scopes == {"admin"}
    assert not route_for([OPEN, BOSS], path).allow_degraded
    assert guards_http(["/boss"], path)
    assert guards_http(["/boss/"], path)


def test_where_two_routes_may_be_meant_the_strictest_of_both_holds() -> None:
    both = route_for([OPEN, BOSS], "/open/../boss")

    assert both.transports == {Transport.HEADER}
    assert both.required_scopes == {"admin"}


@pytest.mark.parametrize(
    ("path", "root_path", "inside"),
    [
        ("/app/ws", "/app", "/ws"),
        ("/app", "/app", "/"),
        ("/apple/ws", "/app", "/apple/ws"),
        ("/ws", "/app", "/ws"),
        ("/ws", "", "/ws"),
        ("*", "", "*"),
    ],
)
def test_rules_are_about_the_path_inside_of_the_prefix(path: str, root_path: str, inside: str) -> None:
    assert path_in_app(path, root_path) == inside


@pytest.mark.parametrize("path", ["/app/boss", "/appboss", "/app//boss", "/x/app/boss", "/app/x/../boss/"])
def test_however_a_framework_cuts_the_prefix_off(path: str) -> None:
    assert route_for([OPEN, BOSS], path, "/app").required_scopes == {"admin"}
    assert guards_http(["/boss"], path, "/app")


def test_a_rule_for_the_whole_path_holds_too() -> None:
    """An app without a framework may read `path` as it is."""
    assert guards_http(["/app/boss"], "/app/boss", "/app")


def test_what_is_public_is_so_inside_of_the_prefix() -> None:
    assert is_public(["/status"], "/app/status", "/app")
    assert not is_public(["/status"], "/app/status")
    assert not guards_http(["/*", "!/status"], "/app/status", "/app")
