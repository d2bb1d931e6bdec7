"""Which rules hold for a path. Patterns are exact paths, or prefixes that end in `/*`.

The path is the one that the app behind reads, without the prefix that it is mounted at (`path_in_app`). Frameworks differ in
what they make of a path: some drop a last slash, merge slashes, resolve dots, or cut the prefix off in a way of their own. So a
rule that protects holds for all that a path may be read as, and one that lifts protection only for a plain path.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from urllib.parse import unquote

from doorward.core.credential import DEFAULT_TRANSPORTS, Transport

_MANY_SLASHES = re.compile("//+")
_UNUSUAL = re.compile(r"//|/\.|\\|%")


@dataclass(frozen=True, slots=True)
class Route:
    """Rules of a guarded path."""

    path: str = "/*"
    transports: frozenset[Transport] = DEFAULT_TRANSPORTS
    required_scopes: frozenset[str] = frozenset()
    allow_degraded: bool = True
    notices: bool = False


DEFAULT_ROUTE = Route()


def path_in_app(path: str, root_path: str) -> str:
    """The path without the prefix that the app is mounted at, as frameworks route it.

    Source: ASGI specification, HTTP connection scope: `path` includes `root_path`.
    """
    rest = path[len(root_path) :] if root_path and path.startswith(root_path) else path
    return rest if rest.startswith("/") else path if rest else "/"


def pattern_fault(pattern: str) -> str | None:
    """Why no path could ever match, and what to write instead; `None` where one can. Such a rule would guard nothing."""
    exact = pattern.removesuffix("/*")
    if not pattern.startswith("/"):
        fault = "does not begin with /"
    elif pattern != pattern.strip():
        fault = "has a blank at an end"
    elif "*" in exact:
        fault = "has a * that is not a last /*"
    elif found := next((sign for sign in "{}?#" if sign in exact), None):
        fault = f"has a {found}, and a pattern is an exact path or a prefix that ends in /*"
    else:
        return None
    stem = re.split(r"[*{?#]", pattern.strip())[0].strip("/")
    return f"{fault}; write {f'/{stem}/*' if stem else '/*'}"


def matches(pattern: str, path: str) -> bool:
    if pattern.endswith("/*"):
        return path.startswith(pattern[:-1]) or path == pattern[:-2]
    return path == pattern


def route_for(routes: Sequence[Route], path: str, root_path: str = "") -> Route:
    """The first that matches; where the path may be read in several ways, what is strictest in all that match."""
    if not routes:
        return DEFAULT_ROUTE
    found = (_first(routes, reading) for reading in _readings(path, root_path))
    return reduce(_strictest, (route for route in found if route is not None), None) or DEFAULT_ROUTE


def is_public(patterns: Sequence[str], path: str, root_path: str = "") -> bool:
    """Never for a path that a framework might read as another one: dot segments, double or back slashes, an encoded slash."""
    if not patterns:
        return False
    inside = path_in_app(path, root_path)
    return _is_plain(inside) and any(matches(pattern, inside) for pattern in patterns)


def guards_http(patterns: Sequence[str], path: str, root_path: str = "") -> bool:
    """Does one of the patterns name this path, or one that a framework might read it as? A pattern that begins with `!` exempts.

    A path with dot segments, double or back slashes or an encoded character is never exempt.
    """
    if not patterns or is_public([pattern[1:] for pattern in patterns if pattern.startswith("!")], path, root_path):
        return False
    readings = _readings(path, root_path)
    return any(_names(pattern, reading) for pattern in patterns for reading in readings)


def _first(routes: Sequence[Route], reading: str) -> Route | None:
    return next((route for route in routes if _names(route.path, reading)), None)


def _strictest(one: Route | None, other: Route) -> Route:
    if one is None or one is other:
        return other
    return Route(
        path=other.path,
        transports=one.transports & other.transports,
        required_scopes=one.required_scopes | other.required_scopes,
        allow_degraded=one.allow_degraded and other.allow_degraded,
        notices=one.notices and other.notices,
    )


def _names(pattern: str, reading: str) -> bool:
    return matches(_without_last_slash(pattern), reading)


def _readings(path: str, root_path: str) -> Sequence[str]:
    """What frameworks are known to make of a path, each without a last slash."""
    starts = _rooted(path, root_path) if root_path else (path,)
    return tuple(dict.fromkeys(_without_last_slash(way) for start in starts for way in _foldings(start)))


def _rooted(path: str, root_path: str) -> Sequence[str]:
    """Starlette cuts the prefix off at a slash, Channels and Quart anywhere; Litestar cuts it out of the middle too."""
    _, _, after = path.partition(root_path)
    return (path_in_app(path, root_path), "/" + after.lstrip("/"), path) if root_path in path else (path,)


def _foldings(path: str) -> Sequence[str]:
    return (path, _MANY_SLASHES.sub("/", path), _folded(path)) if _UNUSUAL.search(path) else (path,)


def _is_plain(path: str) -> bool:
    return not _UNUSUAL.search(path) or _folded(path) == path


def _without_last_slash(path: str) -> str:
    return path.rstrip("/") or "/"


def _folded(path: str) -> str:
    """What the path is after all that servers and frameworks are known to do to one."""
    flat = unquote(path).replace("\\", "/")
    folded = posixpath.normpath("/" + flat.lstrip("/"))
    return folded + "/" if flat.endswith("/") and folded != "/" else folded
