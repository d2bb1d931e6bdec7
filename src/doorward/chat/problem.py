"""HTTP refusals of the chat server as problem details (RFC 9457)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/problem+json"
BASE = "https://doorward.dev/problems/"


def problem(
    status: int,
    code: str,
    title: str,
    *,
    cause: str | None = None,
    retry_after_seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One refusal. `retry_after_seconds` also becomes the `Retry-After` header, rounded up."""
    content: dict[str, object] = {
        "type": BASE + code.lower().replace("_", "-"),
        "title": title,
        "status": status,
        "code": code,
    }
    sent = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    if cause is not None:
        content["cause"] = cause
    if retry_after_seconds is not None:
        content["retry_after_ms"] = int(retry_after_seconds * 1000)
        sent["Retry-After"] = str(max(math.ceil(retry_after_seconds), 1))
    return Response(msgspec.json.encode(content), status, media_type=MEDIA_TYPE, headers=sent)
