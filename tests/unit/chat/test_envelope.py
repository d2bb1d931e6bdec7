from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from ag_ui.core import RunFinishedEvent, TextMessageContentEvent

from doorward.chat.envelope import Envelope, SyntheticEnvelope, compacted, encode, event_json, merged


def envelope(seq: int, event: dict[str, Any], **changes: Any) -> Envelope:
    base = Envelope("t", "e", seq, seq, "r", 1, msgspec.Raw(json.dumps(event).encode()))
    return msgspec.structs.replace(base, **changes)


def delta(seq: int, text: str, message_id: str = "m", **changes: Any) -> Envelope:
    event = event_json(TextMessageContentEvent(message_id=message_id, delta=text))
    return envelope(seq, json.loads(event), **changes)


def test_events_are_camel_case_without_empty_fields() -> None:
    event = json.loads(event_json(RunFinishedEvent(thread_id="t", run_id="r")))
    assert event == {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def test_the_envelope_on_the_wire() -> None:
    assert json.loads(encode(envelope(3, {"type": "CUSTOM"}))) == {
        "v": 1,
        "thread_id": "t",
        "epoch": "e",
        "seq_from": 3,
        "seq": 3,
        "run_id": "r",
        "ts": 1,
        "event": {"type": "CUSTOM"},
    }


def test_a_synthetic_one_says_so_and_has_no_place() -> None:
    content = json.loads(
        encode(SyntheticEnvelope("t", "e", 1, msgspec.Raw(b'{"type":"MESSAGES_SNAPSHOT"}'), after_seq=7))
    )
    assert content["after_seq"] == 7
    assert content["synthetic"] is True
    assert "seq" not in content
    assert "seq_from" not in content


def test_deltas_of_one_message_become_one() -> None:
    both = merged(delta(3, "Hel"), delta(4, 'lo "you"'), max_bytes=1_000)
    assert both is not None
    assert (both.seq_from, both.seq) == (3, 4)
    assert json.loads(bytes(both.event)) == {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": 'Hello "you"'}
    more = merged(both, delta(5, "!"), max_bytes=1_000)
    assert more is not None
    assert (more.seq_from, more.seq) == (3, 5)


def test_what_does_not_belong_together_is_not_merged() -> None:
    first = delta(3, "a")
    end = {"type": "TEXT_MESSAGE_END", "messageId": "m"}
    assert merged(first, delta(5, "b"), max_bytes=1_000) is None, "a gap"
    assert merged(first, delta(4, "b", "other"), max_bytes=1_000) is None, "another message"
    assert merged(first, delta(4, "b", thread_id="u"), max_bytes=1_000) is None, "another thread"
    assert merged(first, delta(4, "b", epoch="f"), max_bytes=1_000) is None, "another epoch"
    assert merged(first, envelope(4, end), max_bytes=1_000) is None, "not a delta"
    assert merged(first, delta(4, "b"), max_bytes=50) is None, "too large"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": 1}]},
        {"type": "CUSTOM", "name": "n", "value": 1, "messageId": 5},
        {"type": "ACTIVITY_DELTA", "messageId": "m", "patch": [], "delta": None},
    ],
)
def test_what_calls_something_else_its_delta_stays_as_it_is(event: dict[str, Any]) -> None:
    foreign = envelope(4, event)
    assert merged(delta(3, "a"), foreign, max_bytes=1_000) is None
    assert merged(foreign, delta(5, "b"), max_bytes=1_000) is None
    assert compacted([delta(3, "a"), foreign, delta(5, "b")], max_bytes=1_000)[1] is foreign
