"""`python -m tests.fuzz --seconds 3600`: the property tests of all readers, with new examples until the time is up.

Each reader gets an equal turn. What fails is shown with the example that made it fail, and ends the run with exit status 1; so
does memory that grows. At the end stands how many examples each reader has seen.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

MODULES = ("test_readers", "test_outer_readers", "test_credential", "test_upgrade")
TURN = 1_000
"""Tries of one reader in a row."""

MAX_BYTES = 4_096
"""Of randomness, from which hypothesis makes one example."""

WARM_UP_SHARE = 0.2
MAX_GROWTH_KIB = 64 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=None, help="begin here; default: anywhere")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    seen: Counter[str] = Counter()
    readers = dict(_readers(seen))
    began, warm_kib = time.monotonic(), 0
    print(f"{len(readers)} readers, seed {first}", flush=True)
    for number in range(sys.maxsize):
        for name, fuzz in readers.items():
            try:
                fuzz(random.Random(first + number))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                print(f"{name}, --seed {first + number}: {error!r}", flush=True)
                print("\n".join(getattr(error, "__notes__", ())), flush=True)
                return 1
        spent = time.monotonic() - began
        if not warm_kib and spent >= options.seconds * WARM_UP_SHARE:
            warm_kib = _resident_kib()
        print(f"{spent:.0f} s: {seen.total()} examples, {_resident_kib()} KiB", flush=True)
        if spent >= options.seconds:
            break
    for name, count in seen.items():
        print(f"{count:>10}  {name}")
    grown = _resident_kib() - warm_kib
    print(f"{seen.total()} examples, no crash; memory grew by {grown} KiB after the warm-up")
    return 1 if grown > MAX_GROWTH_KIB else 0


def _readers(seen: Counter[str]) -> Iterator[tuple[str, Callable[[random.Random], None]]]:
    for module in MODULES:
        for name, test in vars(importlib.import_module(f"tests.property.{module}")).items():
            if name.startswith("test_") and hasattr(test, "hypothesis"):
                yield name, _endless(name, test, seen)


def _endless(name: str, test: Any, seen: Counter[str]) -> Callable[[random.Random], None]:
    """`fuzz_one_input` makes an example of any bytes; `None` is what bytes that make none give."""
    one = test.hypothesis.fuzz_one_input

    def fuzz(source: random.Random) -> None:
        for _ in range(TURN):
            if one(source.randbytes(source.randrange(MAX_BYTES))) is not None:
                seen[name] += 1

    return fuzz


def _resident_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


if __name__ == "__main__":
    sys.exit(main())
