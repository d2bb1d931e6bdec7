"""Both servers answer as their OpenAPI documents say, to what these allow and to what they forbid, and never with a 500."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.interfaces import Held, authd_run, chat_run, servers

from doorward.authd import openapi as authd_openapi
from doorward.chat import api as chat_api

TOOL_SECONDS = 100.0
OPTIONS = ("--seed=1", "--max-examples=4")
OF_AUTHD = "--phases=coverage,stateful"
OF_CHAT = "--phases=coverage,fuzzing"


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Held, Held]]:
    """Both at once: each is one process that works and one that waits."""
    folder = tmp_path_factory.mktemp("interfaces")
    with (
        servers(folder) as (authd, chat),
        authd_run(authd, folder, *OPTIONS, OF_AUTHD) as of_authd,
        chat_run(chat, folder, *OPTIONS, OF_CHAT) as of_chat,
    ):
        yield of_authd.held(TOOL_SECONDS), of_chat.held(TOOL_SECONDS)


def test_authd_answers_as_its_document_says(held: tuple[Held, Held]) -> None:
    of_authd, _ = held
    assert of_authd.exit_code == 0, of_authd.said[-12_000:]
    assert of_authd.never_done(authd_openapi.OPERATIONS) == []


def test_the_chat_answers_as_its_document_says(held: tuple[Held, Held]) -> None:
    _, of_chat = held
    assert of_chat.exit_code == 0, of_chat.said[-12_000:]
    assert of_chat.never_done(chat_api.OPERATIONS) == []
