"""Ops tokens: who may make one, what it says, and everything that is not one."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import structlog

from doorward.errors import CredentialError
from doorward.ops.token import (
    KEY_BYTES,
    KEY_FILE,
    MAX_LIFE_SECONDS,
    PREFIX,
    Claims,
    _mac,
    issue,
    prepare_key,
    read_key,
    verify,
)

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
NOW = 1_700_000_000.0


def forged(claims: Claims, key: bytes = KEY) -> str:
    signed = PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=").decode()
    return f"{signed}.{_mac(key, signed)}"


def test_a_token_says_what_was_put_into_it() -> None:
    token, claims = issue(KEY, now=NOW, seconds=600)
    assert verify(KEY, token, now=NOW + 599) == claims
    assert claims.expires_at == NOW + 600


def test_no_token_lives_longer_than_an_hour() -> None:
    _, claims = issue(KEY, now=NOW, seconds=1e9)
    assert claims.expires_at == NOW + MAX_LIFE_SECONDS


def test_two_tokens_are_told_apart() -> None:
    assert issue(KEY, now=NOW, seconds=60)[1].id != issue(KEY, now=NOW, seconds=60)[1].id


def test_its_time_runs_out() -> None:
    token, _ = issue(KEY, now=NOW, seconds=600)
    with pytest.raises(CredentialError, match="run out"):
        verify(KEY, token, now=NOW + 600)


def test_another_key_makes_no_token_of_ours() -> None:
    token, _ = issue(OTHER, now=NOW, seconds=600)
    with pytest.raises(CredentialError, match="not of this door"):
        verify(KEY, token, now=NOW)


@pytest.mark.parametrize("position", [len(PREFIX), len(PREFIX) + 10, -1])
def test_a_changed_letter_voids_it(position: int) -> None:
    token, _ = issue(KEY, now=NOW, seconds=600)
    letters = list(token)
    letters[position] = "A" if letters[position] != "A" else "B"
    with pytest.raises(CredentialError):
        verify(KEY, "".join(letters), now=NOW)


@pytest.mark.parametrize("token", ["", ".", PREFIX, PREFIX + ".", PREFIX + "é.ü", PREFIX + "a" * 10_000 + ".b"])
def test_junk_is_no_token(token: str) -> None:
    with pytest.raises(CredentialError):
        verify(KEY, token, now=NOW)


@pytest.mark.parametrize(
    "claims",
    [Claims("x", NOW, NOW + MAX_LIFE_SECONDS + 1), Claims("x", NOW + 60, NOW + 120), Claims("x", -1e12, NOW + 60)],
)
def test_a_time_that_none_can_have_is_refused(claims: Claims) -> None:
    with pytest.raises(CredentialError, match="none can have"):
        verify(KEY, forged(claims), now=NOW)


def test_what_is_signed_but_cannot_be_read_is_refused() -> None:
    signed = PREFIX + "e30"
    with pytest.raises(CredentialError, match="cannot be read"):
        verify(KEY, f"{signed}.{_mac(KEY, signed)}", now=NOW)


def test_the_key_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    key = prepare_key(folder)
    assert key is not None
    assert len(key) == KEY_BYTES
    assert prepare_key(folder) == read_key(folder) == key
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_all_that_start_together_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(prepare_key, [tmp_path] * 32))
    assert len(keys) == 1
    assert None not in keys


def test_a_key_that_others_may_read_turns_ops_tokens_off(tmp_path: Path) -> None:
    prepare_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o644)
    with structlog.testing.capture_logs() as lines:
        assert prepare_key(tmp_path) is None
    assert "chmod 600" in lines[0]["reason"]


def test_half_a_key_is_none(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"short")
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(PermissionError, match="damaged"):
        read_key(tmp_path)


def test_a_link_to_a_key_is_not_followed(tmp_path: Path) -> None:
    prepare_key(tmp_path / "other")
    os.symlink(tmp_path / "other" / KEY_FILE, tmp_path / KEY_FILE)
    with pytest.raises(OSError, match="symbolic links"):
        read_key(tmp_path)
