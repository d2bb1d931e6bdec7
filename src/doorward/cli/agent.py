"""Words about the agent that the settings choose, and a look whether it is there. The chat's packages are imported only to look."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from doorward.errors import ConfigError

if TYPE_CHECKING:
    from doorward.config import ChatSettings


def in_words(chat: ChatSettings) -> str:
    """Who answers in the chat."""
    match chat.agent:
        case "warden":
            return "the warden answers about this very door, without a model"
        case "pydantic-ai":
            return f"the model {chat.agent_model} answers, through pydantic-ai"
        case "http":
            token = "with" if chat.agent_token is not None else "without"
            return f"an AG-UI agent at {urlsplit(chat.agent_url or '').netloc} answers; it is asked {token} a token"
        case path:
            return f"{path} answers" + (f", with the model {chat.agent_model}" if chat.agent_model else "")


def problem_of(chat: ChatSettings) -> str | None:
    """Why this agent cannot be had, `None` if it can. Imports it, and asks it nothing."""
    if chat.agent in {"warden", "http"}:
        return None
    try:
        from doorward.chat.agents.factory import made
    except ImportError:
        return f"chat.agent = {chat.agent}: the chat is not installed: pip install 'doorward[agents]'"
    try:
        made(chat)
    except ConfigError as error:
        return str(error)
    return None
