"""Our own credential at the auth service."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServiceCredential:
    """Sent with every call that is about somebody. HTTP Basic (RFC 7617), or two headers where a service wants these."""

    service_id: str
    secret: str = field(repr=False)
    id_header: str | None = None
    secret_header: str | None = None

    def headers(self) -> Mapping[str, str]:
        if self.id_header and self.secret_header:
            return {self.id_header: self.service_id, self.secret_header: self.secret}
        pair = f"{self.service_id}:{self.secret}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}
