"""A door that never notices that a client has left, and keeps its half of the connection."""

from __future__ import annotations

from typing import Any

from doorward.__main__ import main
from doorward.asgi.uvicorn_websocket import DoorwardWebSocketProtocol


def half_open(_: DoorwardWebSocketProtocol) -> bool:
    return True


def overhear(_: DoorwardWebSocketProtocol, __: Any) -> None:
    return


DoorwardWebSocketProtocol.eof_received = half_open  # type: ignore[method-assign,assignment]
DoorwardWebSocketProtocol.handle_close = overhear  # type: ignore[method-assign,assignment]
main()
