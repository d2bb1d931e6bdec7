"""`doorward token`: an access token for a user, from the auth service."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from doorward.adapters.dns import AresDnsClient
from doorward.adapters.http_status import failure_of, retry_after_seconds
from doorward.adapters.transport import HttpAnswer, HttpTransport, tls_context
from doorward.asgi.policies import phase_caps
from doorward.cli.e2e_token import print_test_token
from doorward.cli.output import AsJson, ConfigFile, ask_password, password_from_stdin, print_json
from doorward.cli.process import run_process
from doorward.cli.process_age import process_age
from doorward.config import Settings
from doorward.core.deadline import Deadline
from doorward.errors import BackendError, BadAnswer, CredentialError, LimitError, StoreError, UsageError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.clock import SystemClock
from doorward.runtime.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

TOTAL_SECONDS = 4.2
"""For everything but the typing, the start of Python included; closing what is open comes on top."""

CODE_SECONDS = 30.0
CLOSE_SECONDS = 0.2
LOGIN_PATH = "/auth/login"


class _Answer(msgspec.Struct, frozen=True):
    access_token: str


def token(
    email: Annotated[str | None, typer.Option(help="Whose token.")] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="Take the password from the first line of stdin instead of asking for it."
        ),
    ] = False,
    local: Annotated[
        bool,
        typer.Option("--local", help="Without a password: authd's database is on this host, and you may read it."),
    ] = False,
    e2e: Annotated[
        bool, typer.Option("--e2e", help="A test token instead: good once, in an outage, outside production.")
    ] = False,
    name: Annotated[str, typer.Option("--as", help="With --e2e: the name of the test user.")] = "tester",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Get an access token for a user, and print it and nothing else.

    It signs in at `doorward authd` (DOORWARD_AUTH__URL) and asks for the password on the terminal:

        TOKEN=$(doorward token --email ada@example.com)

    In a script, or without a password on the host of the auth service:

        doorward token --email ada@example.com --password-stdin < password.txt
        doorward token --email ada@example.com --local

    To test degraded mode, with the settings of the door, while the auth service is down, a token that is good for one connection:

        doorward token --e2e --as tester-1

    With --json the whole answer, refresh token included. Answers within five seconds. Exit codes: 0 a token; 1 refused, or the auth
    service could not be asked; 2 the settings or the call cannot work.
    """
    seconds = TOTAL_SECONDS - process_age()
    settings = Settings.load(config)
    if e2e:
        if email is not None or local or password_stdin:
            raise UsageError("--e2e makes a test user's token; leave --email, --local and --password-stdin out")
        print_test_token(settings, name, as_json=as_json)
        return
    if email is None:
        raise UsageError("--email is missing: whose token?")
    url = settings.auth.base_url
    if local and password_stdin:
        raise UsageError("--local needs no password; leave --password-stdin out")
    password = None
    if not local:
        password = password_from_stdin() if password_stdin else ask_password(f"Password of {email} at {url}")

    async def main() -> int:
        answer = await _within_bound(_sign_in(settings, email, password, seconds), url, seconds)
        if as_json:
            print_json(answer)
        else:
            print(answer["access_token"], flush=True)
        return 0

    sys.exit(run_process(main))


async def _within_bound(work: Coroutine[Any, Any, dict[str, Any]], url: str, seconds: float) -> dict[str, Any]:
    clock, reaper = SystemClock(), Reaper()
    deadline = Deadline.after(clock.monotonic(), seconds)
    try:
        return await bounded(work, deadline, clock=clock, reaper=reaper)
    except StoreError:
        raise
    except BackendError as error:
        raise BackendError(
            f"could not ask the auth service at {url}: {error}. Run `doorward doctor` to see why"
        ) from error
    finally:
        await reaper.aclose(seconds=CLOSE_SECONDS)


async def _sign_in(settings: Settings, email: str, password: str | None, seconds: float) -> dict[str, Any]:
    proof: Mapping[str, str]
    proof = (
        {"one_time_code": await _code(settings, email)} if password is None else {"email": email, "password": password}
    )
    return _read(await _post(settings, proof, seconds))


async def _code(settings: Settings, email: str) -> str:
    """A one-time code out of authd's own database.

    Raises:
        UsageError: there is no database of authd here, or no such user in it.
    """
    from doorward.authd.admin import issue_one_time_code

    _check_database(settings)
    return await issue_one_time_code(settings, email, life_seconds=CODE_SECONDS)


def _check_database(settings: Settings) -> None:
    """Opening it would make it."""
    from doorward.authd.store import database_url

    url = database_url(settings)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise UsageError(
            f"--local: there is no database of authd at {url.database}; check data_dir, or leave --local out"
        )


async def _post(settings: Settings, proof: Mapping[str, str], seconds: float) -> HttpAnswer:
    auth, clock = settings.auth, SystemClock()
    deadline = Deadline.after(asyncio.get_running_loop().time(), seconds)
    dns = AresDnsClient(auth.dns_servers)
    resolver = Resolver(dns, clock, tls=urlsplit(auth.base_url).scheme == "https")
    transport = HttpTransport(resolver, limit=1, tls=await tls_context(auth.ca_file))
    try:
        return await transport.request(
            "POST",
            auth.base_url + LOGIN_PATH,
            headers={"Accept": "application/json", "Content-Type": "application/json"},
            body=msgspec.json.encode(proof),
            deadline=deadline,
            caps=phase_caps(settings),
        )
    finally:
        await transport.aclose()
        await resolver.aclose()
        await dns.aclose()


def _read(answer: HttpAnswer) -> dict[str, Any]:
    """Cases: signed in; refused; told to wait; no such endpoint; anything else could not be asked.

    Raises:
        CredentialError: e-mail and password, or the code, are not good.
        LimitError: too many attempts.
        BackendError: not the contract.
    """
    if answer.status == 200:
        return _signed_in(answer.body)
    if answer.status == 401:
        raise CredentialError("the auth service does not accept this e-mail address and password")
    if answer.status == 429:
        seconds = retry_after_seconds(answer, SystemClock().wall) or 1.0
        raise LimitError(f"too many attempts to sign in; the auth service asks to wait {seconds:g} s")
    if answer.status == 404:
        raise BadAnswer(f"it has no {LOGIN_PATH}; this command signs in at `doorward authd`")
    raise failure_of(answer, SystemClock().wall)


def _signed_in(body: bytes) -> dict[str, Any]:
    try:
        msgspec.json.decode(body, type=_Answer)
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BadAnswer("its answer holds no access token") from None
    assert isinstance(content, dict)  # noqa: S101 - it was just read as one
    return content
