"""The checker of the sieges finds every fault that is planted, and none where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from tests.chat_checker import Finding, Frame, Tab, Wrong, findings

RUN = 9
"""Events of a run. The truth has two."""
HEAD = 2 * RUN


def event(number: int) -> dict[str, Any]:
    """Two runs that say the same, but for the names."""
    run, place = run_of(number), (number - 1) % RUN + 1
    match place:
        case 1:
            question = {"id": f"{run}:question", "role": "user", "content": f"and {run}?"}
            return {"type": "RUN_STARTED", "runId": run, "input": {"messages": [question]}}
        case 2:
            return {"type": "TEXT_MESSAGE_START", "messageId": f"{run}:answer"}
        case 8:
            return {"type": "TEXT_MESSAGE_END", "messageId": f"{run}:answer"}
        case 9:
            return {"type": "RUN_FINISHED", "runId": run}
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": f"{run}:answer", "delta": f"{number} "}


def run_of(number: int) -> str:
    return "r1" if number <= RUN else "r2"


def frame(first: int, last: int | None = None, thread_id: str = "t", **changes: Any) -> dict[str, Any]:
    """The envelope of these numbers; deltas are joined."""
    last = last or first
    said = event(first)
    if last > first:
        said["delta"] = "".join(event(number)["delta"] for number in range(first, last + 1))
    place = {"epoch": "e", "seq_from": first, "seq": last, "run_id": run_of(first)}
    return {"thread_id": thread_id, **place, "event": said, **changes}


def frames(*numbers: Iterable[int]) -> list[Frame]:
    return [frame(number) for part in numbers for number in part]


def messages(runs: int) -> list[dict[str, Any]]:
    said = []
    for run, first in (("r1", 3), ("r2", RUN + 3))[:runs]:
        answer = "".join(f"{number} " for number in range(first, first + 5))
        said.append({"id": f"{run}:question", "role": "user", "content": f"and {run}?"})
        said.append({"id": f"{run}:answer", "role": "assistant", "content": answer})
    return said


WRAP = {"type": "RUN_STARTED", "runId": "snapshot:0"}


def synthetic(after_seq: int | None, said: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"thread_id": "t", "epoch": "e", "synthetic": True, "after_seq": after_seq, "event": said, **changes}


def snapshot(runs: int, **changes: Any) -> dict[str, Any]:
    return synthetic(runs * RUN, {"type": "MESSAGES_SNAPSHOT", "messages": messages(runs)}, **changes)


def prelude(after_seq: int, *opened: int) -> list[dict[str, Any]]:
    return [synthetic(after_seq, event(number), run_id=run_of(number)) for number in opened]


ALL = range(1, HEAD + 1)
LOG = frames(ALL)
TRUTH = {"t": LOG}
TIDIED = [
    frame(1),
    frame(2),
    frame(3, 7),
    frame(8),
    frame(9),
    frame(10),
    frame(11),
    frame(12, 16),
    frame(17),
    frame(18),
]
ASKED = {"t": {"r1": "and r1?", "r2": "and r2?"}}


def found(received: Sequence[Frame], log: Sequence[Frame] = LOG, **options: Any) -> list[Finding]:
    return findings([Tab("tab", "t", list(received))], {"t": log}, **options)


def kinds(received: Sequence[Frame], log: Sequence[Frame] = LOG) -> set[Wrong]:
    return {finding.wrong for finding in found(received, log)}


@pytest.mark.parametrize("log", [LOG, TIDIED], ids=["as-it-was", "tidied"])
@pytest.mark.parametrize(
    "received",
    [
        LOG,
        TIDIED,
        [frame(1), frame(2), frame(3, 6), frame(7), *frames(range(8, 12)), frame(12, 13), frame(14, 16), *LOG[16:]],
        [snapshot(0), *LOG],
        [*frames(range(1, 4)), snapshot(2)],
        [*frames(range(1, 13)), snapshot(1), *frames(range(10, HEAD + 1))],
        [*frames(range(1, 10)), snapshot(1), snapshot(1), *frames(range(10, HEAD + 1))],
        [*frames(range(1, 5)), *prelude(4, 1, 2), *frames(range(5, HEAD + 1))],
        [synthetic(None, WRAP), snapshot(0), synthetic(0, {**WRAP, "type": "RUN_FINISHED"}), *LOG],
    ],
    ids=[
        "plain",
        "tidied",
        "merged",
        "snapshot-first",
        "snapshot-over-the-rest",
        "half-a-run-then-snapshot-and-the-whole-run",
        "snapshot-twice",
        "prelude",
        "wrapped-snapshot",
    ],
)
def test_a_good_reading_is_good(received: list[Frame], log: list[Frame]) -> None:
    assert found(received, log, asked=ASKED) == []


@pytest.mark.parametrize("log", [LOG, TIDIED], ids=["as-it-was", "tidied"])
@pytest.mark.parametrize("missing", ALL)
def test_each_lost_event_is_found(missing: int, log: list[Frame]) -> None:
    received = [envelope for envelope in LOG if envelope["seq"] != missing]
    assert found(received, log) == [Finding(Wrong.LOST, "tab", missing)]


@pytest.mark.parametrize("twice", ALL)
def test_each_duplicate_is_found(twice: int) -> None:
    received = [*LOG[:twice], LOG[twice - 1], *LOG[twice:]]
    assert found(received) == [Finding(Wrong.DUPLICATED, "tab", twice)]


def test_an_overlapping_range_is_a_duplicate() -> None:
    received = [frame(1), frame(2), frame(3, 5), frame(5, 7), *LOG[7:]]
    assert found(received) == [Finding(Wrong.DUPLICATED, "tab", 5)]


@pytest.mark.parametrize("late", range(1, HEAD))
def test_each_pair_that_changed_places_is_found(late: int) -> None:
    received = list(LOG)
    received[late - 1], received[late] = received[late], received[late - 1]
    assert found(received) == [Finding(Wrong.OUT_OF_ORDER, "tab", late)]


def test_an_event_of_another_thread_is_found() -> None:
    assert found([*LOG, frame(1, thread_id="of-bob")]) == [Finding(Wrong.FOREIGN, "tab", 1, "of-bob")]


def test_an_event_of_another_users_run_in_the_right_thread_is_found() -> None:
    received = [*LOG[:4], frame(5, run_id="of-bob"), *LOG[5:]]
    assert Finding(Wrong.FOREIGN, "tab", 5, "of-bob") in found(received)


def test_another_users_event_in_the_right_run_is_found() -> None:
    """Bob's thread is there too, so the checker knows his runs."""
    words = {**event(5), "messageId": "bob-1:answer"}
    bob = [frame(number, thread_id="b", run_id="bob-1") for number in (1, 9)]
    received = [*LOG[:4], frame(5, event=words), *LOG[5:]]
    assert Finding(Wrong.FOREIGN, "tab", 5, "r1") in findings([Tab("tab", "t", received)], {"t": LOG, "b": bob})


def test_another_users_event_that_the_log_has_too_is_found() -> None:
    words = {**event(5), "messageId": "bob-1:answer"}
    bob = [frame(number, thread_id="b", run_id="bob-1") for number in (1, 9)]
    mixed = [*LOG[:4], frame(5, event=words), *LOG[5:]]
    assert Finding(Wrong.FOREIGN, "log", 5, "t") in findings([Tab("tab", "t", mixed)], {"t": mixed, "b": bob})


def test_a_run_that_nobody_asked_for_here_is_found() -> None:
    assert found(LOG, asked={"t": {"r1": "and r1?"}}) == [Finding(Wrong.FOREIGN, "log", 10, "r2 in t")]


def test_a_run_that_is_not_there_is_found() -> None:
    first = LOG[:RUN]
    assert found(first, first, asked=ASKED) == [Finding(Wrong.LOST, "log", RUN, "r2 in t")]


def test_another_question_is_found() -> None:
    asked = {"t": {"r1": "and r1?", "r2": "and what of r2?"}}
    assert found(LOG, asked=asked) == [Finding(Wrong.ALTERED, "log", 10, "the question of r2")]


@pytest.mark.parametrize("log", [LOG, TIDIED], ids=["as-it-was", "tidied"])
def test_other_words_are_found(log: list[Frame]) -> None:
    received = [*LOG[:3], frame(4, event={**event(4), "delta": "40 "}), *LOG[4:]]
    (finding,) = found(received, log)
    assert finding.wrong is Wrong.ALTERED


def test_other_words_beside_a_loss_are_found_in_a_tidied_log() -> None:
    received = [*LOG[:3], frame(4, event={**event(4), "delta": "40 "}), *LOG[5:]]
    assert kinds(received, TIDIED) == {Wrong.ALTERED, Wrong.LOST}


def test_a_merge_that_drops_words_is_found() -> None:
    short = frame(3, 6)
    short["event"]["delta"] = short["event"]["delta"][:-2]
    assert kinds([frame(1), frame(2), short, *LOG[6:]]) == {Wrong.ALTERED}


def test_a_merge_of_what_does_not_belong_together_is_found() -> None:
    wide = frame(7, event={**event(7), "delta": "7 "}, seq=8)
    assert kinds([*LOG[:6], wide, *LOG[8:]]) == {Wrong.ALTERED}


@pytest.mark.parametrize("at", range(1, HEAD))
def test_an_epoch_that_changes_without_a_snapshot_is_found(at: int) -> None:
    received = [*LOG[:at], *(frame(number, epoch="f") for number in range(at + 1, HEAD + 1))]
    assert Finding(Wrong.EPOCH, "tab", at + 1, "f") in found(received)


def test_a_tab_that_stays_in_an_old_epoch_is_found() -> None:
    received = [frame(number, epoch="old") for number in ALL]
    assert kinds(received) == {Wrong.EPOCH}


def test_a_log_of_two_epochs_is_found() -> None:
    log = [*LOG[:RUN], *(frame(number, epoch="f") for number in range(RUN + 1, HEAD + 1))]
    assert Finding(Wrong.EPOCH, "log", RUN + 1, "t") in found(LOG, log)


def test_a_new_epoch_begins_with_a_snapshot() -> None:
    old = [frame(number, epoch="old") for number in range(1, 6)]
    assert found([*old, snapshot(0), *LOG]) == []
    assert found([*old[:2], *old[3:], snapshot(0), *LOG]) == [Finding(Wrong.LOST, "tab", 3)]


@pytest.mark.parametrize(
    "said",
    [
        [],
        messages(1)[:1],
        messages(1)[1:],
        messages(2),
        [messages(1)[0], {**messages(1)[1], "content": "something else"}],
        [{"id": "bob-1:question", "role": "user", "content": "and bob?"}, *messages(1)],
    ],
    ids=["empty", "without-the-answer", "without-the-question", "too-much", "other-words", "anothers"],
)
def test_a_wrong_snapshot_is_found(said: list[dict[str, Any]]) -> None:
    wrong = snapshot(1, event={"type": "MESSAGES_SNAPSHOT", "messages": said})
    received = [*LOG[:4], wrong, *LOG[RUN:]]
    assert found(received) == [Finding(Wrong.ALTERED, "tab", RUN, "a snapshot of something else")]


def test_a_snapshot_in_the_middle_of_a_run_is_found() -> None:
    halfway = {**snapshot(1), "after_seq": RUN + 3}
    assert kinds([*LOG[:4], halfway, *LOG[RUN + 3 :]]) == {Wrong.ALTERED}


@pytest.mark.parametrize("missing", range(1, 4))
def test_a_snapshot_hides_no_loss_before_it(missing: int) -> None:
    received = [*(envelope for envelope in LOG[:4] if envelope["seq"] != missing), snapshot(1), *LOG[RUN:]]
    assert found(received) == [Finding(Wrong.LOST, "tab", missing)]


def test_a_snapshot_hides_no_loss_after_it() -> None:
    assert found([*LOG[:4], snapshot(1), *LOG[RUN + 1 :]]) == [Finding(Wrong.LOST, "tab", RUN + 1)]


def test_what_a_snapshot_holds_is_not_sent_again() -> None:
    received = [snapshot(1), *LOG[RUN - 1 :]]
    assert found(received) == [Finding(Wrong.DUPLICATED, "tab", RUN)]


def test_a_long_history_is_cut_at_a_question() -> None:
    log: list[Frame] = []
    for number in range(120):
        at = 2 * number + 1
        asked = {"id": f"q{number}", "role": "user", "content": f"{number}?"}
        started = {"type": "RUN_STARTED", "input": {"messages": [asked]}}
        result = {"type": "TOOL_CALL_RESULT", "messageId": f"m{number}", "toolCallId": "c", "content": "{}"}
        log.append(frame(at, run_id=f"r{number}", event=started))
        log.append(frame(at + 1, run_id=f"r{number}", event=result))
        log.append(frame(at + 2, run_id=f"r{number}", event={"type": "RUN_FINISHED"}))
    log = [{**envelope, "seq_from": seq, "seq": seq} for seq, envelope in enumerate(log, 1)]
    said: list[dict[str, Any]] = []
    for number in range(20, 120):
        said.append({"id": f"q{number}", "role": "user", "content": f"{number}?"})
        said.append({"id": f"m{number}", "role": "tool", "content": "{}", "toolCallId": "c"})
    newest = synthetic(len(log), {"type": "MESSAGES_SNAPSHOT", "messages": said})
    assert found([newest], log) == []
    fewer = synthetic(len(log), {"type": "MESSAGES_SNAPSHOT", "messages": said[2:]})
    assert kinds([fewer], log) == {Wrong.ALTERED}


@pytest.mark.parametrize(
    "wrong",
    [
        prelude(3, 1, 2),
        prelude(4, 10),
        [synthetic(4, {"type": "TEXT_MESSAGE_START", "messageId": "r1:other"}, run_id="r1")],
        [synthetic(4, event(1), run_id="of-bob")],
        [synthetic(4, WRAP)],
    ],
    ids=["of-another-place", "of-another-run", "made-up", "anothers", "a-place-before-the-snapshot"],
)
def test_a_wrong_prelude_is_found(wrong: list[Frame]) -> None:
    assert kinds([*LOG[:4], *wrong, *LOG[4:]]) == {Wrong.ALTERED}


def test_what_was_delivered_and_is_not_in_the_log_is_found() -> None:
    assert found(LOG, LOG[:RUN]) == [Finding(Wrong.LOST, "log", number, "tab has it") for number in ALL[RUN:]]


def test_a_log_with_a_hole_is_found() -> None:
    holed = [envelope for envelope in LOG if envelope["seq"] != 4]
    assert found(holed, holed) == [Finding(Wrong.LOST, "log", 4, "t")]


def test_a_run_without_an_end_is_found() -> None:
    cut = LOG[:-1]
    assert found(cut, cut) == [Finding(Wrong.UNFINISHED, "log", HEAD - 1, "r2 in t")]


def test_runs_that_interleave_are_found() -> None:
    mixed = [dict(envelope) for envelope in LOG]
    mixed[4]["run_id"] = "other"
    assert kinds(mixed, mixed) == {Wrong.OUT_OF_ORDER, Wrong.FOREIGN}
