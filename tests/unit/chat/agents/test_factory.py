from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.chat_support import FakeInsight

from doorward import Settings
from doorward.chat.agents.factory import make_agent
from doorward.chat.agents.http import HttpAgent
from doorward.chat.agents.port import Agent
from doorward.chat.agents.pydantic_ai import PydanticAgent
from doorward.chat.agents.warden import Warden
from doorward.errors import ConfigError

MODULE = """
import pydantic_ai

bare = pydantic_ai.Agent()
whole = pydantic_ai.Agent("test")

class Own:
    async def run(self, request):
        yield None

own = Own()

class holder:
    inner = own
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with a module, as `doorward serve` would find it."""
    (tmp_path / "agents_of_mine.py").write_text(MODULE)
    (tmp_path / "agents_that_break.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "agents_of_mine", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def made(**chat: Any) -> Agent:
    return make_agent(Settings(chat=chat).chat, insight=FakeInsight())


@pytest.mark.parametrize(
    ("chat", "kind"),
    [
        ({}, Warden),
        ({"agent": "http", "agent_url": "https://agent.internal/run", "agent_token": "t"}, HttpAgent),
        ({"agent": "pydantic-ai", "agent_model": "test", "agent_instructions": "Be brief."}, PydanticAgent),
        ({"agent": "agents_of_mine:whole"}, PydanticAgent),
        ({"agent": "agents_of_mine:bare", "agent_model": "test"}, PydanticAgent),
    ],
)
def test_each_kind_of_agent(chat: dict[str, Any], kind: type) -> None:
    assert isinstance(made(**chat), kind)


@pytest.mark.parametrize("name", ["own", "holder.inner"])
def test_an_agent_of_ones_own_is_taken_as_it_is(name: str) -> None:
    agent = made(agent=f"agents_of_mine:{name}")
    assert type(agent).__name__ == "Own"


@pytest.mark.parametrize(
    ("chat", "why"),
    [
        ({"agent": "pydantic-ai", "agent_model": "openai:gpt-5"}, "Set the `OPENAI_API_KEY` environment variable"),
        ({"agent": "pydantic-ai", "agent_model": "nobody:knows"}, "Unknown model: nobody:knows"),
        ({"agent": "agents_of_mine:bare"}, "has no model; give it one, or set chat.agent_model"),
        ({"agent": "agents_of_mine:Own"}, "is no agent"),
        ({"agent": "agents_of_mine:holder"}, "is no agent"),
        ({"agent": "agents_of_mine:own", "agent_model": "test"}, "for agents of pydantic-ai"),
        ({"agent": "agents_of_mine:nothing"}, "cannot be imported"),
        ({"agent": "not_there:agent"}, "No module named 'not_there'"),
        ({"agent": "agents_that_break:agent"}, "ZeroDivisionError"),
    ],
)
def test_what_is_missing_is_said_at_the_start(chat: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=r"^chat\.agent") as caught:
        made(**chat)
    assert why in str(caught.value)


@pytest.mark.parametrize("chat", [{"agent": "pydantic-ai", "agent_model": "test"}])
def test_without_the_package_the_mend_is_named(chat: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ConfigError, match=r"pip install 'doorward\[agents\]'"):
        made(**chat)


@pytest.mark.parametrize(
    ("chat", "why"),
    [
        ({"agent": "oracle"}, "chat.agent:"),
        ({"agent": "http"}, "chat.agent_url is not set"),
        ({"agent": "pydantic-ai"}, "chat.agent_model is not set"),
        ({"agent_url": "https://agent.internal"}, "for chat.agent = http"),
        ({"agent_model": "test"}, "for chat.agent = pydantic-ai"),
        ({"agent": "http", "agent_url": "agent.internal"}, "chat.agent_url is not an http(s) URL"),
        ({"agent": "http", "agent_url": "http://agent.internal"}, "https is required in production"),
    ],
)
def test_settings_that_cannot_work(chat: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(chat=chat)
    assert why in str(caught.value)
