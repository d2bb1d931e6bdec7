"""What an HTTP status that is not a 200 says about the auth service. Never anything about the user's token."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from doorward.adapters.transport import HttpAnswer
from doorward.errors import BackendError, BadAnswer, BadStatus, ServiceCredentialRefused, Throttled

MAX_RETRY_AFTER_SECONDS: Final = 30.0
DEFAULT_RETRY_AFTER_SECONDS: Final = 1.0

_DELAY_SECONDS = re.compile(r"\d{1,12}")


def failure_of(answer: HttpAnswer, wall: Callable[[], float]) -> BackendError:
    """Cases: refused credential; throttled (429, or 503 that names a time); any other 5xx; not the contract.

    Args:
        wall: wall-clock seconds, for a `Retry-After` that is a date.
    """
    status = answer.status
    if status in (401, 403):
        return ServiceCredentialRefused(
            f"the auth service answered {status} to our own credential; check auth.service_secret"
        )
    retry_after = retry_after_seconds(answer, wall)
    if status == 429:
        return Throttled(status, DEFAULT_RETRY_AFTER_SECONDS if retry_after is None else retry_after)
    if status == 503 and retry_after is not None:
        return Throttled(status, retry_after)
    if 500 <= status <= 599:
        return BadStatus(status)
    return BadAnswer(f"the auth service answered {status}, which is not in the contract", status)


def retry_after_seconds(answer: HttpAnswer, wall: Callable[[], float]) -> float | None:
    """`Retry-After` as 0 to 30 seconds; `None` if there is none that can be read. Source: RFC 9110, section 10.2.3."""
    text = answer.headers.get("Retry-After", "").strip()
    if _DELAY_SECONDS.fullmatch(text):
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - wall()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None
