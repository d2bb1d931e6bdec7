"""Python's garbage collector, in a process that has started and serves."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_THRESHOLDS = (10_000, 10, 10)
"""Allocated objects before a collection of the youngest, and how many of these before an older one; Python's are (700, 10, 10)."""


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """While entered, the garbage collector leaves alone what is there already, and comes seldom.

    For a server that has started: `doorward serve` does so by itself; on another server enter it in the app's lifespan. A full
    collection that walks through all imported modules holds every connection up for tens of milliseconds, and one of the youngest
    objects finds nearly all of them in use. Closed connections that wait for a collection hold a few MiB more.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
