"""structlog as another process would have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog


@contextmanager
def structlog_as(**configuration: Any) -> Iterator[None]:
    """Configured like this, or not at all; afterwards it is as it was."""
    before, configured = structlog.get_config(), structlog.is_configured()
    structlog.reset_defaults()
    if configuration:
        structlog.configure(**configuration)
    try:
        yield
    finally:
        structlog.reset_defaults()
        if configured:
            structlog.configure(**before)
