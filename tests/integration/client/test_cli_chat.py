"""`doorward chat`: on a terminal, with somebody who types; and in scripts, with pipes."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.chat_product import EMAIL, PASSWORD, Paths, Product
from tests.cli_support import Outcome, doorward, environment
from tests.integration.test_up import free_port
from tests.terminal import CTRL_C, CTRL_D, Terminal, terminal

from doorward.authd.admin import issue_one_time_code
from doorward.client import Client, FileStore, MemoryStore, Session
from doorward.config import Settings
from doorward.testing import Fault

BOUND_SECONDS = 40.0
PROMPT = r"\n> $"
AS_ADA = {"client__email": EMAIL, "client__password": PASSWORD}
SLOW = "pace=0.05 | "
FOR_EVER = "pace=0.01 hold=4 | "
"""Thinks, and never comes to the end of it."""


async def chat(ways: Paths, cwd: Path, *arguments: str, stdin: str = "", **settings: str) -> Outcome:
    return await doorward("chat", ways.url, *arguments, cwd=cwd, stdin=stdin, **{**AS_ADA, **settings})


def session_file(folder: Path) -> Path:
    return next((folder / ".doorward").glob("session-127.0.0.1-*.json"))


def assert_no_token(shown: str, folder: Path) -> None:
    tokens = json.loads(session_file(folder).read_bytes())
    for name in ("access_token", "refresh_token"):
        assert tokens[name] not in shown
    assert PASSWORD not in shown


@asynccontextmanager
async def signed_in(ways: Paths, folder: Path) -> AsyncIterator[Session]:
    """With the session of which the command will find the file."""
    file = folder / ".doorward" / f"session-127.0.0.1-{ways.to_serve.port}.json"
    async with Session(ways.url, store=FileStore(file)) as session:
        await session.sign_in(email=EMAIL, password=PASSWORD)
        yield session


async def asked(shown: Terminal, question: str) -> None:
    shown.enter(question)
    await shown.expect("thought: What was said")
    await shown.expect("used remember")


# On a terminal


async def test_somebody_signs_in_asks_reads_and_leaves(ways: Paths, tmp_path: Path) -> None:
    async with terminal("chat", ways.url, "--new", cwd=tmp_path) as shown:
        await shown.expect(f"Sign in at {ways.url}:")
        await shown.expect("E-mail: ")
        shown.enter(EMAIL)
        await shown.expect("Password: ")
        shown.enter("not the password")
        await shown.expect("does not accept this e-mail address and password")
        await shown.expect("E-mail: ")
        shown.enter(EMAIL)
        await shown.expect("Password: ")
        shown.enter(PASSWORD)
        await shown.expect(f"Signed in as {EMAIL}")
        await shown.expect(PROMPT)
        await asked(shown, "pace=0.01 | hello **there**")
        await shown.expect(r"\nhello there\n")
        await shown.expect(PROMPT)
        shown.enter("/rename Words of greeting")
        await shown.expect("is called 'Words of greeting' now")
        shown.enter("/threads")
        await shown.expect("1 .* Words of greeting")
        await shown.expect("Number to go on with")
        shown.enter("1")
        await shown.expect(PROMPT)
        shown.enter("/delete")
        await shown.expect(r"\[y/N\] ")
        shown.enter("y")
        await shown.expect("A new conversation")
        await shown.expect(PROMPT)
        shown.type(CTRL_D)
        assert await shown.ended() == 0
        assert_no_token(shown.text, tmp_path)
    assert stat.S_IMODE(session_file(tmp_path).stat().st_mode) == 0o600


async def test_ctrl_c_stops_an_answer_and_a_second_one_leaves(ways: Paths, tmp_path: Path) -> None:
    async with terminal("chat", ways.url, "--new", cwd=tmp_path, settings=AS_ADA) as shown:
        await shown.expect(PROMPT)
        shown.enter(FOR_EVER + "words")
        await shown.expect("thinking")
        shown.type(CTRL_C)
        await shown.expect("stopped")
        await shown.expect(PROMPT)
        shown.enter(FOR_EVER + "words")
        await shown.expect("thinking")
        ways.to_serve.fault = Fault.SILENCE
        shown.type(CTRL_C)
        await shown.expect("stopping; Ctrl-C again leaves")
        shown.type(CTRL_C)
        assert await shown.ended() == 0


async def test_an_answer_goes_on_where_it_was_when_the_server_is_back(ways: Paths, tmp_path: Path) -> None:
    async with terminal("chat", ways.url, "--new", cwd=tmp_path, settings=AS_ADA) as shown:
        await shown.expect(PROMPT)
        shown.enter(SLOW + "an answer of a few words")
        await shown.expect("used listen")
        ways.to_serve.fault = Fault.REFUSE
        await shown.expect(r"The server cannot be reached \(connection refused\)\. You are still signed in\.")
        ways.to_serve.fault = Fault.NONE
        await shown.expect("Connected again")
        await shown.expect(r"\nan answer of a few words\n")
        await shown.expect(PROMPT)
        assert shown.text.count("used listen\n") + shown.text.count('used listen {"to":"you"}\n') == 1
        shown.type("half a line")
        await shown.expect("half a line")
        ways.to_serve.fault = Fault.REFUSE
        await shown.expect("It is tried again until it works")
        await shown.expect("> half a line$")
        ways.to_serve.fault = Fault.NONE
        await shown.expect("Connected again")
        await shown.expect("> half a line$")


async def test_an_answer_that_somebody_else_waits_for_is_shown_too(ways: Paths, tmp_path: Path) -> None:
    """The laptop is closed in mid-answer; the terminal is opened, and the answer goes on, and can be stopped."""
    async with signed_in(ways, tmp_path) as session, Client(ways.url, session) as client:
        await client.start_run("elsewhere", "hold=19 | asked elsewhere")
        async with terminal("chat", ways.url, "--thread", "elsewhere", cwd=tmp_path) as shown:
            await shown.expect("> .*asked elsewhere")
            await shown.expect("used remember")
            await shown.expect(r"\nasked")
            shown.type(CTRL_C)
            await shown.expect("stopped")
            await shown.expect(PROMPT)
            shown.type("half a line")
            await shown.expect("half a line")
            await client.start_run("elsewhere", "asked while somebody types")
            await shown.expect("> asked while somebody types\n")
            await shown.expect("used remember")
            await shown.expect(r"\nasked while somebody types\n")
            await shown.expect("> half a line$")
            await client.threads.delete("elsewhere")
            await shown.expect("This conversation was deleted")
            await shown.expect("A new conversation")
            shown.enter(" that is finished now")
            await shown.expect(r"\nhalf a line that is finished now\n")
            await shown.expect(PROMPT)
            shown.type(CTRL_C)
            assert await shown.ended() == 0


async def test_who_is_revoked_signs_in_again(ways: Paths, tmp_path: Path) -> None:
    async with terminal("chat", ways.url, "--new", cwd=tmp_path, settings={"client__email": EMAIL}) as shown:
        await shown.expect("Password: ")
        shown.enter(PASSWORD)
        await shown.expect(PROMPT)
        copy = MemoryStore()
        await copy.save((await FileStore(session_file(tmp_path)).load()) or pytest.fail("no session"))
        async with Session(ways.url, store=copy) as elsewhere:
            assert await elsewhere.sign_out()
        await shown.expect("Press Enter to sign in again, or Ctrl-C to leave")
        shown.enter("")
        await shown.expect("Password: ")
        shown.enter(PASSWORD)
        await shown.expect("Signed in as")
        await shown.expect(PROMPT)


# In scripts


async def test_one_question_in_a_pipe(ways: Paths, tmp_path: Path) -> None:
    outcome = await chat(ways, tmp_path, "--ask", "pace=0.01 | hello there")
    assert (outcome.code, outcome.out) == (0, "hello there \n")
    assert '(uses listen {"to":"you"})' in outcome.said
    assert_no_token(outcome.out + outcome.err, tmp_path)
    outcome = await chat(ways, tmp_path, "--last", stdin="and from a pipe\n")
    assert (outcome.code, outcome.out) == (0, "and from a pipe \n")
    listed = await chat(ways, tmp_path, "--json", "--list")
    threads = [json.loads(line) for line in listed.out.splitlines()]
    assert threads[0]["title"].endswith("hello there")
    outcome = await chat(ways, tmp_path, "--json", "--thread", threads[0]["thread_id"], "--ask", "as JSON")
    envelopes = [json.loads(line) for line in outcome.out.splitlines()]
    assert envelopes[0]["event"]["type"] == "RUN_STARTED"
    assert envelopes[-1]["event"]["type"] == "RUN_FINISHED"
    assert {envelope["thread_id"] for envelope in envelopes} == {threads[0]["thread_id"]}
    for before, after in pairwise(envelopes):
        assert after["seq_from"] == before["seq"] + 1


async def test_one_question_over_a_cut_is_answered_whole(ways: Paths, tmp_path: Path) -> None:
    async with signed_in(ways, tmp_path):
        pass
    ways.to_serve.fault = Fault.RESET
    ways.to_serve.fault = Fault.NONE
    asking = asyncio.create_task(chat(ways, tmp_path, "--json", "--ask", SLOW + "an answer of a few words"))
    async with asyncio.timeout(BOUND_SECONDS):
        while not ways.to_serve.open_connections:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        for _ in range(6):
            await asyncio.sleep(0.4)
            ways.to_serve.fault = Fault.RESET
            ways.to_serve.fault = Fault.NONE
        outcome = await asking
    assert outcome.code == 0, outcome.err
    events = [json.loads(line)["event"] for line in outcome.out.splitlines()]
    answer = "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert answer == "an answer of a few words "


async def test_ctrl_c_in_a_script_stops_the_run(ways: Paths, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", "chat", ways.url, "--json", "--ask", FOR_EVER + "words",
        cwd=tmp_path,
        env=environment(AS_ADA),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(BOUND_SECONDS):
        lines: list[Any] = []
        while len(lines) < 5:
            lines.append(json.loads(await process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    last = json.loads(out.splitlines()[-1])["event"]
    assert (last["type"], last["outcome"]["type"]) == ("RUN_FINISHED", "cancelled")
    assert process.returncode == 130


async def test_a_sign_in_link_is_good_once_and_its_session_stays(running: Product, ways: Paths, tmp_path: Path) -> None:
    settings = Settings(data_dir=running.folder / ".doorward", environment="development")
    link = f"{ways.url}/#signin={await issue_one_time_code(settings, EMAIL)}"
    first = await doorward("chat", link, "--ask", "hello", cwd=tmp_path)
    assert (first.code, first.out) == (0, "hello \n")
    assert f"Signed in as {EMAIL}" in first.said
    again = await doorward("chat", link, "--ask", "hello", cwd=tmp_path)
    assert (again.code, again.out) == (0, "hello \n")
    assert f"used before; going on as {EMAIL}" in again.said
    out = await doorward("chat", ways.url, "--sign-out", cwd=tmp_path)
    assert (out.code, out.said) == (0, f"Signed out at {ways.url}.")


async def test_a_token_of_the_settings_needs_no_session(ways: Paths, tmp_path: Path) -> None:
    async with Session(ways.url) as session:
        await session.sign_in(email=EMAIL, password=PASSWORD)
        token = (await session.token()).value
    outcome = await doorward("chat", ways.url, "--ask", "hello", cwd=tmp_path, client__token=token)
    assert (outcome.code, outcome.out) == (0, "hello \n")
    assert not (tmp_path / ".doorward").exists()
    outcome = await doorward("chat", ways.url, "--ask", "hello", cwd=tmp_path, client__token="not.a.token")
    assert outcome.code == 1
    assert "client.token" in outcome.said
    assert "not.a.token" not in outcome.said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--ask", "x"],
            2,
            "nobody is signed in at http://127.0.0.1:1, and there is no terminal to ask; run `doorward chat",
        ),
        (["--ask", "x", "--email", "a@b.c", "--password-stdin"], 1, "no connection"),
        (["--password-stdin", "--ask", "x"], 2, "Add --email"),
    ],
)
async def test_what_cannot_work_names_the_mend(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    outcome = await doorward(
        "chat", "http://127.0.0.1:1", *arguments, cwd=tmp_path, stdin="secret\n" if "--email" in arguments else ""
    )
    assert outcome.code == code, outcome.err
    assert words in outcome.said
    assert "secret" not in outcome.said


async def test_an_address_without_a_chat_is_told_before_a_password_is_typed(tmp_path: Path) -> None:
    async with terminal("chat", f"http://127.0.0.1:{free_port()}", cwd=tmp_path) as shown:
        await shown.expect("no chat server answers at")
        await shown.expect("start one with `doorward up`")
        assert await shown.ended() == 1


async def test_a_conversation_that_is_not_there_is_not_made_by_a_slip(ways: Paths, tmp_path: Path) -> None:
    outcome = await chat(ways, tmp_path, "--thread", "no-such-one", "--ask", "x")
    assert outcome.code == 2
    assert "you have no conversation 'no-such-one'; --list shows them" in outcome.said
