"""The Python client of a chat behind Doorward: signs in, refreshes, resumes, backs off and obeys close codes.

It talks to the server over sockets and HTTP only. `pip install 'doorward[client]'`; docs/reference/client.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from doorward.client.client import Client, Run
    from doorward.client.errors import ChatError, Ended, Refused, SignedOut, Unanswered
    from doorward.client.meaning import Reason
    from doorward.client.session import Session
    from doorward.client.states import DoorView, State, StateName
    from doorward.client.stores import FileStore, MemoryStore, TokenStore
    from doorward.client.subscription import Subscription
    from doorward.client.threads import Message, Page, Thread, ThreadRun, Threads
    from doorward.client.timing import Timing
    from doorward.client.tokens import FixedToken, Token, TokenProvider, Tokens, User
    from doorward.client.wire import Envelope, Position
    from doorward.client.words import in_words

_HOMES = {
    "ChatError": "errors",
    "Client": "client",
    "DoorView": "states",
    "Ended": "errors",
    "Envelope": "wire",
    "FileStore": "stores",
    "FixedToken": "tokens",
    "MemoryStore": "stores",
    "Message": "threads",
    "Page": "threads",
    "Position": "wire",
    "Reason": "meaning",
    "Refused": "errors",
    "Run": "client",
    "Session": "session",
    "SignedOut": "errors",
    "State": "states",
    "StateName": "states",
    "Subscription": "subscription",
    "Thread": "threads",
    "ThreadRun": "threads",
    "Threads": "threads",
    "Timing": "timing",
    "Token": "tokens",
    "TokenProvider": "tokens",
    "TokenStore": "stores",
    "Tokens": "tokens",
    "Unanswered": "errors",
    "User": "tokens",
    "in_words": "words",
}
"""Where each name lives. It is fetched when it is first used: the libraries come with `Client` and `Session` only."""

__all__ = [
    "ChatError",
    "Client",
    "DoorView",
    "Ended",
    "Envelope",
    "FileStore",
    "FixedToken",
    "MemoryStore",
    "Message",
    "Page",
    "Position",
    "Reason",
    "Refused",
    "Run",
    "Session",
    "SignedOut",
    "State",
    "StateName",
    "Subscription",
    "Thread",
    "ThreadRun",
    "Threads",
    "Timing",
    "Token",
    "TokenProvider",
    "TokenStore",
    "Tokens",
    "Unanswered",
    "User",
    "in_words",
]


def __getattr__(name: str) -> object:
    """PEP 562."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("doorward"):
            raise
        mend = f"{__name__} needs {missing.name!r}, which is not installed. Mend: pip install 'doorward[client]'"
        raise ModuleNotFoundError(mend, name=missing.name) from missing
    found: object = getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
