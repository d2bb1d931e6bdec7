"""`doorward token`: the token and nothing else on stdout; "wrong password" and "could not ask" told apart."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cli_support import PATIENCE_SECONDS, Running, assert_in_time, authd_serving, doorward, environment

from doorward.testing import FakeAuthService, Fault, FaultProxy

EMAIL = "ada@example.com"
PASSWORD = "correct horse battery"
LIMIT_SECONDS = 5.0


@pytest.fixture
async def authd(tmp_path: Path) -> AsyncIterator[Running]:
    made = await doorward("authd", "init", "--email", EMAIL, "--password-stdin", cwd=tmp_path, stdin=f"{PASSWORD}\n")
    assert made.code == 0
    async with authd_serving(cwd=tmp_path) as running:
        yield running


async def test_a_token_and_nothing_else(authd: Running, tmp_path: Path) -> None:
    outcome = await doorward(
        "token", "--email", EMAIL, "--password-stdin", cwd=tmp_path, stdin=f"{PASSWORD}\n", auth__url=authd.url
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out.strip().split(".")) == 3
    assert outcome.out.count("\n") == 1


async def test_the_whole_answer_as_json(authd: Running, tmp_path: Path) -> None:
    outcome = await doorward(
        "token", "--email", EMAIL, "--password-stdin", "--json", cwd=tmp_path, stdin=PASSWORD, auth__url=authd.url
    )
    assert outcome.code == 0
    assert outcome.json["user"]["email"] == EMAIL
    assert outcome.json["refresh_token"]


async def test_without_a_password_on_the_host_of_authd(authd: Running, tmp_path: Path) -> None:
    outcome = await doorward("token", "--email", EMAIL, "--local", "--json", cwd=tmp_path, auth__url=authd.url)
    assert outcome.code == 0
    assert outcome.json["user"]["email"] == EMAIL


async def test_local_without_a_database_makes_none(authd: Running, tmp_path: Path) -> None:
    outcome = await doorward(
        "token", "--email", EMAIL, "--local", cwd=tmp_path, auth__url=authd.url, data_dir="elsewhere"
    )
    assert outcome.code == 2
    assert "there is no database of authd at elsewhere/authd/authd.sqlite3" in outcome.said
    assert not (tmp_path / "elsewhere").exists()


async def test_local_knows_no_strangers(authd: Running, tmp_path: Path) -> None:
    outcome = await doorward("token", "--email", "eve@example.com", "--local", cwd=tmp_path, auth__url=authd.url)
    assert outcome.code == 2
    assert "there is no user eve@example.com" in outcome.said


async def test_a_wrong_password(authd: Running, tmp_path: Path) -> None:
    outcome = await doorward(
        "token", "--email", EMAIL, "--password-stdin", cwd=tmp_path, stdin="a wrong one\n", auth__url=authd.url
    )
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.said == "doorward: the auth service does not accept this e-mail address and password"


async def test_too_many_attempts(authd: Running, tmp_path: Path) -> None:
    fault = Fault.status(429, b'{"error": "too_many_attempts"}', {"Retry-After": "9"})
    async with FaultProxy("127.0.0.1", int(authd.url.rpartition(":")[2]), fault=fault) as proxy:
        outcome = await doorward(
            "token", "--email", EMAIL, "--password-stdin", cwd=tmp_path, stdin=PASSWORD, auth__url=proxy.url
        )
    assert outcome.code == 1
    assert "asks to wait 9 s" in outcome.said


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.REFUSE, "no connection"),
        (Fault.BLACK_HOLE, "too slow (connect)"),
        (Fault.SILENCE, "no answer before the deadline"),
        (Fault.DRIP, "no answer before the deadline"),
        (Fault.status(500), "answered 500"),
        (Fault.body(b'{"token": "x"}'), "its answer holds no access token"),
        (Fault.status(401, b'{"error": "invalid_credentials"}'), None),
    ],
    ids=str,
)
async def test_no_is_told_from_could_not_ask(tmp_path: Path, fault: Fault, words: str | None) -> None:
    async with FakeAuthService() as service, FaultProxy(service.host, service.port, fault=fault) as proxy:
        outcome = await doorward(
            "token", "--email", EMAIL, "--password-stdin", cwd=tmp_path, stdin=PASSWORD, auth__url=proxy.url
        )
    assert (outcome.code, outcome.out) == (1, "")
    await assert_in_time(outcome, LIMIT_SECONDS, tmp_path)
    assert PASSWORD not in outcome.err
    if words is None:
        assert "does not accept" in outcome.said
        assert "doctor" not in outcome.said
    else:
        assert "could not ask the auth service" in outcome.said
        assert words in outcome.said
        assert outcome.said.endswith("Run `doorward doctor` to see why")


async def test_another_auth_service_has_no_sign_in(tmp_path: Path) -> None:
    async with FakeAuthService() as service:
        outcome = await doorward(
            "token", "--email", EMAIL, "--password-stdin", cwd=tmp_path, stdin=PASSWORD, auth__url=service.url
        )
    assert outcome.code == 1
    assert "it has no /auth/login; this command signs in at `doorward authd`" in outcome.said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "there is no terminal to ask for the password"),
        (("--password-stdin",), "the first line of stdin is empty"),
        (("--password-stdin", "--local"), "--local needs no password"),
    ],
    ids=["terminal", "empty", "both"],
)
async def test_calls_that_cannot_work(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    outcome = await doorward("token", "--email", EMAIL, *arguments, cwd=tmp_path, auth__url="http://127.0.0.1:1")
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.said


async def test_the_password_is_asked_for_on_the_terminal(authd: Running, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "doorward", "token", "--email", EMAIL,
            cwd=tmp_path,
            env=environment({"auth__url": authd.url}),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        prompt = await asyncio.wait_for(process.stderr.readuntil(b": "), PATIENCE_SECONDS)
        os.write(ours, PASSWORD.encode() + b"\n")
        out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    finally:
        os.close(ours)
        os.close(theirs)
    assert prompt.decode().endswith(f"Password of {EMAIL} at {authd.url}: ")
    assert process.returncode == 0
    assert len(out.decode().strip().split(".")) == 3
