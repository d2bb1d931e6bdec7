"""May a page of this origin open a WebSocket here? Exact match only (RFC 6454; RFC 6455 section 10.2)."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PAGE_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def allowed(origin: str | None, *, scheme: str, host: str | None, extra: frozenset[str]) -> bool:
    """True without an `Origin` (not a browser), for the same origin, and for the listed ones.

    Args:
        scheme: of the handshake, ws or wss (http, https).
        host: the `Host` header.
    """
    if origin is None or origin in extra:
        return True
    wanted = normalised(f"{_PAGE_SCHEMES.get(scheme, scheme)}://{host}") if host else None
    return wanted is not None and normalised(origin) == wanted


def is_behind_tls(origin: str, *, scheme: str, host: str | None) -> bool:
    """Is it the same origin but for TLS, which a proxy may have ended that nobody trusts to say so?"""
    return _PAGE_SCHEMES.get(scheme) == "http" and allowed(origin, scheme="https", host=host, extra=frozenset())


@lru_cache(maxsize=64)
def normalised(origin: str) -> tuple[str, str, str] | None:
    """(scheme, host, port) in lower case with the default port filled in; `None` if it is no origin (`null` too)."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path or parts.query or parts.username:
        return None
    return parts.scheme, parts.hostname.lower(), str(port) if port is not None else _DEFAULT_PORTS[parts.scheme]
