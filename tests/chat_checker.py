"""Finds what is wrong with what many readers of threads received: pure, over recorded envelopes.

The truth of a thread is one uninterrupted reading of its log, tidied or not. Every tab must have received all of it, once, in
order, and nothing else, over however many connections. A snapshot stands for what came up to its `after_seq`: its messages are
held against those that the truth amounts to, and what the tab had before is judged up to there and then replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

Frame = Mapping[str, Any]
Event = Mapping[str, Any]
Questions = Mapping[str, str]

HISTORY_MESSAGES = 200
HISTORY_BYTES = 524_288
"""A snapshot holds the newest messages within both bounds, from a question on."""

WRAPPING = "snapshot:"
"""Begins the name of the run that stands around a snapshot."""

_SUBJECT = ("type", "messageId", "toolCallId")
_NAMES = ("runId", "messageId", "toolCallId", "parentMessageId")
_ENDS = {"RUN_FINISHED", "RUN_ERROR"}
_BEGINS = {
    "RUN_STARTED",
    "TEXT_MESSAGE_START",
    "TOOL_CALL_START",
    "REASONING_START",
    "REASONING_MESSAGE_START",
    "STEP_STARTED",
}


class Wrong(StrEnum):
    LOST = "lost"
    DUPLICATED = "duplicated"
    OUT_OF_ORDER = "out of order"
    FOREIGN = "foreign"
    ALTERED = "altered"
    UNFINISHED = "unfinished"
    EPOCH = "another epoch"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `tab`: who has it, or `log`. `seq`: where in the thread."""

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
        """Epoch and number to resume from; `None` where nothing was received, or a snapshot was only announced."""
        last: Frame = self.frames[-1] if self.frames else {"synthetic": True, "after_seq": None}
        at = last["after_seq"] if last.get("synthetic") else last["seq"]
        return None if at is None else (last["epoch"], at)


def findings(
    tabs: Iterable[Tab],
    truth: Mapping[str, Sequence[Frame]],
    asked: Mapping[str, Questions] | None = None,
) -> list[Finding]:
    """Everything wrong with what the tabs received, and with the truth itself.

    Args:
        truth: every envelope of each thread, from its first number to its last.
        asked: the runs that were begun in each thread, with their questions. Without it every run may be there.
    """
    runs = {frame["run_id"] for frames in truth.values() for frame in frames}
    said = {thread_id: _Truth(thread_id, frames, runs) for thread_id, frames in truth.items()}
    found = [finding for tab in tabs for finding in _Reading(tab, said[tab.thread_id]).findings()]
    for thread_id, thread in said.items():
        found += thread.findings()
        if asked is not None:
            found += thread.against(asked.get(thread_id, {}))
    return found


class _Truth:
    """One thread as its log tells it. `runs` are those of all threads."""

    def __init__(self, thread_id: str, frames: Sequence[Frame], runs: set[str]) -> None:
        self.thread_id = thread_id
        self.frames = frames
        self._runs = runs
        self.epoch = frames[0]["epoch"] if frames else ""
        self.head = frames[-1]["seq"] if frames else 0

    @cached_property
    def run_at(self) -> Mapping[int, str]:
        """The run of each number."""
        return {number: frame["run_id"] for frame in self.frames for number in _numbers(frame)}

    @cached_property
    def beginnings(self) -> Mapping[str, Sequence[tuple[int, Event]]]:
        """What opens something, by run, each with its number."""
        found: dict[str, list[tuple[int, Event]]] = {}
        for frame in self.frames:
            if frame["event"]["type"] in _BEGINS:
                found.setdefault(frame["run_id"], []).append((frame["seq"], frame["event"]))
        return found

    @cached_property
    def said_up_to(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        """All messages up to the end of each run, by its number."""
        ends: dict[int, Sequence[Mapping[str, Any]]] = {0: []}
        messages = _Messages()
        for frame in self.frames:
            messages.add(frame["event"])
            if frame["event"]["type"] in _ENDS:
                ends[frame["seq"]] = messages.all
        return ends

    def is_strange(self, frame: Frame) -> bool:
        """Does the event name a run other than its envelope's?"""
        names = {str(frame["event"][name]).partition(":")[0] for name in _NAMES if name in frame["event"]}
        return bool((names & self._runs) - {frame["run_id"]})

    def findings(self) -> Iterator[Finding]:
        """Numbers without a hole in one epoch, and every run begun once and ended once, one after another."""
        expected, active = 1, None
        for frame in self.frames:
            if frame["seq_from"] != expected or frame["seq"] < expected:
                yield Finding(Wrong.LOST, "log", expected, self.thread_id)
            if frame["epoch"] != self.epoch:
                yield Finding(Wrong.EPOCH, "log", frame["seq"], self.thread_id)
            if frame["thread_id"] != self.thread_id or self.is_strange(frame):
                yield Finding(Wrong.FOREIGN, "log", frame["seq"], self.thread_id)
            expected = frame["seq"] + 1
            kind, run_id = frame["event"]["type"], frame["run_id"]
            if (kind == "RUN_STARTED") != (active is None) or (active is not None and run_id != active):
                yield Finding(Wrong.OUT_OF_ORDER, "log", frame["seq"], f"{kind} of {run_id} in {self.thread_id}")
            active = None if kind in _ENDS else run_id
        if active is not None:
            yield Finding(Wrong.UNFINISHED, "log", expected - 1, f"{active} in {self.thread_id}")

    def against(self, asked: Questions) -> Iterator[Finding]:
        """Every run that was begun is there, with its question, and no other."""
        begun = {frame["run_id"]: frame for frame in self.frames if frame["event"]["type"] == "RUN_STARTED"}
        for run_id in asked.keys() - begun.keys():
            yield Finding(Wrong.LOST, "log", self.head, f"{run_id} in {self.thread_id}")
        for run_id, frame in begun.items():
            if run_id not in asked:
                yield Finding(Wrong.FOREIGN, "log", frame["seq"], f"{run_id} in {self.thread_id}")
            elif [message["content"] for message in frame["event"]["input"]["messages"]] != [asked[run_id]]:
                yield Finding(Wrong.ALTERED, "log", frame["seq"], f"the question of {run_id}")


class _Reading:
    """What one tab received, section by section: each begins with nothing or with a snapshot, and has no hole."""

    def __init__(self, tab: Tab, truth: _Truth) -> None:
        self._tab = tab
        self._truth = truth
        self._epoch = tab.frames[0]["epoch"] if tab.frames else truth.epoch
        self._begin(0)

    def _begin(self, after_seq: int) -> None:
        self._after = self._highest = after_seq
        self._seen: set[int] = set()
        self._section: list[Frame] = []

    def findings(self) -> Iterator[Finding]:
        for frame in self._tab.frames:
            if frame["thread_id"] != self._tab.thread_id:
                yield self._found(Wrong.FOREIGN, frame.get("seq", 0), frame["thread_id"])
            elif frame.get("synthetic") and frame["event"]["type"] == "MESSAGES_SNAPSHOT":
                yield from self._end(self._highest)
                yield from self._snapshot(frame)
            elif frame["epoch"] != self._epoch:
                yield self._found(Wrong.EPOCH, frame.get("seq", 0), frame["epoch"])
            elif frame.get("synthetic"):
                yield from self._prelude(frame)
            else:
                yield from self._numbered(frame)
        if self._epoch != self._truth.epoch:
            yield self._found(Wrong.EPOCH, self._highest, self._epoch)
        else:
            yield from self._end(self._truth.head)

    def _numbered(self, frame: Frame) -> Iterator[Finding]:
        covered = _numbers(frame)
        again = self._seen.intersection(covered)
        twice = bool(again) or frame["seq_from"] <= self._after
        if twice:
            yield self._found(Wrong.DUPLICATED, min(again, default=frame["seq_from"]))
        elif frame["seq_from"] <= self._highest:
            yield self._found(Wrong.OUT_OF_ORDER, frame["seq_from"])
        self._seen.update(covered)
        self._highest = max(self._highest, frame["seq"])
        if self._epoch != self._truth.epoch or twice:
            return
        if frame["seq"] > self._truth.head:
            yield Finding(Wrong.LOST, "log", frame["seq"], f"{self._tab.name} has it")
        elif frame["run_id"] != self._truth.run_at.get(frame["seq"], frame["run_id"]) or self._truth.is_strange(frame):
            yield self._found(Wrong.FOREIGN, frame["seq_from"], frame["run_id"])
        else:
            self._section.append(frame)

    def _snapshot(self, frame: Frame) -> Iterator[Finding]:
        self._epoch = frame["epoch"]
        self._begin(frame["after_seq"])
        if self._epoch == self._truth.epoch:
            said = self._truth.said_up_to.get(frame["after_seq"])
            if said is None:
                yield self._found(Wrong.ALTERED, frame["after_seq"], "a snapshot in the middle of a run")
            elif _plain(frame["event"]["messages"]) != _newest(said):
                yield self._found(Wrong.ALTERED, frame["after_seq"], "a snapshot of something else")

    def _prelude(self, frame: Frame) -> Iterator[Finding]:
        """It repeats what the run that goes on has opened, or stands around a snapshot; it moves nothing."""
        event, at = frame["event"], frame["after_seq"]
        begins_anew = event["type"] == "RUN_STARTED" and event["runId"].startswith(WRAPPING)
        if at != (None if begins_anew else self._highest):
            yield self._found(Wrong.ALTERED, at or 0, "a prelude of another place")
        elif not event.get("runId", "").startswith(WRAPPING) and not any(
            opened == event and seq <= at for seq, opened in self._truth.beginnings.get(frame.get("run_id", ""), ())
        ):
            yield self._found(Wrong.ALTERED, at, "a prelude of something else")

    def _end(self, up_to: int) -> Iterator[Finding]:
        """The section is over, and should have come so far."""
        known = self._truth.run_at if self._epoch == self._truth.epoch else range(1, up_to + 1)
        for number in range(self._after + 1, up_to + 1):
            if number in known and number not in self._seen:
                yield self._found(Wrong.LOST, number)
        for seq in _altered(sorted(self._section, key=lambda frame: int(frame["seq"])), self._truth.frames):
            yield self._found(Wrong.ALTERED, seq)

    def _found(self, wrong: Wrong, seq: int, detail: str = "") -> Finding:
        return Finding(wrong, self._tab.name, seq, detail)


def _altered(frames: Sequence[Frame], truth: Sequence[Frame]) -> Iterator[int]:
    """Where the frames say something else than the truth. Either may have joined what the other has not."""
    for ours, theirs in _pieces(frames, truth):
        said, meant = _joined(ours), _joined(theirs)
        if ours[0]["seq_from"] == theirs[0]["seq_from"] and ours[-1]["seq"] == theirs[-1]["seq"]:
            same = said == meant
        else:  # something next to it was lost, so only a part can be compared
            same = {**said, "delta": ""} == {**meant, "delta": ""} and said["delta"] in meant["delta"]
        if not said or not same:
            yield ours[0]["seq_from"]


def _pieces(frames: Sequence[Frame], truth: Sequence[Frame]) -> Iterator[tuple[list[Frame], list[Frame]]]:
    """The shortest pieces that both are made of: as many of one as of the other where they end at the same number."""
    theirs = iter(truth)
    meant = next(theirs, None)
    ours: list[Frame] = []
    against: list[Frame] = []
    for frame in frames:
        if ours and frame["seq_from"] != ours[-1]["seq"] + 1:  # a hole, told of elsewhere
            yield ours, against
            ours, against = [], []
        ours.append(frame)
        while meant is not None and meant["seq_from"] <= frame["seq"]:
            if meant["seq"] >= ours[0]["seq_from"] and (not against or against[-1] is not meant):
                against.append(meant)
            if meant["seq"] > frame["seq"]:
                break
            meant = next(theirs, None)
        if against and against[-1]["seq"] == frame["seq"]:
            yield ours, against
            ours, against = [], []
    if ours and against:
        yield ours, against


def _joined(frames: Sequence[Frame]) -> Event:
    """What their events say as one; they are themselves where they are no deltas of one message, and nothing if they do not fit."""
    first: Event = frames[0]["event"]
    if len(frames) == 1:
        return first
    events = [frame["event"] for frame in frames]
    if len({tuple(event.get(name) for name in _SUBJECT) for event in events}) > 1:
        return {}
    return {**first, "delta": "".join(event.get("delta", "") for event in events)}


class _Messages:
    """What events amount to, in the order in which it began. Written apart from what it is held against."""

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, dict[str, Any]] = {}

    @property
    def all(self) -> list[Mapping[str, Any]]:
        copied: list[Mapping[str, Any]] = json.loads(json.dumps(list(self._messages.values())))
        return copied

    def add(self, event: Event) -> None:
        match event["type"]:
            case "RUN_STARTED":
                for message in event["input"]["messages"]:
                    self._messages[message["id"]] = dict(message)
            case "TEXT_MESSAGE_START":
                self._message(event["messageId"], role="assistant")
            case "REASONING_MESSAGE_START":
                self._message(event["messageId"], role="reasoning", content="")
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                message = self._messages[event["messageId"]]
                message["content"] = message.get("content", "") + event["delta"]
            case "TOOL_CALL_START":
                self._call(event)
            case "TOOL_CALL_ARGS":
                self._calls[event["toolCallId"]]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                self._message(event["messageId"], role="tool", content=event["content"], toolCallId=event["toolCallId"])

    def _message(self, name: str, **fields: Any) -> dict[str, Any]:
        return self._messages.setdefault(name, {"id": name, **fields})

    def _call(self, event: Event) -> None:
        name = event["toolCallId"]
        self._calls[name] = {"name": event["toolCallName"], "arguments": ""}
        message = self._message(event.get("parentMessageId", name), role="assistant")
        call = {"id": name, "type": "function", "function": self._calls[name]}
        message.setdefault("toolCalls", []).append(call)


def _newest(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Those that a snapshot holds."""
    size = first = 0
    for first in range(len(messages), -1, -1):
        if first == 0 or len(messages) - first == HISTORY_MESSAGES:
            break
        size += len(json.dumps(messages[first - 1], ensure_ascii=False, separators=(",", ":")))
        if size > HISTORY_BYTES:
            break
    kept = messages[first:]
    question = next((at for at, message in enumerate(kept) if message["role"] == "user"), len(kept))
    return kept[question:]


def _plain(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Without what has no value."""
    return [{name: value for name, value in message.items() if value is not None} for message in messages]


def _numbers(frame: Frame) -> range:
    return range(frame["seq_from"], frame["seq"] + 1)
