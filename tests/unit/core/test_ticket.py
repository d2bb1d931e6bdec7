from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from doorward.core.ticket import CLOCK_SLACK_SECONDS, ID_BYTES, Ticket, TicketUse, opened, refusal, sealed
from doorward.core.verdict import Code

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
ID = bytes(range(ID_BYTES))
PAGE = "https://app.example"
TICKET = Ticket("the-token", "/ws", PAGE, 1000.0, 1030.0)
USE = TicketUse("/ws", PAGE, "wss", "app.example")


def test_what_is_sealed_is_what_is_opened() -> None:
    text = sealed(TICKET, KEY, ID)
    assert opened(text, KEY) == (ID, TICKET)


def test_the_text_shows_nothing_of_the_token() -> None:
    text = sealed(TICKET, KEY, ID)
    assert "the-token" not in text
    assert "the-token" not in repr(TICKET)
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert sealed(TICKET, KEY, bytes(ID_BYTES)) != text


def test_no_character_of_it_can_be_changed() -> None:
    text = sealed(TICKET, KEY, ID)
    for place in range(len(text)):
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        assert opened(changed, KEY) in {None, (ID, TICKET)}  # the last character may have bits that do not count
        assert place == len(text) - 1 or opened(changed, KEY) is None


@pytest.mark.parametrize("text", ["", "A", "AAAA", "A" * 40, "é", "=", sealed(TICKET, OTHER_KEY, ID)])
def test_what_is_no_ticket_of_this_node(text: str) -> None:
    assert opened(text, KEY) is None


@pytest.mark.parametrize(
    ("wall_now", "code"),
    [
        (1000.0 - CLOCK_SLACK_SECONDS - 0.1, Code.TOKEN_EXPIRED),
        (1000.0 - CLOCK_SLACK_SECONDS, None),
        (1029.9, None),
        (1030.0, Code.TOKEN_EXPIRED),
    ],
)
def test_its_time(wall_now: float, code: Code | None) -> None:
    denied = refusal(TICKET, USE, wall_now)
    assert (denied.code if denied is not None else None) == code


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"path": "/ws/"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": None}, False),
        ({"origin": None, "is_safe": True, "scheme": "https"}, True),
        ({"origin": None, "is_safe": True, "scheme": "https", "host": "other.example"}, False),
        ({"origin": "https://evil.example", "is_safe": True}, False),
    ],
)
def test_its_path_and_origin(change: dict[str, object], good: bool) -> None:
    denied = refusal(TICKET, replace(USE, **change), 1001.0)  # type: ignore[arg-type]
    assert (denied is None) == good
    assert good or (denied is not None and denied.code is Code.TOKEN_INVALID)


def test_one_that_was_given_to_a_program_is_for_programs() -> None:
    given = msgspec.structs.replace(TICKET, origin=None)
    assert refusal(given, replace(USE, origin=None), 1001.0) is None
    assert refusal(given, USE, 1001.0) is not None
