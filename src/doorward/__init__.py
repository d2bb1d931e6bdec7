"""Doorward: WebSocket authentication that never hangs.

    from doorward import Doorward, Settings

    app = Doorward(app, Settings(auth={"url": "https://auth.internal"}))

What is exported here is the public API. Everything else may change between minor versions.
"""

from doorward.asgi.middleware import Doorward
from doorward.asgi.session import Admission, ClientDisconnected
from doorward.config import Settings
from doorward.core.answer import Invalid, Valid
from doorward.core.deadline import Deadline
from doorward.core.verdict import Allow, Assurance, Code, Deny, Principal, Unavailable
from doorward.errors import BackendError, ConfigError, DoorwardError
from doorward.runtime.ports import Validator

__version__ = "0.1.0"

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
    "Valid",
    "Validator",
]
