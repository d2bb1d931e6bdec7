"""`doorward chat`: the command line of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from doorward.cli.chat.choice import Start
from doorward.cli.chat.entrance import Wanted
from doorward.cli.chat.once import AsJson, AsText, Once, OnScreen, Output
from doorward.cli.chat.screen import Screen
from doorward.cli.chat.talk import Talk
from doorward.cli.output import ConfigFile, console, password_from_stdin
from doorward.cli.process import run_process
from doorward.config import Settings
from doorward.errors import UsageError

MAX_QUESTION_BYTES = 16 * 1024
"""The server takes no longer one."""


def chat(
    url: Annotated[
        str | None,
        typer.Argument(help="Address of the server, or a sign-in link; default: client.url.", show_default=False),
    ] = None,
    ask: Annotated[str | None, typer.Option("--ask", help="Ask this one question, print the answer, and end.")] = None,
    thread: Annotated[str | None, typer.Option("--thread", help="Go on with the conversation of this id.")] = None,
    last: Annotated[bool, typer.Option("--last", help="Go on with the conversation that was used last.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin a new conversation, and do not ask which.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="Print the conversations, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: one event of the answer a line, or one conversation a line.")
    ] = False,
    email: Annotated[str | None, typer.Option("--email", help="Sign in as this one.")] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="Take the password from the first line of stdin instead of asking for it."
        ),
    ] = False,
    sign_out: Annotated[bool, typer.Option("--sign-out", help="End the session, and end.")] = False,
    config: ConfigFile = None,
) -> None:
    """Chat in the terminal, with a server that `doorward up` or `doorward serve` has started.

    The first time it asks who you are; or give it the sign-in link that `doorward up` prints, in quotes:

        doorward chat
        doorward chat 'http://127.0.0.1:8000/#signin=...'
        doorward chat https://chat.example.com --last

    The session is kept in the data directory, for you alone. Answers come as they are written. Ctrl-C stops one, a second Ctrl-C
    leaves; what was asked goes on without you, and is there when you come back. When the connection breaks it says why, and goes
    on where it was. `/help` says what else can be typed.

    One question, in a script; the answer alone is on stdout:

        doorward chat --ask "How is the auth service?"
        git diff | doorward chat --last
        doorward chat --json --ask "How is the auth service?" | jq -r 'select(.event.delta) | .event.delta'
        doorward chat --email ada@example.com --password-stdin --ask "Who is connected?" < password.txt

    Exit codes: 0 answered; 1 no answer; 2 the call cannot work; 130 stopped by Ctrl-C.
    """
    settings = Settings.load(config)
    if password_stdin and email is None and settings.client.email is None:
        raise UsageError("--password-stdin: whose password? Add --email")
    if sum((thread is not None, last, new)) > 1:
        raise UsageError("--thread, --last and --new exclude each other; leave two of them out")
    password = password_from_stdin() if password_stdin else None
    wanted = Wanted(url or settings.client.url, email, password)
    start = Start(thread, is_new=new, is_last=last)
    errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
    once = Once(wanted, start, settings, errors=errors)

    async def main() -> int:
        if sign_out:
            return await once.sign_out()
        if list_them:
            return await once.list(as_json=as_json)
        question = _question(ask, password_was_piped=password_stdin)
        if question is not None:
            return await once.ask(question, _output(once, as_json=as_json))
        if as_json or not sys.stdout.isatty():
            raise UsageError("there is no terminal to chat in; ask one question with --ask, or pipe it in")
        return await Talk(wanted, start, settings, console()).run()

    sys.exit(run_process(main))


def _question(ask: str | None, *, password_was_piped: bool) -> str | None:
    """The one question: of the command line, or what is piped in. `None`: somebody is there to type."""
    if ask is not None:
        question = ask
    elif sys.stdin.isatty():
        return None
    elif password_was_piped:
        raise UsageError("--password-stdin takes stdin; give the question with --ask")
    else:
        question = sys.stdin.buffer.read(MAX_QUESTION_BYTES + 1).decode(errors="replace")
    if not question.strip():
        raise UsageError("the question is empty; write it behind --ask, or pipe it in")
    if len(question.encode()) > MAX_QUESTION_BYTES:
        raise UsageError(f"the question is longer than {MAX_QUESTION_BYTES} bytes; shorten it")
    return question.strip()


def _output(once: Once, *, as_json: bool) -> Output:
    if as_json:
        return AsJson()
    return OnScreen(Screen(console())) if sys.stdout.isatty() else AsText(once.tell)
