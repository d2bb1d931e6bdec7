"""Finds what is wrong with what many readers of threads received: pure, over recorded envelopes.

The truth of a thread is one uninterrupted reading of its log. Every tab must have received all of it, once, in order, and
nothing else, over however many connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Frame = Mapping[str, Any]

_SUBJECT = ("type", "messageId", "toolCallId")


class Wrong(StrEnum):
    LOST = "lost"
    DUPLICATED = "duplicated"
    OUT_OF_ORDER = "out of order"
    FOREIGN = "foreign"
    ALTERED = "altered"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `seq`: where in the thread."""

    wrong: Wrong
    tab: str
    seq: int
    detail: str = ""


@dataclass
class Tab:
    """One reader of one thread and every envelope that it received, synthetic ones too, in the order of arrival."""

    name: str
    thread_id: str
    frames: list[Frame] = field(default_factory=list)

    @property
    def position(self) -> tuple[str, int] | None:
        """Epoch and number to resume from."""
        if not self.frames:
            return None
        last = self.frames[-1]
        return last["epoch"], last["after_seq"] if last.get("synthetic") else last["seq"]


def findings(tabs: Iterable[Tab], truth: Mapping[str, Sequence[Frame]]) -> list[Finding]:
    """Everything wrong with what the tabs received.

    Args:
        truth: every envelope of each thread, from its first number to its last.
    """
    found = [finding for tab in tabs for finding in _of_tab(tab, truth[tab.thread_id])]
    return found + [finding for thread_id, frames in truth.items() for finding in _of_truth(thread_id, frames)]


def _of_tab(tab: Tab, truth: Sequence[Frame]) -> Iterator[Finding]:
    said = {frame["seq"]: frame["event"] for frame in truth}
    seen: set[int] = set()
    highest = 0
    for frame in tab.frames:
        if frame["thread_id"] != tab.thread_id:
            yield Finding(Wrong.FOREIGN, tab.name, frame.get("seq", 0), frame["thread_id"])
            continue
        if frame.get("synthetic"):
            seen.update(range(1, frame["after_seq"] + 1))
            highest = max(highest, frame["after_seq"])
            continue
        covered = range(frame["seq_from"], frame["seq"] + 1)
        if again := seen.intersection(covered):
            yield Finding(Wrong.DUPLICATED, tab.name, min(again))
        elif frame["seq_from"] <= highest:
            yield Finding(Wrong.OUT_OF_ORDER, tab.name, frame["seq_from"])
        if frame["event"] != _joined([said.get(number, {}) for number in covered]):
            yield Finding(Wrong.ALTERED, tab.name, frame["seq_from"])
        seen.update(covered)
        highest = max(highest, frame["seq"])
    for number in sorted(said.keys() - seen):
        yield Finding(Wrong.LOST, tab.name, number)


def _joined(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What these events say as one; they are themselves where they are no deltas of one message."""
    first = events[0]
    if len(events) == 1:
        return first
    if len({tuple(event.get(name) for name in _SUBJECT) for event in events}) > 1:
        return {}
    return {**first, "delta": "".join(event.get("delta", "") for event in events)}


def _of_truth(thread_id: str, frames: Sequence[Frame]) -> Iterator[Finding]:
    """The log itself: numbers without a hole, and every run begun once and ended once, one after another."""
    expected, active = 1, None
    for frame in frames:
        if (frame["seq_from"], frame["seq"]) != (expected, expected):
            yield Finding(Wrong.LOST, "log", expected, thread_id)
        expected = frame["seq"] + 1
        kind = frame["event"]["type"]
        if (kind == "RUN_STARTED") != (active is None) or (active is not None and frame["run_id"] != active):
            yield Finding(Wrong.OUT_OF_ORDER, "log", frame["seq"], f"{kind} of {frame['run_id']} in {thread_id}")
        active = None if kind in {"RUN_FINISHED", "RUN_ERROR"} else frame["run_id"]
    if active is not None:
        yield Finding(Wrong.UNFINISHED, "log", expected - 1, f"{active} in {thread_id}")
