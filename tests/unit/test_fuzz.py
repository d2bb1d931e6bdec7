"""The fuzzing itself: what it runs, and what it finds."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.fuzz import MAX_KEPT_BLOCKS, MAX_KEPT_BYTES, MIN_TURNS, TURN, WARM_UP_TURNS, Kept, _readers, leaks, run

ROUNDS = WARM_UP_TURNS + MIN_TURNS


@pytest.fixture(autouse=True)
def _quick_collections() -> Iterator[None]:
    """Memory is looked at after each turn; what other tests have left here need not be looked through each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def honest(source: random.Random) -> None:
    for _ in range(TURN):
        bytes(source.randbytes(300))


def fuzzed(*, leaking_bytes: int = 0, crashes: bool = False) -> int:
    kept: list[bytes] = []

    def reader(source: random.Random) -> None:
        if crashes:
            raise RuntimeError("a crash")
        for _ in range(TURN):
            example = source.randbytes(leaking_bytes)
            if leaking_bytes:
                kept.append(example)

    return run({"honest": honest, "reader": reader}, Counter(), seconds=0.0, first=1, min_rounds=ROUNDS)


def test_every_reader_has_its_turn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tests.fuzz.TURN", 2)
    seen: Counter[str] = Counter()
    readers = dict(_readers(seen))
    assert run(readers, seen, seconds=0.0, first=1) == 0
    said = capsys.readouterr().out
    assert len(readers) >= 21
    assert all(name in said for name in readers)
    assert "too short to say anything about memory" in said


def test_a_reader_that_crashes_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzzed(crashes=True) == 1
    assert "reader, --seed 1: RuntimeError('a crash')" in capsys.readouterr().out


@pytest.mark.parametrize("size", [300, 600, 5_000])
def test_a_reader_that_keeps_every_example_is_found(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzzed(leaking_bytes=size) == 1
    said = capsys.readouterr().out
    assert "reader keeps something of every example" in said
    assert "honest keeps" not in said


def test_one_that_keeps_nothing_is_not_accused(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzzed() == 0
    assert "memory grew by" in capsys.readouterr().out


def test_what_comes_and_goes_is_no_leak() -> None:
    assert not leaks([Kept(50.0, 9_000.0), Kept(0.1, 20.0), Kept(-50.0, -9_000.0)])
    assert leaks([Kept(1.0, 0.0)] * MIN_TURNS)
    assert leaks([Kept(0.0, 512.0)] * MIN_TURNS)
    assert not leaks([Kept(MAX_KEPT_BLOCKS, MAX_KEPT_BYTES)] * MIN_TURNS)
