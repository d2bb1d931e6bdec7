"""A door that tells a whole crowd to come back at the same time."""

from __future__ import annotations

from typing import Any

from doorward.__main__ import main
from doorward.asgi import denial


def in_step(window: tuple[float, float], **_: Any) -> float:
    return window[0]


denial.retry_after = in_step  # type: ignore[attr-defined]
main()
