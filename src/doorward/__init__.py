from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doorward.asgi.middleware import Doorward
    from doorward.asgi.session import Admission, ClientDisconnected
    from doorward.asgi.uvicorn_server import UvicornProtocol
    from doorward.config import Settings
    from doorward.core.answer import Invalid, Valid
    from doorward.core.deadline import Deadline
    from doorward.core.verdict import Allow, Assurance, Code, Deny, Principal, Unavailable
    from doorward.errors import BackendError, ConfigError, DoorwardError
    from doorward.runtime.collector import rare_collections
    from doorward.runtime.ports import Validator

__version__ = "0.1.0"

_HOMES = {
    "Admission": "doorward.asgi.session",
    "Allow": "doorward.core.verdict",
    "Assurance": "doorward.core.verdict",
    "BackendError": "doorward.errors",
    "ClientDisconnected": "doorward.asgi.session",
    "Code": "doorward.core.verdict",
    "ConfigError": "doorward.errors",
    "Deadline": "doorward.core.deadline",
    "Deny": "doorward.core.verdict",
    "Doorward": "doorward.asgi.middleware",
    "DoorwardError": "doorward.errors",
    "Invalid": "doorward.core.answer",
    "Principal": "doorward.core.verdict",
    "Settings": "doorward.config",
    "Unavailable": "doorward.core.verdict",
    "UvicornProtocol": "doorward.asgi.uvicorn_server",
    "Valid": "doorward.core.answer",
    "Validator": "doorward.runtime.ports",
    "rare_collections": "doorward.runtime.collector",
}
"""Where each name lives. It is fetched when it is first used: a command that needs none of them starts in no time."""

__all__ = [
    "Admission",
    "Allow",
    "Assurance",
    "BackendError",
    "ClientDisconnected",
    "Code",
    "ConfigError",
    "Deadline",
    "Deny",
    "Doorward",
    "DoorwardError",
    "Invalid",
    "Principal",
    "Settings",
    "Unavailable",
    "UvicornProtocol",
    "Valid",
    "Validator",
    "rare_collections",
]


def __getattr__(name: str) -> object:
    """PEP 562."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
