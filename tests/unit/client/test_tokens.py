"""Tokens are never shown, and are fit for a header."""

from __future__ import annotations

import pytest

from doorward.client import FixedToken, Token, Tokens, User
from doorward.errors import UsageError

SECRET = "s3cr3t-t0ken"


def test_a_token_is_not_shown() -> None:
    for each in (Token(SECRET, 7.0), Tokens(SECRET, SECRET, 7.0, User("u1"))):
        assert SECRET not in f"{each!r} {each!s} {[each]}"
        assert "7.0" in repr(each)


@pytest.mark.parametrize("text", ["", "two words", "line\r\nX-Injected: yes", "söme", "a\x00b", "=="])
def test_what_is_no_bearer_token_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(UsageError) as told:
        Token(text)
    assert not text or text not in str(told.value)


async def test_a_fixed_token_has_no_other() -> None:
    tokens = FixedToken(SECRET, expires_at=9.0)
    assert await tokens.token() == await tokens.token(stale=SECRET) == Token(SECRET, 9.0)
