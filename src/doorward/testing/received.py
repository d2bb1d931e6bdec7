"""One request to the fake auth service, and what can be read from it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping


class Endpoint(StrEnum):
    """What can be called, counted and scripted."""

    VALIDATE = "/auth/validate"
    INTROSPECT = "/auth/introspect"
    HEALTH = "/auth/health"
    JWKS = "/.well-known/jwks.json"
    REVOCATIONS = "/auth/revocations"


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as it came in. Header names are lower-case; `body` may hold a token: never log it."""

    endpoint: Endpoint
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    def token(self) -> str | None:
        """The token that is asked about, from JSON or, at the introspection endpoint, from a form."""
        if self.endpoint is Endpoint.INTROSPECT:
            return next(iter(parse_qs(self.body.decode("utf-8", "replace")).get("token", [])), None)
        return self._said("token")

    def audience(self) -> str | None:
        """For whom the token is to be good, where the asker says so."""
        return self._said("audience")

    def _said(self, key: str) -> str | None:
        try:
            content = json.loads(self.body)
        except ValueError:
            return None
        value = content.get(key) if isinstance(content, dict) else None
        return value if isinstance(value, str) else None

    def service_credential(self) -> tuple[str, str]:
        """Who asks: HTTP Basic, or else `X-Service-ID` and `X-Service-Secret`; empty where it is missing."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return self.headers.get("x-service-id", ""), self.headers.get("x-service-secret", "")
        try:
            name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return "", ""
        if self.endpoint is Endpoint.INTROSPECT:  # a client of OAuth: RFC 6749, section 2.3.1
            return unquote_plus(name), unquote_plus(secret)
        return name, secret

    def wait_seconds(self) -> float:
        """How long the follower of the feed wants to wait."""
        try:
            return float(self.query.get("wait", "0"))
        except ValueError:
            return 0.0
