"""The state in plain words."""

from __future__ import annotations

import time

import pytest

from doorward.client import DoorView, Reason, State, StateName, in_words
from doorward.core.verdict import TABLE, Action, Code

NOW = 1_700_000_000.0


def waiting(code: str, action: Action = Action.RETRY, cause: str | None = None, **more: str) -> str:
    return in_words(State(StateName.WAITING, 2, Reason(code, action, cause, **more), NOW + 3.2), wall_now=NOW)  # type: ignore[arg-type]


def test_all_is_well_without_a_word() -> None:
    assert in_words(State(StateName.OPEN, door=DoorView("u1")), wall_now=NOW) == ""


@pytest.mark.parametrize("row", [row for row in TABLE if row.action is Action.RETRY], ids=lambda row: row.situation)
def test_an_outage_says_that_nobody_was_signed_out_and_when_it_is_tried_again(row: object) -> None:
    code, cause = getattr(row, "code"), getattr(row, "cause")  # noqa: B009 - mypy knows no Row in a lambda's id
    words = waiting(code, cause=cause)
    assert "You are still signed in. Trying again in 4 s." in words


def test_whose_fault_it_is() -> None:
    assert waiting("SERVICE_UNAVAILABLE", cause="deadline").startswith("The auth service is not answering.")
    assert waiting("SERVICE_UNAVAILABLE", cause="config").startswith("The auth service refuses the chat server itself")
    assert waiting("TOKEN_UNAVAILABLE", cause="SERVICE_UNAVAILABLE").startswith("The auth service is not answering.")
    assert waiting("TOKEN_UNAVAILABLE", cause="UNREACHABLE").startswith("The server cannot be reached.")
    assert waiting("CONNECT_FAILED", detail="connection refused").startswith(
        "The server cannot be reached (connection refused)."
    )
    assert waiting("RESTARTING").startswith("The server is restarting.")


def test_a_refused_token_is_no_outage() -> None:
    assert waiting("TOKEN_INVALID", Action.SIGN_IN).startswith("The server does not accept your sign-in yet")


def test_while_it_is_tried_the_words_stay() -> None:
    reason = Reason("RESTARTING", Action.RETRY)
    assert in_words(State(StateName.CONNECTING, 2, reason), wall_now=NOW).endswith("Trying now.")
    assert in_words(State(StateName.CONNECTING), wall_now=NOW) == "Connecting."
    assert in_words(State(StateName.WAITING, 2, reason, NOW - 1), wall_now=NOW).endswith("Trying now.")


def test_provisionally_in() -> None:
    words = in_words(State(StateName.DEGRADED, door=DoorView(degraded=True)), wall_now=NOW)
    assert words == "Signed in provisionally while the auth service is not answering."
    words = in_words(State(StateName.DEGRADED, door=DoorView(grace_until=NOW)), wall_now=NOW)
    assert f"until {time.strftime('%H:%M', time.localtime(NOW))}" in words


@pytest.mark.parametrize("code", ["TOKEN_REVOKED", "TOKEN_REJECTED", "TOKEN_EXPIRED", "SIGNED_OUT"])
def test_signed_out_says_why_and_what_to_do(code: str) -> None:
    words = in_words(State(StateName.SIGNED_OUT, reason=Reason(code, Action.SIGN_IN)), wall_now=NOW)
    assert words.startswith("You were signed out because ")
    assert words.endswith("Sign in again.")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason(Code.FORBIDDEN, Action.STOP), "not permitted"),
        (Reason("HTTP_404", Action.STOP, status=404), "There is no chat at this address"),
        (Reason("HTTP_301", Action.STOP, status=301), "no chat server, or does not let you pass (HTTP 301"),
        (Reason("A_NEW_WORD", Action.STOP), "for good (A_NEW_WORD)"),
    ],
)
def test_stopped_says_why(reason: Reason, words: str) -> None:
    assert words in in_words(State(StateName.STOPPED, reason=reason), wall_now=NOW)
