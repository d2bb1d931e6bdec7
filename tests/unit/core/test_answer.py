from __future__ import annotations

import json
from typing import Any

import pytest

from doorward.core.answer import (
    INTROSPECTION,
    MAX_NAME_BYTES,
    MAX_PERMISSIONS,
    Fields,
    Invalid,
    Valid,
    parse_answer,
    shown,
)
from doorward.errors import BadAnswer


def read(**fields: Any) -> Valid | Invalid:
    return parse_answer(json.dumps({"valid": True, "user_id": "ada", **fields}).encode())


def test_a_full_answer_is_read() -> None:
    answer = read(
        email="ada@example.test",
        permissions=["chat", "admin"],
        session_id="s1",
        expires_at=1_700_000_000,
        cache_seconds=5,
    )

    assert answer == Valid("ada", "ada@example.test", frozenset({"chat", "admin"}), "s1", 1_700_000_000.0, 5.0)


def test_only_the_user_is_required() -> None:
    assert read() == Valid("ada")
    assert read(email=None, permissions=None, session_id=None, expires_at=None, cache_seconds=None) == Valid("ada")


def test_a_no_carries_its_reason_cut_and_escaped() -> None:
    assert parse_answer(b'{"valid": false}') == Invalid("")
    assert parse_answer(b'{"valid": false, "error": "a\\nb"}') == Invalid("a\\nb")
    long = parse_answer(json.dumps({"valid": False, "error": "x" * 10_000}).encode())
    assert isinstance(long, Invalid)
    assert len(long.reason) == 200


def test_a_no_needs_no_reason_that_can_be_read() -> None:
    assert parse_answer(b'{"valid": false, "error": ["not", "text"]}') == Invalid("")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff\xfe",
        b"<html>200 OK</html>",
        b'{"valid": true, "user_id": "ada"',
        b'{"valid": true, "user_id": "ada"} trailing',
        b"null",
        b"true",
        b'["valid"]',
        b'"valid"',
        b"{}",
        b'{"valid": "true", "user_id": "ada"}',
        b'{"valid": "false"}',
        b'{"valid": 1, "user_id": "ada"}',
        b'{"valid": 0}',
        b'{"valid": null}',
        b'{"active": true, "user_id": "ada"}',
        b'{"valid": true}',
        b'{"valid": true, "user_id": ""}',
        b'{"valid": true, "user_id": null}',
        b'{"valid": true, "user_id": 7}',
        b'{"valid": true, "user_id": {"$ne": null}}',
        b'{"valid": true, "user_id": "\\ud800"}',
        b'{"valid": true, "user_id": "\xed\xa0\x80"}',
        b'{"valid": true, "user_id": "ada", "expires_at": NaN}',
        b'{"valid": true, "user_id": "ada", "expires_at": Infinity}',
        b'{"valid": true, "user_id": "ada", "expires_at": 1e400}',
        b'{"valid": true, "user_id": "ada", "expires_at": ' + b"9" * 400 + b"}",
        b'{"valid": true, "user_id": "ada", "expires_at": ' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"valid": true, "user_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_not_the_contract_is_neither_yes_nor_no(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_answer(body)


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_optional_text_may_say_nothing(nothing: str | None) -> None:
    assert read(email=nothing, session_id=nothing) == read()


@pytest.mark.parametrize(
    "field",
    [
        {"user_id": "x" * (MAX_NAME_BYTES + 1)},
        {"email": 7},
        {"session_id": ["s1"]},
        {"permissions": "admin"},
        {"permissions": {"admin": True}},
        {"permissions": ["chat", 7]},
        {"permissions": ["p"] * (MAX_PERMISSIONS + 1)},
        {"expires_at": "1700000000"},
        {"expires_at": True},
        {"expires_at": -1},
        {"expires_at": 1e12},
        {"cache_seconds": "5"},
        {"cache_seconds": -0.5},
    ],
)
def test_a_field_of_another_type_or_size_is_not_the_contract(field: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer) as caught:
        read(**field)
    assert f"`{next(iter(field))}`" in str(caught.value)


def test_the_error_never_holds_the_content() -> None:
    with pytest.raises(BadAnswer) as caught:
        read(user_id="s3cret" * MAX_NAME_BYTES)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("depth", [*range(200, 1_100, 25), *range(950, 1_010)])
def test_nesting_near_the_interpreters_limit_is_no_surprise(depth: int) -> None:
    body = b'{"valid": false, "error": ' + b"[" * depth + b"]" * depth + b"}"
    try:
        answer = parse_answer(body)
    except BadAnswer:
        return
    assert answer == Invalid("")


def test_foreign_text_is_shown_in_at_most_200_plain_bytes() -> None:
    assert shown("plain") == "plain"
    assert shown("line\r\nbreak\x1b[31m\u202e") == "line\\r\\nbreak\\x1b[31m\\u202e"
    assert shown("\ud800") == "\\ud800"
    assert shown(None) == "None"
    assert len(shown("é" * 1_000)) == 200
    assert shown("é" * 1_000).isascii()


# Answers of another shape

SHAPE = Fields("ok", "user.id", "user.mail", "user.roles", "session", "until", "")


def test_an_answer_of_another_shape() -> None:
    body = {
        "ok": True,
        "user": {"id": 7, "mail": "a@b.c", "roles": "chat read"},
        "session": "s",
        "until": "2030-01-01T00:00:00Z",
    }
    found = parse_answer(json.dumps(body).encode(), SHAPE)
    assert found == Valid("7", "a@b.c", frozenset({"chat", "read"}), "s", 1893456000.0)
    assert parse_answer(b'{"ok": false, "error": "gone"}', SHAPE) == Invalid("gone")


@pytest.mark.parametrize(
    "body",
    [
        {"user": {"id": 7}},
        {"ok": "true", "user": {"id": 7}},
        {"ok": 1, "user": {"id": 7}},
        {"ok": True},
        {"ok": True, "user": {"id": None}},
        {"ok": True, "user": {"id": True}},
        {"ok": True, "user": {"id": 1.5}},
        {"ok": True, "user": {"id": ""}},
        {"ok": True, "user": {"id": 7}, "until": "tomorrow"},
        {"ok": True, "user": {"id": 7}, "until": "2030-01-01T00:00:00"},
        {"ok": True, "user": {"id": 7, "roles": 5}},
        {"valid": True, "user_id": "7"},
    ],
)
def test_what_does_not_fit_the_shape_is_neither_yes_nor_no(body: dict[str, object]) -> None:
    with pytest.raises(BadAnswer):
        parse_answer(json.dumps(body).encode(), SHAPE)


def test_where_every_200_is_a_yes_it_must_still_name_somebody() -> None:
    fields = Fields(valid="")
    assert parse_answer(b'{"user_id": "ada"}', fields) == Valid("ada")
    with pytest.raises(BadAnswer):
        parse_answer(b"{}", fields)


def test_introspection() -> None:
    body = b'{"active": true, "sub": "ada", "scope": "chat read", "exp": 1893456000, "sid": "s"}'
    assert parse_answer(body, INTROSPECTION) == Valid("ada", None, frozenset({"chat", "read"}), "s", 1893456000.0)
    assert parse_answer(b'{"active": false}', INTROSPECTION) == Invalid()
