"""Whose address counts when a proxy stands in front. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from doorward.core.limits import UNIX_PEER, network_of

Network = IPv4Network | IPv6Network
MAX_HOPS = 32


def parse_networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """`unix` is passed over: `authd` listens on TCP alone."""
    return tuple(ip_network(cidr, strict=False) for cidr in cidrs if cidr != UNIX_PEER)


def client_address(peer: str, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """The right-most entry of X-Forwarded-For that no trusted proxy has, else the peer. IPv6 as its /64.

    Entries further left are whatever the client wrote, so they never count.
    """
    address = peer
    hops = reversed(forwarded.split(",")[-MAX_HOPS:]) if forwarded else iter(())
    while _is_trusted(address, trusted):
        hop = next(hops, None)
        if hop is None or not _is_address(hop.strip()):
            break
        address = hop.strip()
    return network_of(address)


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
