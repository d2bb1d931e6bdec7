from __future__ import annotations

import json
from typing import Any

import pytest

from doorward.chat.agents.port import TOLD, AgentFault
from doorward.chat.endings import error_of, fault_of, last_word
from doorward.chat.envelope import event_json
from doorward.chat.mailbox import Ending


@pytest.mark.parametrize("ending", [Ending.FINISHED, Ending.CANCELLED])
def test_an_end_that_is_no_error(ending: Ending) -> None:
    assert error_of(ending) is None


@pytest.mark.parametrize("ending", sorted(set(Ending) - {Ending.FINISHED, Ending.CANCELLED}))
def test_every_other_end_has_a_code_and_words(ending: Ending) -> None:
    code, words, _ = error_of(ending) or ("", "", False)
    assert code
    assert words.endswith(".")


@pytest.mark.parametrize("fault", list(AgentFault))
def test_a_fault_comes_back_from_its_code(fault: AgentFault) -> None:
    code, words, _ = error_of(Ending.FAILED, fault) or ("", "", False)
    assert (fault_of(code), words) == (fault, TOLD[fault])


@pytest.mark.parametrize("code", [None, "", "of a later version"])
def test_of_an_unknown_code_only_the_failure_is_known(code: str | None) -> None:
    assert fault_of(code) is AgentFault.FAILED


def said(ending: Ending, fault: AgentFault = AgentFault.FAILED) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(event_json(last_word("t", "r", ending, fault)))
    return content


@pytest.mark.parametrize(
    ("ending", "kind", "code", "retryable"),
    [
        (Ending.FINISHED, "RUN_FINISHED", None, None),
        (Ending.CANCELLED, "RUN_FINISHED", None, None),
        (Ending.INTERRUPTED, "RUN_ERROR", "interrupted", True),
        (Ending.TIMEOUT, "RUN_ERROR", "timeout", True),
        (Ending.TOO_LONG, "RUN_ERROR", "too_long", False),
    ],
)
def test_the_last_word_says_how_it_ended(
    ending: Ending, kind: str, code: str | None, *, retryable: bool | None
) -> None:
    word = said(ending)
    assert (word["type"], word.get("code"), word.get("metadata", {}).get("retryable")) == (kind, code, retryable)
    assert word.get("outcome") == ({"type": "cancelled"} if ending is Ending.CANCELLED else None)


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        (AgentFault.FAILED, True),
        (AgentFault.UNAVAILABLE, True),
        (AgentFault.BUSY, True),
        (AgentFault.MISCONFIGURED, False),
        (AgentFault.DECLINED, False),
        (AgentFault.THREAD_TOO_LONG, False),
    ],
)
def test_the_last_word_says_whether_to_ask_again(fault: AgentFault, *, retryable: bool) -> None:
    word = said(Ending.FAILED, fault)
    assert (word["code"], word["metadata"]) == (fault.value, {"retryable": retryable})
