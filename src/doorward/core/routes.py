"""Which rules hold for a path. Patterns are exact paths, or prefixes that end in `/*`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from doorward.core.credential import DEFAULT_TRANSPORTS, Transport


@dataclass(frozen=True, slots=True)
class Route:
    """Rules of a guarded path."""

    path: str = "/*"
    transports: frozenset[Transport] = DEFAULT_TRANSPORTS
    required_scopes: frozenset[str] = frozenset()
    allow_degraded: bool = True
    notices: bool = False


DEFAULT_ROUTE = Route()


def matches(pattern: str, path: str) -> bool:
    if pattern.endswith("/*"):
        return path.startswith(pattern[:-1]) or path == pattern[:-2]
    return path == pattern


def route_for(routes: Sequence[Route], path: str) -> Route:
    return next((route for route in routes if matches(route.path, path)), DEFAULT_ROUTE)


def is_public(patterns: Sequence[str], path: str) -> bool:
    """Never for a path that a framework might read as another one: dot segments, double or back slashes, an encoded slash."""
    if not patterns:
        return False
    if "//" in path or "\\" in path or "%" in path or "/." in path:
        return False
    return any(matches(pattern, path) for pattern in patterns)


def guards_http(patterns: Sequence[str], path: str) -> bool:
    """Does one of the patterns name this path, or one that a framework might read it as? A pattern that begins with `!` exempts.

    A path with dot segments, double or back slashes or an encoded character counts as what it may be folded into too, and is
    never exempt.
    """
    if not patterns:
        return False
    folded = _folded(path)
    if folded == path and any(pattern.startswith("!") and matches(pattern[1:], path) for pattern in patterns):
        return False
    return any(matches(pattern, path) or matches(pattern, folded) for pattern in patterns)


def _folded(path: str) -> str:
    """What the path is after all that servers and frameworks are known to do to one."""
    flat = unquote(path).replace("\\", "/")
    folded = posixpath.normpath("/" + flat.lstrip("/"))
    return folded + "/" if flat.endswith("/") and folded != "/" else folded
