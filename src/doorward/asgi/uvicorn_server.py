"""The bounded opening handshake for a uvicorn that somebody else runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from doorward.asgi.middleware import Doorward
from doorward.asgi.opening import OpeningCounters, OpeningPolicy, OpeningWatch
from doorward.asgi.uvicorn_protocol import DoorwardHttpProtocol
from doorward.core.credential import Transport
from doorward.runtime.log import get_logger

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

log = get_logger("doorward")

_UNTOLD_BYTES = 16 * 1024 * 1024
"""uvicorn's `ws_max_size` where nobody chose one."""

_watches: WeakKeyDictionary[Config, OpeningWatch] = WeakKeyDictionary()


class UvicornProtocol(DoorwardHttpProtocol):
    """What `doorward serve` bounds before the app sees anything: `uvicorn app:app --http doorward:UvicornProtocol`.

    It brings a WebSocket protocol of its own, which answers every upgrade; of uvicorn's `ws` only `none` counts. The deadline and
    `limits` are those of the door that uvicorn serves.
    """

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        watch = _watches.get(config)
        if watch is None:
            door = _door_of(config.loaded_app)
            policy = OpeningPolicy() if door is None else OpeningPolicy.of(door.settings)
            watch = _watches[config] = OpeningWatch(policy, OpeningCounters())
            if door is not None and config.ws_max_size >= _UNTOLD_BYTES and _hears_strangers(door):
                log.warning(
                    "uvicorn holds a first message whole before the door sees it: bound it with --ws-max-size",
                    max_bytes=config.ws_max_size,
                )
        self.watch = watch


def _door_of(app: object) -> Doorward | None:
    """The door, which uvicorn may have wrapped."""
    while app is not None and not isinstance(app, Doorward):
        app = getattr(app, "app", None)
    return app


def _hears_strangers(door: Doorward) -> bool:
    """May a client that has shown no token send a message?"""
    return any(Transport.FIRST_MESSAGE in route.transports for route in door.settings.routes)
