"""`doorward authd`: run our own auth service, set it up, rotate its keys."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.adapters.logs import configure
from doorward.cli.output import AsJson, ConfigFile, password_from_stdin, print_json
from doorward.cli.process import run_process
from doorward.config import Settings

if TYPE_CHECKING:
    from doorward.authd.admin import Initialised, NewKey

STOP_SECONDS = 2.0
EXIT_SECONDS = 8.0

authd = typer.Typer(
    name="authd",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""The auth service that comes with Doorward: users, sign-in, tokens, revocation.

    Three steps to a running pair:

        (umask 077; set -C; doorward authd init --email ada@example.com > credential.env)
        doorward authd serve &
        . ./credential.env && doorward serve

    The file holds the first password, as a comment, and the credential of the door. Keep it, or delete it when both are noted.
    `set -C` keeps a second run from emptying it.
    """,
)


@authd.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = None,
    config: ConfigFile = None,
) -> None:
    """Serve the auth service, on port 8001 unless told otherwise.

    Accounts, sessions and signing keys are under `data_dir`; the first two in SQLite (PostgreSQL by
    DOORWARD_AUTHD__DATABASE_URL). `doorward authd init` makes a first admin and the credential of the doors. Prints
    one line when it is ready:

        doorward authd ready http://127.0.0.1:8001 pid=4242

    Its tokens say `iss` = DOORWARD_AUTHD__ISSUER, else DOORWARD_AUTH__ISSUER, else the address in that line; doors must expect the
    same. SIGTERM answers what is under way and exits within seconds.
    """
    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = Settings.load(config, **({"authd": given} if given else {}))
    writer = configure(level=settings.log_level, style=settings.log_format)
    try:
        sys.exit(run_process(lambda: _serve(settings), last=writer.aclose))
    finally:
        writer.aclose()


@authd.command()
def init(
    email: Annotated[str, typer.Option(help="Address of the first admin.")],
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Take the password from the first line of stdin; else one is made up."),
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Set up: the database, a signing key, a first admin, and the credential with which doors ask.

    Prints the made-up password and the credential, once; neither is kept in clear. The output is a shell script, so that it can be
    pasted or sourced. It is safe to run again: what is there stays, a password from stdin is set.

        doorward authd init --email ada@example.com
    """
    settings = Settings.load(config)
    password = password_from_stdin() if password_stdin else None

    async def main() -> int:
        from doorward.authd import admin

        made = await admin.init(settings, email, password)
        if as_json:
            print_json(_init_content(made, settings))
        else:
            print("\n".join(_init_script(made, settings, given=password is not None)), flush=True)
        return 0

    sys.exit(run_process(main))


@authd.command("rotate-keys")
def rotate_keys(
    now: Annotated[
        bool,
        typer.Option("--now", help="Sign with it at once; doors fetch it on first sight."),
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a new signing key, with overlap: nobody is signed out.

    A running service publishes the key within seconds, signs with it after ten minutes, and keeps the old one until the last token
    that it signed has expired.

        doorward authd rotate-keys
    """
    settings = Settings.load(config)

    async def main() -> int:
        from doorward.authd import admin

        key = await admin.rotate_keys(settings, now=now)
        if as_json:
            print_json({"kid": key.kid, "signs_from": key.signs_from})
        else:
            print(_rotation_sentence(key, time.time()), flush=True)
        return 0

    sys.exit(run_process(main))


async def _serve(settings: Settings) -> int:
    from doorward.asgi.opening import OpeningPolicy
    from doorward.authd.app import create_app, drain
    from doorward.cli.server import DrainHooks, DrainPolicy, bind, run_server

    own = settings.authd
    with contextlib.closing(
        bind(own.host, own.port, "authd")
    ) as listener:  # first, because the issuer may hold the port
        port = listener.getsockname()[1]
        app = create_app(settings, issuer=own.issuer or settings.auth.issuer or _own_url(settings, port))
        return await run_server(
            app,
            name="authd",
            host=own.host,
            port=port,
            opening=OpeningPolicy.of(settings),
            drain=DrainPolicy(0.0, 0.0, STOP_SECONDS, EXIT_SECONDS),
            hooks=DrainHooks(unready=lambda: drain(app)),
            listener=listener,
        )


def _own_url(settings: Settings, port: int) -> str:
    host = settings.authd.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _init_content(made: Initialised, settings: Settings) -> dict[str, Any]:
    user = made.admin.user
    return {
        "admin": {
            "user_id": user.user_id,
            "email": user.email,
            "permissions": sorted(user.permissions),
            "created": made.admin.created,
            "password": made.admin.password,
        },
        "service": {"url": _door_url(settings), "service_id": made.service_id, "service_secret": made.service_secret},
    }


def _init_script(made: Initialised, settings: Settings, *, given: bool) -> list[str]:
    """Lines of shell: comments for people, exports for the doors."""
    return [*_about_admin(made, given=given), *_about_credential(made, settings)]


def _about_admin(made: Initialised, *, given: bool) -> list[str]:
    who = f"# The admin {made.admin.user.email}"
    if made.admin.password is not None:
        return [f"{who} was made. The password, shown this once:", f"#     {made.admin.password}"]
    if made.admin.created:
        return [f"{who} was made, with the given password."]
    return [f"{who} is there already; the password {'is now the given one' if given else 'is unchanged'}."]


def _about_credential(made: Initialised, settings: Settings) -> list[str]:
    if made.service_secret is not None:
        url = _door_url(settings)
        lines = ["# The credential with which doors ask, shown this once. Set it where `doorward serve` runs:"]
        lines += [f"export DOORWARD_AUTH__URL={shlex.quote(url)}"] if url else []
        lines += [f"export DOORWARD_AUTH__SERVICE_ID={shlex.quote(made.service_id)}"]
        lines += [f"export DOORWARD_AUTH__SERVICE_SECRET={shlex.quote(made.service_secret)}"]
        return [*lines, "export DOORWARD_AUTH__TYP=at+jwt"]
    if settings.auth.service_secret is not None:
        return ["# Doors ask with auth.service_id and auth.service_secret as they are set here; none was made."]
    return [
        f"# The service {made.service_id} has a credential already, which is kept as a digest only. If it is lost, set another",
        "# DOORWARD_AUTH__SERVICE_ID and run this again.",
    ]


def _door_url(settings: Settings) -> str | None:
    """Where doors reach the service, as far as the settings say."""
    return settings.auth.url or (_own_url(settings, settings.authd.port) if settings.authd.port else None)


def _rotation_sentence(key: NewKey, wall_now: float) -> str:
    minutes = (key.signs_from - wall_now) / 60
    if minutes <= 0:
        return f"The new key {key.kid} signs from now on. The old one is published until its last token has expired."
    when = datetime.fromtimestamp(key.signs_from, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"The new key {key.kid} is published now and signs in {minutes:.0f} min, from {when} on."
