"""The key of test tokens on disk: made once, private, and believed only if it can be."""

from __future__ import annotations

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from doorward.adapters.e2e_key import load_public_key, prepare_key, sign
from doorward.adapters.private_files import create_private
from doorward.core.e2e import E2ePolicy, E2eToken, claims, public_part, read
from doorward.errors import ConfigError, UsageError

NOW = 1_700_000_000.0
POLICY = E2ePolicy("here", "e2e", frozenset())


@pytest.fixture(name="path")
def a_path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "e2e.key"


async def test_what_one_process_signs_another_one_verifies(path: Path) -> None:
    token = sign(prepare_key(path), claims(POLICY, name="ada", jti="j", wall_now=NOW, seconds=60))
    key = await load_public_key(path)
    assert isinstance(read(token, POLICY, key, (), NOW), E2eToken)
    assert not key.material.is_private


async def test_a_door_makes_the_key_too(path: Path) -> None:
    key = await load_public_key(path)
    assert public_part(prepare_key(path)).kid == key.kid


def test_it_is_private_whatever_the_umask_and_nothing_else_is_left(path: Path) -> None:
    old = os.umask(0)
    try:
        prepare_key(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_of_many_who_come_together_all_have_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(prepare_key, [path] * 8))
    assert len({key.thumbprint() for key in keys}) == 1


def test_what_is_there_is_never_written_over(path: Path) -> None:
    create_private(path, b"first")
    create_private(path, b"second")
    assert path.read_bytes() == b"first"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", json.dumps(ECKey.generate_key("P-384").as_dict(private=True)).encode(), b"x" * 5000],
)
def test_what_is_no_key_stops_the_start_and_is_not_shown(content: bytes, path: Path) -> None:
    create_private(path, content)
    with pytest.raises(ConfigError, match="move it away") as caught:
        prepare_key(path)
    assert str(path) in str(caught.value)
    assert '"d"' not in str(caught.value)


async def test_a_key_that_others_may_read_is_not_believed(path: Path) -> None:
    prepare_key(path)
    os.chmod(path, 0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        await load_public_key(path)


def test_a_place_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"e2e\.key_file"):
        prepare_key(tmp_path / "file" / "e2e.key")


async def test_a_pipe_in_its_place_holds_up_nobody(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        await load_public_key(path)


async def test_a_disk_that_hangs_stops_the_start_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    monkeypatch.setattr("doorward.adapters.e2e_key.prepare_key", lambda _: hung.wait(10.0))
    with pytest.raises(ConfigError, match=r"no answer in 0\.05 s"):
        await load_public_key(path, bound_seconds=0.05)
    hung.set()


async def test_a_public_key_checks_and_signs_nothing(path: Path) -> None:
    secret = ECKey.generate_key("P-256")
    create_private(path, json.dumps(secret.as_dict(private=False)).encode())
    token = sign(secret, claims(POLICY, name="ada", jti="j", wall_now=NOW, seconds=60))
    assert isinstance(read(token, POLICY, await load_public_key(path), (), NOW), E2eToken)
    with pytest.raises(UsageError, match="public key"):
        sign(prepare_key(path), {})
