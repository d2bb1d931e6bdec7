"""The state of the connection in plain words. Pure: the time is an argument. The page says the same."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from doorward.client.states import State, StateName
from doorward.core.verdict import Action

if TYPE_CHECKING:
    from doorward.client.meaning import Reason

_STILL = "You are still signed in."
_TROUBLE = {
    "OVERLOADED": f"The server is busy just now. {_STILL}",
    "RATE_LIMITED": f"Too many connections came from your address. {_STILL}",
    "RESTARTING": f"The server is restarting. {_STILL}",
    "AUTH_TIMEOUT": f"Letting you in took too long. {_STILL}",
    "INTERNAL": f"Something broke on the server. {_STILL}",
}
_ENDED = {
    "TOKEN_REVOKED": "your session was ended, here or on another device",
    "TOKEN_REJECTED": "the auth service no longer accepts this session",
    "TOKEN_EXPIRED": "your session has run out",
}
_STOPPED = {
    "FORBIDDEN": "You are signed in, but you are not permitted to use this chat.",
    "MESSAGE_TOO_BIG": "The last message was too long for the server, so it closed the connection.",
    "BAD_CREDENTIAL_FORMAT": "The server could not read the token. Sign in again.",
    "HEADERS_TOO_LARGE": "The token is too long for the server.",
    "CLOSED": "The connection is closed.",
    "INTERNAL": "The client failed. This is a bug in it, or in what it was given to call.",
}
_AUTH_SILENT = f"The auth service is not answering. {_STILL}"


def in_words(state: State, *, wall_now: float) -> str:
    """One or two sentences about how the connection is, for people; empty where all is as it should be."""
    reason = state.reason
    match state.name:
        case StateName.WAITING if reason is not None:
            return f"{trouble(reason)} {_countdown(state.retry_at, wall_now)}"
        case StateName.CONNECTING if reason is not None:
            return f"{trouble(reason)} Trying now."
        case StateName.CONNECTING:
            return "Connecting."
        case StateName.DEGRADED:
            return _provisional(state)
        case StateName.SIGNED_OUT:
            why = _ENDED.get(reason.code if reason else "", "your session has ended")
            return f"You were signed out because {why}. Sign in again."
        case StateName.STOPPED if reason is not None:
            return _STOPPED.get(reason.code) or _stopped_by(reason)
    return ""


def trouble(reason: Reason) -> str:
    """Why the connection is away, in one or two sentences."""
    if reason.action is Action.SIGN_IN:
        return f"The server does not accept your sign-in yet ({reason.code})."
    if reason.code == "SERVICE_UNAVAILABLE" and reason.cause == "config":
        return f"The auth service refuses the chat server itself, not you. {_STILL}"
    silent = reason.code == "TOKEN_UNAVAILABLE" and reason.cause not in {"UNREACHABLE", "TIMEOUT"}
    if silent or reason.code == "SERVICE_UNAVAILABLE":
        return _AUTH_SILENT
    detail = f" ({reason.detail})" if reason.detail else ""
    return _TROUBLE.get(reason.code) or f"The server cannot be reached{detail}. {_STILL}"


def _stopped_by(reason: Reason) -> str:
    if reason.code == "HTTP_404":
        return "There is no chat at this address. Is it the address of `doorward serve`?"
    if reason.status is not None:
        return f"What answers at this address is no chat server, or does not let you pass (HTTP {reason.status}, {reason.code})."
    return f"The server ended the connection for good ({reason.code})."


def _countdown(retry_at: float | None, wall_now: float) -> str:
    seconds = math.ceil((retry_at or wall_now) - wall_now)
    return f"Trying again in {seconds} s." if seconds > 0 else "Trying now."


def _provisional(state: State) -> str:
    if state.door is not None and state.door.grace_until is not None:
        until = time.strftime("%H:%M", time.localtime(state.door.grace_until))
        return f"Your sign-in has run out while the auth service is not answering. You may stay until {until}."
    return "Signed in provisionally while the auth service is not answering."
