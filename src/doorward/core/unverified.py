"""What a token says of itself, before anything is proven: good for choosing whom to ask, and what; never for letting in."""

from __future__ import annotations

from collections.abc import Sequence

from doorward.core.claims import audiences_of
from doorward.core.keyset import said_by


def unverified_issuer(token: str) -> str | None:
    """The `iss` of a JWT, empty if it names none; `None`: this is no JWT, so an opaque token."""
    said = said_by(token)
    if said is None:
        return None
    issuer = said.get("iss")
    return issuer if isinstance(issuer, str) else ""


def expected_audience(token: str, accepted: Sequence[str], claim: str) -> str:
    """For whom the auth service is to hold the token good: the first accepted audience that it names, else the first of all.

    Args:
        accepted: in the order of the settings, one at least.
        claim: where a JWT says its audience.
    """
    if len(accepted) == 1:
        return accepted[0]
    named = audiences_of(said_by(token) or {}, claim)
    return next((audience for audience in accepted if audience in named), accepted[0])
