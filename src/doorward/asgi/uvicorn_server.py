"""The bounded opening handshake for a uvicorn that somebody else runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from doorward.asgi.middleware import Doorward
from doorward.asgi.opening import OpeningCounters, OpeningPolicy, OpeningWatch
from doorward.asgi.uvicorn_protocol import DoorwardHttpProtocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

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
            watch = _watches[config] = OpeningWatch(_policy_of(config.loaded_app), OpeningCounters())
        self.watch = watch


def _policy_of(app: object) -> OpeningPolicy:
    """That of the door, which uvicorn may have wrapped."""
    while app is not None:
        if isinstance(app, Doorward):
            return OpeningPolicy.of(app.settings)
        app = getattr(app, "app", None)
    return OpeningPolicy()
