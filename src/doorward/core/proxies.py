"""Is the whole world behind one private address? Then it is a proxy that nobody told us to trust."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

from doorward.core.lru import Lru

ENOUGH: Final = 20
"""So many handshakes that one address forwards for others are no accident."""

KEPT_ADDRESSES: Final = 64


def is_private(address: str) -> bool:
    """An address that nobody on the internet has: a proxy of the house may, one of its clients seldom does."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:  # a listener for both kinds
        parsed = parsed.ipv4_mapped
    return not parsed.is_global


class UntrustedProxies:
    """Counts what private addresses forward that `trusted_proxies` does not name. Of the addresses the last 64 are kept."""

    def __init__(self) -> None:
        self._forwarded: Lru[str, int] = Lru(KEPT_ADDRESSES)

    def noted(self, address: str) -> bool:
        """One more handshake that this address forwarded. True when it is enough to be sure: once."""
        count = (self._forwarded.get(address) or 0) + 1
        self._forwarded.put(address, count)
        return count == ENOUGH
