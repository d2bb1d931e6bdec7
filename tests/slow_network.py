"""Sockets as over a real network: on loopback the kernel takes megabytes for a peer that does not read."""

from __future__ import annotations

import asyncio
import socket

SEGMENT_BYTES = 1_400
RECEIVE_BYTES = 4_096


async def narrow_socket(port: int, *, receive_bytes: int = RECEIVE_BYTES) -> socket.socket:
    """A connection to a local port through which little fits at a time."""
    narrow = socket.socket()
    narrow.setblocking(False)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    try:
        await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    except BaseException:
        narrow.close()
        raise
    return narrow
