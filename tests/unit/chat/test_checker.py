"""The checker of the sieges finds every fault that is planted, and none where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.chat_checker import Finding, Frame, Tab, Wrong, findings

HEAD = 9


def event(number: int) -> dict[str, Any]:
    match number:
        case 1:
            return {"type": "RUN_STARTED"}
        case 2:
            return {"type": "TEXT_MESSAGE_START", "messageId": "m"}
        case 8:
            return {"type": "TEXT_MESSAGE_END", "messageId": "m"}
        case 9:
            return {"type": "RUN_FINISHED"}
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"{number} "}


def frame(first: int, last: int | None = None, thread_id: str = "t", **changes: Any) -> dict[str, Any]:
    """The envelope of these numbers; deltas are merged."""
    last = last or first
    said = event(first)
    if last > first:
        said["delta"] = "".join(event(number)["delta"] for number in range(first, last + 1))
    place = {"epoch": "e", "seq_from": first, "seq": last, "run_id": "r"}
    return {"thread_id": thread_id, **place, "event": said, **changes}


def snapshot(after_seq: int) -> dict[str, Any]:
    return {"thread_id": "t", "epoch": "e", "synthetic": True, "after_seq": after_seq, "event": {}}


TRUTH = {"t": [frame(number) for number in range(1, HEAD + 1)]}


def found(frames: Sequence[Frame], truth: dict[str, list[dict[str, Any]]] | None = None) -> list[Finding]:
    return findings([Tab("tab", "t", list(frames))], truth or TRUTH)


def kinds(frames: Sequence[Frame]) -> set[Wrong]:
    return {finding.wrong for finding in found(frames)}


@pytest.mark.parametrize(
    "frames",
    [
        TRUTH["t"],
        [frame(1), frame(2), frame(3, 6), frame(7), frame(8), frame(9)],
        [snapshot(0), *TRUTH["t"]],
        [*TRUTH["t"][:3], snapshot(HEAD)],
    ],
    ids=["plain", "merged", "snapshot-first", "snapshot-over-the-rest"],
)
def test_a_good_reading_is_good(frames: list[Frame]) -> None:
    assert found(frames) == []


@pytest.mark.parametrize("missing", range(1, HEAD + 1))
def test_each_lost_event_is_found(missing: int) -> None:
    frames = [envelope for envelope in TRUTH["t"] if envelope["seq"] != missing]
    assert found(frames) == [Finding(Wrong.LOST, "tab", missing)]


@pytest.mark.parametrize("twice", range(1, HEAD + 1))
def test_each_duplicate_is_found(twice: int) -> None:
    frames = [*TRUTH["t"][:twice], TRUTH["t"][twice - 1], *TRUTH["t"][twice:]]
    assert found(frames) == [Finding(Wrong.DUPLICATED, "tab", twice)]


def test_an_overlapping_range_is_a_duplicate() -> None:
    frames = [frame(1), frame(2), frame(3, 5), frame(5, 7), frame(8), frame(9)]
    assert found(frames) == [Finding(Wrong.DUPLICATED, "tab", 5)]


@pytest.mark.parametrize("late", range(1, HEAD))
def test_each_pair_that_changed_places_is_found(late: int) -> None:
    frames = list(TRUTH["t"])
    frames[late - 1], frames[late] = frames[late], frames[late - 1]
    assert found(frames) == [Finding(Wrong.OUT_OF_ORDER, "tab", late)]


def test_an_event_of_another_thread_is_found() -> None:
    frames = [*TRUTH["t"], frame(1, thread_id="of-bob")]
    assert found(frames) == [Finding(Wrong.FOREIGN, "tab", 1, "of-bob")]


def test_other_words_are_found() -> None:
    frames = list(TRUTH["t"])
    frames[3] = frame(4, event={**event(4), "delta": "40 "})
    assert found(frames) == [Finding(Wrong.ALTERED, "tab", 4)]


def test_a_merge_that_drops_words_is_found() -> None:
    short = frame(3, 6)
    short["event"]["delta"] = short["event"]["delta"][:-2]
    assert kinds([frame(1), frame(2), short, frame(7), frame(8), frame(9)]) == {Wrong.ALTERED}


def test_a_log_with_a_hole_is_found() -> None:
    holed = [envelope for envelope in TRUTH["t"] if envelope["seq"] != 4]
    assert found(holed, {"t": holed}) == [Finding(Wrong.LOST, "log", 4, "t")]


def test_a_run_without_an_end_is_found() -> None:
    cut = TRUTH["t"][:-1]
    assert found(cut, {"t": cut}) == [Finding(Wrong.UNFINISHED, "log", 8, "r in t")]


def test_runs_that_interleave_are_found() -> None:
    mixed = [dict(envelope) for envelope in TRUTH["t"]]
    mixed[4]["run_id"] = "other"
    assert {finding.wrong for finding in found(mixed, {"t": mixed})} == {Wrong.OUT_OF_ORDER}
