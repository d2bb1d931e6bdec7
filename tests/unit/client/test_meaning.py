"""Closes, answers over HTTP and what to do about them."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from doorward.client.meaning import MAX_WAIT_SECONDS, action_for, header_seconds, milliseconds, of_answer, of_close
from doorward.core.verdict import TABLE, Action, Code, Row, close_code, close_reason

CLOSES = [row for row in TABLE if row.close]


@pytest.mark.parametrize("style", ["iana", "http"])
@pytest.mark.parametrize("row", CLOSES, ids=lambda row: row.situation)
def test_every_row_of_the_table_is_obeyed(row: Row, style: Literal["iana", "http"]) -> None:
    """By word; and by number, where the word is missing."""
    number = close_code(row, style=style)
    assert of_close(number, close_reason(row.code, "d1", None)).action is row.action
    assert of_close(number, "").action is row.action


@pytest.mark.parametrize("row", [row for row in TABLE if row.http], ids=lambda row: row.situation)
def test_every_row_over_http_is_obeyed(row: Row) -> None:
    body = json.dumps({"code": row.code, "status": row.http}).encode()
    assert row.http is not None
    reason = of_answer(row.http, None, body)
    assert (reason.code, reason.action) == (row.code, row.action)
    assert of_answer(row.http, None, b"<html>").action is row.action


def test_a_reason_is_read_whole() -> None:
    reason = of_close(1013, "SERVICE_UNAVAILABLE;retry_after_ms=1840;id=d7")
    assert (reason.code, reason.retry_after_seconds, reason.decision_id) == ("SERVICE_UNAVAILABLE", 1.84, "d7")
    assert (reason.close_code, reason.cause) == (1013, None)


def test_the_frame_before_it_says_more_and_counts_first() -> None:
    frame = {"code": "OVERLOADED", "cause": "upstream", "retry_after_ms": 250, "action": "stop", "decision_id": "d8"}
    reason = of_close(1013, "SERVICE_UNAVAILABLE;retry_after_ms=1840;id=d7", frame)
    assert (reason.code, reason.cause, reason.retry_after_seconds) == ("OVERLOADED", "upstream", 0.25)
    assert (reason.action, reason.decision_id) == (Action.STOP, "d8")


@pytest.mark.parametrize("text", ["", "bye", ";;;", "RATE LIMITED", "A" * 65, "X;retry_after_ms=-1", "x=1;id"])
def test_what_cannot_be_read_is_left_out(text: str) -> None:
    reason = of_close(4000, text, {"code": 7, "action": "dance", "retry_after_ms": True, "cause": []})
    assert reason.action is Action.RETRY
    assert reason.retry_after_seconds is None
    assert reason.code in {"CONNECTION_LOST", "X"}


def test_a_restart_without_a_word_is_one() -> None:
    assert of_close(1012).code == "RESTARTING"
    assert of_close(1006).code == "CONNECTION_LOST"


def test_a_word_decides_over_the_number() -> None:
    assert action_for(3000, Code.OVERLOADED) is Action.RETRY
    assert action_for(3000, "A_NEW_WORD") is Action.SIGN_IN
    assert action_for(1006, "A_NEW_WORD") is Action.RETRY


@pytest.mark.parametrize(
    ("status", "action"),
    [(401, "sign_in"), (403, "stop"), (404, "stop"), (301, "stop"), (200, "stop"), (429, "retry"), (502, "retry")],
)
def test_somebody_elses_answer_is_read_by_its_status(status: int, action: str) -> None:
    reason = of_answer(status, "7", b"")
    assert (reason.code, reason.action, reason.retry_after_seconds) == (f"HTTP_{status}", action, 7.0)


def test_problem_details_count_before_the_header() -> None:
    assert of_answer(503, "7", b'{"code": "OVERLOADED", "retry_after_ms": 1500}').retry_after_seconds == 1.5


def test_foreign_words_are_made_harmless() -> None:
    body = json.dumps({"code": "OVERLOADED", "decision_id": "\x1b[31m" + "x" * 900}).encode()
    decision_id = of_answer(503, None, body).decision_id
    assert decision_id is not None
    assert "\x1b" not in decision_id
    assert len(decision_id) <= 200


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0.0), (1500, 1.5), ("1500", 1.5), (1e18, MAX_WAIT_SECONDS), (-1, None), (float("nan"), None), (None, None)],
)
def test_waits_are_numbers_within_a_bound(value: object, seconds: float | None) -> None:
    assert milliseconds(value) == seconds


@pytest.mark.parametrize(("value", "seconds"), [("9", 9.0), (" 9 ", 9.0), ("9" * 12, MAX_WAIT_SECONDS), ("soon", None)])
def test_a_header_too(value: str, seconds: float | None) -> None:
    assert header_seconds(value) == seconds
