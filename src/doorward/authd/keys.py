"""Which signing key signs, which are published, and when an old one may go. Pure.

A key is published at least `PUBLISH_SECONDS` before it signs, so that every door knows it by then, and stays published until the
last token it signed has expired.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

ALGORITHM = "ES256"
PUBLISH_SECONDS = 600.0
MAX_TOKEN_SECONDS = 3600.0
"""The longest life that the settings allow an access token; an old key must outlive tokens made under older settings."""

GRACE_SECONDS = 60.0
"""For leeway on `exp`, and for processes that read the key directory a moment later."""


class BadKeyFile(ValueError):
    """The file does not hold a signing key of ours."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Wall-clock seconds. `repr` never shows the key."""

    kid: str
    signs_from: float
    material: ECKey = field(repr=False)

    def public(self) -> dict[str, Any]:
        return dict(self.material.as_dict(private=False))


def generate(signs_from: float) -> SigningKey:
    material = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    return SigningKey(str(material.kid), signs_from, material)


def encode(key: SigningKey) -> bytes:
    """The content of its file: the private key is in it."""
    return msgspec.json.encode({"signs_from": key.signs_from, "jwk": key.material.as_dict(private=True)})


def decode(content: bytes) -> SigningKey:
    """Read a file back.

    Raises:
        BadKeyFile: it is not what `encode` writes; the text never holds the content.
    """
    try:
        fields = msgspec.json.decode(content)
        material = ECKey.import_key(fields["jwk"])
        kid, signs_from = material.kid, float(fields["signs_from"])
    except (msgspec.DecodeError, JoseError, KeyError, TypeError, ValueError):
        raise BadKeyFile("not a signing key") from None
    if not kid or not material.is_private or material.curve_name != "P-256":
        raise BadKeyFile("not a private P-256 key with a kid")
    return SigningKey(kid, signs_from, material)


def signer(keys: Sequence[SigningKey], wall_now: float) -> SigningKey:
    """The newest key whose time has come; if none has (the older files are gone), the first that will."""
    ready = [key for key in keys if key.signs_from <= wall_now]
    return max(ready, key=_order) if ready else min(keys, key=_order)


def retired(keys: Sequence[SigningKey], wall_now: float) -> list[SigningKey]:
    """Keys that no valid token can name any more."""
    ordered = sorted(keys, key=_order)
    return [
        key
        for key, successor in itertools.pairwise(ordered)
        if successor.signs_from + MAX_TOKEN_SECONDS + GRACE_SECONDS <= wall_now
    ]


def published(keys: Sequence[SigningKey], wall_now: float) -> bytes:
    """The key set (RFC 7517), newest first."""
    gone = {key.kid for key in retired(keys, wall_now)}
    current = sorted((key for key in keys if key.kid not in gone), key=_order, reverse=True)
    return msgspec.json.encode({"keys": [key.public() for key in current]})


def _order(key: SigningKey) -> tuple[float, str]:
    return key.signs_from, key.kid
