"""`python -m tests.fuzz --seconds 3600`: the property tests of all readers, with new examples until the time is up.

Each reader gets an equal turn. What fails is shown with the example that made it fail, and ends the run with exit status 1; so
does a reader that keeps something of every example. At the end stands how many examples each reader has seen.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import importlib
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis.strategies._internal.utils import clear_strategy_cache

MODULES = ("test_readers", "test_outer_readers", "test_credential", "test_upgrade")
TURN = 250
"""Tries of one reader in a row."""

MAX_BYTES = 4_096
"""Of randomness, from which hypothesis makes one example."""

WARM_UP_TURNS = 2
"""Not judged: in its first turns a reader imports and compiles what it needs, and hypothesis fills its caches."""

MIN_TURNS = 3
MAX_KEPT_BLOCKS = 0.9
"""Of an example, in the median turn; who keeps anything of up to 512 bytes keeps a block at least. Without a leak: 0.6."""

MAX_KEPT_BYTES = 200.0
"""Of an example, in the median turn, in what is larger or is not Python's. Without a leak: 40."""

MAX_GROWTH_KIB = 64 * 1024

Reader = Callable[[random.Random], None]


@dataclass(frozen=True, slots=True)
class Held:
    """Memory in use: blocks of Python's small objects, and bytes from malloc."""

    blocks: int
    malloc_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What one turn left behind, of one of its tries."""

    blocks: float
    malloc_bytes: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--seed", type=int, default=None, help="begin here; default: anywhere")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    seen: Counter[str] = Counter()
    return run(dict(_readers(seen)), seen, seconds=options.seconds, first=first)


def run(readers: Mapping[str, Reader], seen: Counter[str], *, seconds: float, first: int, min_rounds: int = 1) -> int:
    """The exit status. In a round each reader has one turn."""
    began, warm_kib = time.monotonic(), 0
    kept: dict[str, list[Kept]] = {name: [] for name in readers}
    print(f"{len(readers)} readers, seed {first}", flush=True)
    for number in range(sys.maxsize):
        for name, fuzz in readers.items():
            before = _held()
            try:
                fuzz(random.Random(first + number))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                print(f"{name}, --seed {first + number}: {error!r}", flush=True)
                print("\n".join(getattr(error, "__notes__", ())), flush=True)
                return 1
            kept[name].append(_kept(before, _held()))
        spent = time.monotonic() - began
        if number + 1 == WARM_UP_TURNS:
            warm_kib = _resident_kib()
        print(f"{spent:.0f} s: {seen.total()} examples, {_resident_kib()} KiB", flush=True)
        if spent >= seconds and number + 1 >= min_rounds:
            break
    for name in readers:
        print(f"{seen[name]:>10}  {name}")
    return _judged(kept, seen.total(), _resident_kib() - warm_kib)


def _judged(kept: Mapping[str, Sequence[Kept]], examples: int, grown_kib: int) -> int:
    """The exit status, and why."""
    print(f"{examples} examples, no crash")
    turns = min(map(len, kept.values())) - WARM_UP_TURNS
    if turns < MIN_TURNS:
        print(f"too short to say anything about memory: {turns} turns after the warm-up, {MIN_TURNS} are needed")
        return 0
    growing = [name for name, own in kept.items() if leaks(own[WARM_UP_TURNS:])]
    for name in growing:
        print(f"{name} keeps something of every example")
    print(f"memory grew by {grown_kib} KiB in {turns} turns after the warm-up")
    return 1 if growing or grown_kib > MAX_GROWTH_KIB else 0


def leaks(turns: Sequence[Kept]) -> bool:
    """A leak shows in every turn; what a cache or the allocator does shows in some, and goes again."""
    blocks = statistics.median(turn.blocks for turn in turns)
    malloc_bytes = statistics.median(turn.malloc_bytes for turn in turns)
    return blocks > MAX_KEPT_BLOCKS or malloc_bytes > MAX_KEPT_BYTES


def _kept(before: Held, after: Held) -> Kept:
    return Kept((after.blocks - before.blocks) / TURN, (after.malloc_bytes - before.malloc_bytes) / TURN)


def _readers(seen: Counter[str]) -> Iterator[tuple[str, Reader]]:
    for module in MODULES:
        for name, test in vars(importlib.import_module(f"tests.property.{module}")).items():
            if name.startswith("test_") and hasattr(test, "hypothesis"):
                yield name, _endless(name, test, seen)


def _endless(name: str, test: Any, seen: Counter[str]) -> Reader:
    """`fuzz_one_input` makes an example of any bytes; `None` is what bytes that make none give."""
    one = test.hypothesis.fuzz_one_input

    def fuzz(source: random.Random) -> None:
        for _ in range(TURN):
            if one(source.randbytes(source.randrange(MAX_BYTES))) is not None:
                seen[name] += 1

    return fuzz


class _MallInfo(ctypes.Structure):
    """mallinfo2(3) of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_mallinfo = ctypes.CDLL(None).mallinfo2
_mallinfo.restype = _MallInfo


def _held() -> Held:
    """Without what caches hold that have a bound."""
    clear_strategy_cache()
    for each in gc.get_objects():
        if isinstance(each, functools._lru_cache_wrapper) and each.cache_parameters()["maxsize"] is not None:
            each.cache_clear()
    gc.collect()
    info = _mallinfo()
    return Held(sys.getallocatedblocks(), info.uordblks + info.hblkhd)


def _resident_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


if __name__ == "__main__":
    sys.exit(main())
