from __future__ import annotations

import pytest

from doorward.chat.agents.port import TOLD, AgentFault
from doorward.chat.endings import error_of, fault_of
from doorward.chat.mailbox import Ending


@pytest.mark.parametrize("ending", [Ending.FINISHED, Ending.CANCELLED])
def test_an_end_that_is_no_error(ending: Ending) -> None:
    assert error_of(ending) is None


@pytest.mark.parametrize("ending", sorted(set(Ending) - {Ending.FINISHED, Ending.CANCELLED}))
def test_every_other_end_has_a_code_and_words(ending: Ending) -> None:
    code, words = error_of(ending) or ("", "")
    assert code
    assert words.endswith(".")


@pytest.mark.parametrize("fault", list(AgentFault))
def test_a_fault_comes_back_from_its_code(fault: AgentFault) -> None:
    code, words = error_of(Ending.FAILED, fault) or ("", "")
    assert (fault_of(code), words) == (fault, TOLD[fault])


@pytest.mark.parametrize("code", [None, "", "of a later version"])
def test_of_an_unknown_code_only_the_failure_is_known(code: str | None) -> None:
    assert fault_of(code) is AgentFault.FAILED
