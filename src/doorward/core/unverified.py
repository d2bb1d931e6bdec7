"""What a token says of itself, before anything is proven: good for choosing whom to ask, and what; never for letting in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from doorward.core.claims import audiences_of
from doorward.core.keyset import unproven_payload


class _Says(msgspec.Struct):
    """The one claim that is looked at in every handshake; the rest is passed over unread."""

    iss: Any = None


_says = msgspec.json.Decoder(_Says).decode
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def unverified_issuer(token: str) -> str | None:
    """The `iss` of a JWT, empty if it names none; `None`: this is no JWT, so an opaque token."""
    payload = unproven_payload(token)
    if payload is None:
        return None
    try:
        issuer = _says(payload).iss
    except _UNREADABLE:
        return ""
    return issuer if isinstance(issuer, str) else ""


def expected_audience(token: str, accepted: Sequence[str], claim: str) -> str:
    """For whom the auth service is to hold the token good: the first accepted audience that it names, else the first of all.

    Args:
        accepted: in the order of the settings, one at least.
        claim: where a JWT says its audience.
    """
    if len(accepted) == 1:
        return accepted[0]
    named = audiences_of(_claims(token), claim)
    return next((audience for audience in accepted if audience in named), accepted[0])


def _claims(token: str) -> Mapping[str, Any]:
    try:
        content = msgspec.json.decode(unproven_payload(token) or b"{}")
    except _UNREADABLE:
        return {}
    return content if isinstance(content, dict) else {}
