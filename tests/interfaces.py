"""`python -m tests.interfaces --seconds 300`: schemathesis against `doorward authd` and `doorward serve`, as processes.

It signs in as anybody does and asks what their OpenAPI documents allow, and what they forbid. Exit status 1, and what
schemathesis says, if one of the two answers with a 500, other than its document says, or without a credential; if it takes
what the document forbids, or refuses what it allows; or if an operation was never done with success. What each was answered
stands at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.chat_product import EMAIL, ISSUER, PASSWORD, Server, start

from doorward.authd import openapi as authd_openapi
from doorward.chat import api as chat_api
from doorward.client import Client, FixedToken

Operation = authd_openapi.Operation | chat_api.Operation

SECRET = "s3cret-of-the-door"
SPARE_SECONDS = 120.0
"""What the tool may need besides the time that it is given."""

ASK_SECONDS = 20.0

CONFIG = f"""
request-timeout = 30.0

[auth.dynamic.openapi.bearer]
path = "/auth/login"
payload = {{ email = "{EMAIL}", password = "{PASSWORD}" }}
extract_selector = "/access_token"

[dictionaries]
emails = {{ values = ["{EMAIL}"] }}
passwords = {{ values = ["{PASSWORD}"] }}
waits = {{ values = [0, 0.01] }}
"""
"""Ends in the table of dictionaries, which each of the two may go on with."""

AUTHD_CONFIG = f"""
[auth.openapi.service]
username = "doorward"
password = "{SECRET}"

[[operations]]
include-operation-id = "login"
[operations.parameters]
"body.email" = {{ dictionary = "emails", probability = 0.8 }}
"body.password" = {{ dictionary = "passwords", probability = 0.8 }}

# RFC 6749, section 5.2: a refresh token that is not good is a 400.
[[operations]]
include-operation-id = "refresh"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 503]

# OpenAPI cannot say that two parameters go together.
[[operations]]
include-operation-id = "revocations"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 410, 503]
[operations.parameters]
"query.wait" = {{ dictionary = "waits", probability = 0.9 }}
"""

Answers = dict[str, Counter[int]]


@dataclass(frozen=True)
class Held:
    """What came of one document. `answers`: how often each status came, by method and path as in the document."""

    exit_code: int
    said: str
    answers: Answers

    def never_done(self, operations: Iterable[Operation]) -> list[str]:
        """Those of them that never ended with success."""
        names = [f"{operation.method} {operation.path}" for operation in operations]
        return [name for name in names if not any(200 <= status < 300 for status in self.answers.get(name, ()))]


@contextmanager
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """authd and the chat with its door before it. Neither slows a guesser down here, nor gives up on a machine that is busy."""
    both = {"auth__service_secret": SECRET, "auth__issuer": ISSUER, "auth__typ": "at+jwt", "environment": "development"}
    patient = dict.fromkeys(("authd__login_address_burst", "authd__login_account_burst"), "1000000")
    with ExitStack() as stack:
        authd = start(
            folder,
            "authd", "serve",
            authd__admin_email=EMAIL,
            authd__admin_password=PASSWORD,
            authd__allow_register="true",
            authd__store_seconds="20",
            **both,
            **patient,
        )  # fmt: skip
        stack.callback(authd.kill)
        chat = start(
            folder,
            "serve",
            auth__url=authd.url,
            chat__agent="tests.chat_scripted:AGENT",
            deadline_seconds="20",
            caps__read_seconds="10",
            **both,
        )
        stack.callback(chat.kill)
        yield authd, chat


class Run:
    """schemathesis on one document, as a process that goes on by itself."""

    def __init__(self, document: str, folder: Path, *options: str, config: str = "") -> None:
        folder.mkdir()
        self._events = folder / "events.ndjson"
        (folder / "schemathesis.toml").write_text(CONFIG + config)
        self._process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "--config-file=schemathesis.toml",
                "run",
                document,
                "--checks=all",
                "--continue-on-failure",
                "--no-color",
                "--generation-database=none",
                f"--report-ndjson-path={self._events}",
                *options,
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def held(self, seconds: float) -> Held:
        """Waits for the end, so long at most."""
        said, _ = self._process.communicate(timeout=seconds)
        return Held(self._process.returncode, said, _answers(self._events))


def authd_run(authd: Server, folder: Path, *options: str) -> Run:
    """The session that signs out is not the one that the others use."""
    config = f"""{AUTHD_CONFIG}
[[operations]]
include-operation-id = "logout"
headers = {{ Authorization = "Bearer {_access_token(authd)}" }}
"""
    return Run(f"{authd.url}/auth/openapi.json", folder / "authd-run", *options, config=config)


def chat_run(chat: Server, folder: Path, *options: str) -> Run:
    """There is one thread with a run in it already."""
    thread_id = asyncio.run(_ask(chat.url, _access_token(chat)))
    config = f"""
threads = {{ values = ["{thread_id}"] }}

[[operations]]
include-operation-id = ["listMessages", "listRuns"]
[operations.parameters]
"path.thread_id" = {{ dictionary = "threads", probability = 0.5 }}
"""
    return Run(f"{chat.url}/api/openapi.json", folder / "chat-run", *options, config=config)


async def _ask(url: str, token: str) -> str:
    """The thread in which it was asked and answered."""
    async with asyncio.timeout(ASK_SECONDS), Client(url, FixedToken(token)) as client:
        thread = await client.threads.create()
        async for _ in client.ask(thread.thread_id, "what is the weather?"):
            pass
        return thread.thread_id


def _access_token(server: Server) -> str:
    """`serve` passes a sign-in on to authd."""
    content = json.dumps({"email": EMAIL, "password": PASSWORD}).encode()
    request = urllib.request.Request(f"{server.url}/auth/login", content, method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        token: str = json.load(answer)["access_token"]
        return token


def _answers(events: Path) -> Answers:
    answers: Answers = {}
    with events.open(encoding="utf-8") as lines:
        for line in lines:
            ((kind, event),) = json.loads(line).items()
            if kind == "ScenarioFinished":
                _count(event["recorder"], answers)
    return answers


def _count(recorder: Any, answers: Answers) -> None:
    for name, case in recorder.get("cases", {}).items():
        response = recorder["interactions"].get(name, {}).get("response")
        if response:
            asked = case["value"]
            seen = answers.setdefault(f"{asked['method']} {asked['path']}", Counter())
            seen[response["status_code"]] += 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interfaces", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long, both at once")
    seconds = parser.parse_args().seconds
    failed = False
    with (
        tempfile.TemporaryDirectory() as temporary,
        servers(Path(temporary)) as (authd, chat),
        authd_run(authd, Path(temporary), f"--max-time={seconds}") as of_authd,
        chat_run(chat, Path(temporary), f"--max-time={seconds}") as of_chat,
    ):
        for run, operations in ((of_authd, authd_openapi.OPERATIONS), (of_chat, chat_api.OPERATIONS)):
            held = run.held(seconds + SPARE_SECONDS)
            never_done = held.never_done(operations)
            failed |= held.exit_code != 0 or bool(never_done)
            print(held.said)
            for operation, seen in sorted(held.answers.items()):
                print(f"{operation:<45}", *(f"{status}: {count}" for status, count in sorted(seen.items())))
            print(f"never done: {', '.join(never_done) or 'none'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
