"""`doorward token --e2e`: a test token without asking anybody, where the settings allow it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli_support import assert_in_time, doorward

from doorward.adapters.e2e_key import prepare_key
from doorward.core.e2e import E2ePolicy, E2eToken, public_part, read
from doorward.runtime.clock import SystemClock

ON = {"environment": "staging", "e2e__enabled": "true", "e2e__audience": "here"}
LIMIT_SECONDS = 5.0


def token_of(text: str, data_dir: Path) -> E2eToken:
    policy = E2ePolicy("here", "e2e", frozenset({"chat"}))
    found = read(text, policy, public_part(prepare_key(data_dir / "e2e.key")), (), SystemClock().wall())
    assert isinstance(found, E2eToken), found
    return found


async def test_a_token_and_nothing_else_though_no_auth_service_is_there(tmp_path: Path) -> None:
    prepare_key(tmp_path / ".doorward" / "e2e.key")
    outcome = await doorward("token", "--e2e", cwd=tmp_path, **ON)
    assert outcome.code == 0
    assert outcome.out.count("\n") == 1
    assert token_of(outcome.out.strip(), tmp_path / ".doorward").principal.user_id == "e2e:tester"
    assert outcome.said == "Good once, for 10 min, at here, and only while the breaker is not closed."
    await assert_in_time(outcome, LIMIT_SECONDS, tmp_path)


async def test_each_is_another_one_and_names_its_user(tmp_path: Path) -> None:
    prepare_key(tmp_path / "data" / "e2e.key")
    said = [
        (await doorward("token", "--e2e", "--as", "eve", "--json", cwd=tmp_path, data_dir="data", **ON)).json
        for _ in range(2)
    ]
    found = [token_of(each["token"], tmp_path / "data") for each in said]
    assert found[0].jti != found[1].jti
    for token, each in zip(found, said, strict=True):
        assert (each["jti"], each["user_id"], each["expires_at"]) == (token.jti, "e2e:eve", token.expires_at)


async def test_it_says_when_the_door_cannot_know_the_key(tmp_path: Path) -> None:
    key_file = tmp_path / "keys" / "mine"
    first, second = [await doorward("token", "--e2e", cwd=tmp_path, e2e__key_file=str(key_file), **ON) for _ in "12"]
    assert (first.code, second.code) == (0, 0)
    assert f"Makes a new key, {key_file}" in first.said
    assert "Makes a new key" not in second.said


async def test_a_public_key_makes_no_token(tmp_path: Path) -> None:
    path = tmp_path / ".doorward" / "e2e.key"
    path.write_text(json.dumps(prepare_key(path).as_dict(private=False)))
    outcome = await doorward("token", "--e2e", cwd=tmp_path, **ON)
    assert (outcome.code, outcome.out) == (2, "")
    assert "make the token where the private one is" in outcome.said


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        ((), {}, "E2E test tokens are off"),
        ((), {"e2e__enabled": "true", "e2e__audience": "here"}, "production takes no test tokens"),
        ((), {"environment": "development", "e2e__enabled": "true"}, "e2e.audience is not set"),
        (("--as", "a b"), ON, "--as takes a plain name"),
        (("--as", "e2e:root"), ON, "--as takes a plain name"),
        (("--email", "ada@example.com"), ON, "leave --email, --local and --password-stdin out"),
        (("--local",), ON, "leave --email, --local and --password-stdin out"),
    ],
)
async def test_what_makes_no_token(
    arguments: tuple[str, ...], settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    outcome = await doorward("token", "--e2e", *arguments, cwd=tmp_path, **settings)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.said
    assert not (tmp_path / ".doorward").exists()


async def test_without_it_the_address_is_needed_as_ever(tmp_path: Path) -> None:
    outcome = await doorward("token", cwd=tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert "--email is missing" in outcome.said


async def test_check_config_says_what_it_means(tmp_path: Path) -> None:
    door = {"auth__url": "https://auth.test", "auth__service_secret": "made-up", "auth__typ": "at+jwt"}
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **door, **ON)
    [warning] = outcome.json["warnings"]
    assert warning.startswith("e2e.enabled is on")
    outcome = await doorward("check-config", "--json", cwd=tmp_path, **door, **ON, verify="local")
    assert any("no test token ever counts" in warning for warning in outcome.json["warnings"])
