"""Our own credential at the auth service."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus


@dataclass(frozen=True, slots=True)
class ServiceCredential:
    """Sent with every call that is about somebody. HTTP Basic (RFC 7617), or two headers where a service wants these."""

    service_id: str
    secret: str = field(repr=False)
    id_header: str | None = None
    secret_header: str | None = None

    def headers(self) -> Mapping[str, str]:
        return self._in_own_headers() or _basic(self.service_id, self.secret)

    def client_headers(self) -> Mapping[str, str]:
        """As an OAuth 2.0 client sends it: in Basic each half is form-urlencoded first. Source: RFC 6749, section 2.3.1."""
        return self._in_own_headers() or _basic(quote_plus(self.service_id), quote_plus(self.secret))

    def _in_own_headers(self) -> Mapping[str, str]:
        if self.id_header and self.secret_header:
            return {self.id_header: self.service_id, self.secret_header: self.secret}
        return {}


def _basic(name: str, secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode('ascii')}"}
