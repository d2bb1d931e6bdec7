from __future__ import annotations

import json
from typing import Any

import pytest

from doorward.chat.commands import Done, ErrorCode, Fault, Malformed, Ping, RunStart, ThreadSubscribe, parse, reply
from doorward.chat.limits import MAX_TEXT_BYTES

START = {"id": "c1", "type": "run.start", "thread_id": "t1", "run_id": "r1", "message": "hello"}


def text(**changes: Any) -> str:
    return json.dumps({**START, **changes})


def test_reads_each_command() -> None:
    assert parse(text()) == RunStart("c1", "t1", "r1", "hello")
    assert parse('{"id":"c2","type":"ping"}') == Ping("c2")
    subscribe = parse('{"id":"c3","type":"thread.subscribe","thread_id":"t1","epoch":"e","after_seq":7}')
    assert subscribe == ThreadSubscribe("c3", "t1", "e", 7)


def test_unknown_fields_are_for_later_versions() -> None:
    assert parse(text(colour="red")) == RunStart("c1", "t1", "r1", "hello")


@pytest.mark.parametrize(
    ("message", "command_id"),
    [
        ("", None),
        ("{", None),
        ("[1, 2]", None),
        (b"\xff\xfe", None),
        ("[" * 40_000, None),
        ('{"type":"ping"}', None),
        ('{"id":7,"type":"ping"}', None),
        ('{"id":"","type":"ping"}', None),
        ('{"id":"c1"}', "c1"),
        ('{"id":"c1","type":7}', "c1"),
        (text(thread_id=7), "c1"),
        (text(thread_id=""), "c1"),
        (text(thread_id="a b"), "c1"),
        (text(thread_id="t1\n"), "c1"),
        (text(thread_id="t" * 129), "c1"),
        (text(message=""), "c1"),
        (text(run_id=None), "c1"),
        ('{"id":"c1","type":"thread.subscribe","thread_id":"t","after_seq":-1}', "c1"),
        ('{"id":"c1","type":"thread.subscribe","thread_id":"t","after_seq":"1"}', "c1"),
    ],
)
def test_what_is_no_command_gets_an_error(message: str | bytes, command_id: str | None) -> None:
    outcome = parse(message)
    assert isinstance(outcome, Malformed)
    assert outcome.id == command_id
    assert outcome.fault.code is ErrorCode.BAD_REQUEST


def test_an_unknown_command_is_named_but_cut() -> None:
    outcome = parse(json.dumps({"id": "c1", "type": "x" * 5_000}))
    assert isinstance(outcome, Malformed)
    assert outcome.fault.code is ErrorCode.UNKNOWN_COMMAND
    assert len(outcome.fault.message) < 300


def test_an_error_never_quotes_a_value() -> None:
    outcome = parse('{"id":"c1","type":"run.start","thread_id":"t","run_id":{"secret":"hunter2"},"message":"m"}')
    assert isinstance(outcome, Malformed)
    assert "hunter2" not in outcome.fault.message
    assert "run_id" in outcome.fault.message


def test_the_question_is_bounded_in_bytes() -> None:
    umlauts = "ü" * (MAX_TEXT_BYTES // 2)
    assert isinstance(parse(text(message=umlauts)), RunStart)
    outcome = parse(text(message=umlauts + "x"))
    assert isinstance(outcome, Malformed)
    assert outcome.fault.code is ErrorCode.MESSAGE_TOO_LONG


def test_replies() -> None:
    assert json.loads(reply("c1", Done({"run_id": "r1"}))) == {"reply_to": "c1", "ok": True, "run_id": "r1"}
    error = json.loads(reply(None, Fault(ErrorCode.BAD_REQUEST, "no")))
    assert error == {"reply_to": None, "error": {"code": "BAD_REQUEST", "message": "no"}}
