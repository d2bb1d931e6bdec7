"""A ticket: a token sealed for one opening handshake, so that it may stand in a URL.

It is good once, for some seconds, for one path and one origin. The text is base64url of an id and of what is sealed with
ChaCha20-Poly1305 (RFC 8439) under a key of its own, made from the node's key and the id; so one nonce does for all of them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from doorward.core.origin import allowed
from doorward.core.verdict import Code, Deny, Source

ID_BYTES: Final = 16
CLOCK_SLACK_SECONDS: Final = 5.0
"""How far the clocks of two processes of a node, or of one before and after a restart, may differ."""

_NONCE: Final = bytes(12)
_PURPOSE: Final = b"doorward ticket 1"


class Ticket(msgspec.Struct, frozen=True):
    """What is sealed. Wall-clock seconds."""

    token: str
    path: str
    origin: str | None
    made_at: float
    until: float

    def __repr__(self) -> str:
        return f"Ticket(path={self.path!r}, token=...)"


@dataclass(frozen=True, slots=True)
class TicketUse:
    """The handshake, or the HTTP request, that brings a ticket. `is_safe`: a request that only reads."""

    path: str
    origin: str | None
    scheme: str
    host: str | None
    is_safe: bool = field(kw_only=True, default=False)


def sealed(ticket: Ticket, key: bytes, identifier: bytes) -> str:
    """The text of a ticket.

    Args:
        key: the node's, 32 bytes.
        identifier: `ID_BYTES` random bytes, of this ticket alone.
    """
    box = ChaCha20Poly1305(_key_of(key, identifier)).encrypt(_NONCE, msgspec.json.encode(ticket), _PURPOSE)
    return base64.urlsafe_b64encode(identifier + box).rstrip(b"=").decode()


def opened(text: str, key: bytes) -> tuple[bytes, Ticket] | None:
    """The id and what was sealed; `None` if it was not made with this key."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        identifier, box = raw[:ID_BYTES], raw[ID_BYTES:]
        plain = ChaCha20Poly1305(_key_of(key, identifier)).decrypt(_NONCE, box, _PURPOSE)
        return identifier, msgspec.json.decode(plain, type=Ticket)
    except (binascii.Error, InvalidTag, msgspec.DecodeError, ValueError):
        return None


def refusal(ticket: Ticket, use: TicketUse, wall_now: float) -> Deny | None:
    """Why this ticket does not count for this handshake now, or `None`."""
    if not ticket.made_at - CLOCK_SLACK_SECONDS <= wall_now < ticket.until:
        return Deny(Code.TOKEN_EXPIRED, Source.TICKET, "the ticket has run out")
    if ticket.path != use.path:
        return Deny(Code.TOKEN_INVALID, Source.TICKET, "the ticket is for another path")
    if not _is_of_origin(ticket, use):
        return Deny(Code.TOKEN_INVALID, Source.TICKET, "the ticket was given to another origin")
    return None


def _is_of_origin(ticket: Ticket, use: TicketUse) -> bool:
    """A browser leaves the origin out of a request that only reads and goes where its page came from (an `EventSource`)."""
    if use.origin is None and use.is_safe and ticket.origin is not None:
        return allowed(ticket.origin, scheme=use.scheme, host=use.host, extra=frozenset())
    return ticket.origin == use.origin


def _key_of(key: bytes, identifier: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + identifier, "sha256")
