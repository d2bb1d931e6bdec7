"""Which agent answers: what `chat.agent` says becomes an `Agent`, or a sentence about what is missing, at start-up."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doorward.chat.agents.http import HttpAgent
from doorward.chat.agents.warden import Warden
from doorward.errors import ConfigError

if TYPE_CHECKING:
    from doorward.chat.agents.port import Agent
    from doorward.chat.agents.tools import Drill
    from doorward.config import ChatSettings
    from doorward.runtime.insight import Insight

NEEDS_EXTRA = "it needs pydantic-ai: pip install 'doorward[agents]'"


def make_agent(chat: ChatSettings, *, insight: Insight, drill: Drill | None = None) -> Agent:
    """The agent that the settings choose.

    Args:
        chat: read once.
        insight: what the warden answers from.
        drill: what the warden may break on purpose, for an admin.

    Raises:
        ConfigError: a package, a key or the agent itself is not there; the text says which.
    """
    return Warden(insight, drill) if chat.agent == "warden" else made(chat)


def made(chat: ChatSettings) -> Agent:
    """Any agent but the warden.

    Raises:
        ConfigError: as `make_agent`.
    """
    match chat.agent:
        case "pydantic-ai":
            return _with_model(chat)
        case "http":
            return _over_http(chat)
        case path:
            return _own(path, chat)


def _over_http(chat: ChatSettings) -> Agent:
    if chat.agent_url is None:
        raise ConfigError("chat.agent_url is not set: chat.agent = http needs the address of the agent")
    token = chat.agent_token.get_secret_value() if chat.agent_token is not None else None
    return HttpAgent(chat.agent_url, token=token)


def _with_model(chat: ChatSettings) -> Agent:
    try:
        from pydantic_ai import Agent as Made

        from doorward.chat.agents.pydantic_ai import PydanticAgent
    except ImportError as error:
        raise ConfigError(f"chat.agent = pydantic-ai: {NEEDS_EXTRA}") from error
    return PydanticAgent(Made(_model(chat.agent_model), instructions=chat.agent_instructions))


def _model(name: str | None) -> Any:
    """Asks for the provider's key at start-up rather than in the first run."""
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model

    if name is None:
        return None
    try:
        return infer_model(name)
    except (UserError, ImportError) as error:
        raise ConfigError(f"chat.agent_model = {name}: {str(error).partition('. ')[0]}") from error


def _own(path: str, chat: ChatSettings) -> Agent:
    found = _found(path)
    if "pydantic_ai" in sys.modules:
        from pydantic_ai.agent import AbstractAgent

        from doorward.chat.agents.pydantic_ai import PydanticAgent

        if isinstance(found, AbstractAgent):
            if chat.agent_model is None and getattr(found, "model", None) is None:
                raise ConfigError(f"chat.agent = {path}: it has no model; give it one, or set chat.agent_model")
            return PydanticAgent(found, model=_model(chat.agent_model), instructions=chat.agent_instructions)
    if isinstance(found, type) or not callable(getattr(found, "run", None)):
        raise ConfigError(
            f"chat.agent = {path}: that is no agent; name one of pydantic-ai, or an object whose run(request) gives AG-UI events"
        )
    if chat.agent_model or chat.agent_instructions:
        raise ConfigError(f"chat.agent_model and chat.agent_instructions are for agents of pydantic-ai; {path} is none")
    agent: Agent = found
    return agent


def _found(path: str) -> Any:
    """The object at `module:name`; modules of the working directory count, as with any ASGI server."""
    module_name, _, name = path.partition(":")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"chat.agent = {path}: cannot be imported from {folder} ({why})") from error
    return found
