"""`doorward up`: the whole product in one command, on embedded defaults."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from doorward.adapters.logs import configure
from doorward.authd.admin import MadeUser, ensure_user, issue_one_time_code
from doorward.cli.agent import in_words, problem_of
from doorward.cli.process import run_process
from doorward.cli.serve import assemble, run
from doorward.cli.server import bind
from doorward.cli.tracing import traces
from doorward.config import Environment, Settings, child_environment
from doorward.errors import ConfigError
from doorward.ops.faults import FaultPanel
from doorward.runtime.clock import SystemClock
from doorward.runtime.log import get_logger
from doorward.testing import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADMIN = "admin@doorward.local"
READY_SECONDS = 30.0
STOP_SECONDS = 5.0
RESTART_SECONDS = 3.0
DOCTOR_FILE = "doctor.toml"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)

log = get_logger("doorward")


class AuthProcess:
    """`doorward authd serve` as a process of its own, so that it can be frozen and killed without touching the door.

    It takes a free port at each start; `on_ready` is told which. The address that others know is that of the proxy before it.
    """

    def __init__(self, settings: Settings, secret: str, issuer: str, log_file: Path) -> None:
        self.pid = 0
        self.on_ready: Callable[[int], None] = lambda _port: None
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._environment = child_environment(
            {
                "environment": Environment.DEVELOPMENT.value,
                "data_dir": str(settings.data_dir.absolute()),
                "auth.service_id": settings.auth.service_id,
                "auth.service_secret": secret,
                "auth.audience": ",".join(settings.auth.audience),
                "authd.issuer": issuer,
                "authd.allow_register": "true",
                "trusted_proxies": "127.0.0.0/8,::1/128",
                "log_format": "json",
            }
        )

    async def start(self) -> None:
        """Start it and wait for its ready line, at most half a minute.

        Raises:
            ConfigError: it did not start, and is killed; its own words are in the text.
            OSError: the system has no room for it, or for its log.

        Cancellation: the process is killed with the parent, or by `stop`.
        """
        with open(self._log_file, "ab", opener=_private) as errors:  # noqa: ASYNC230 - opener; before anybody is served
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "doorward", "authd", "serve", "--host", "127.0.0.1", "--port", "0",
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # it is ended by us, not by a signal to all of us at once
                preexec_fn=_die_with_parent,  # one prctl call and nothing else
            )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = b""
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS)
        port = re.search(rb" ready http://127\.0\.0\.1:(\d+) ", line)
        if port is None:
            await _killed(self._process)
            raise ConfigError(f"the auth service did not start: {self._last_words()} (see {self._log_file})")
        self.pid = self._process.pid
        self.on_ready(int(port[1]))

    async def watch(self) -> None:
        """Start it again a few seconds after it died, and as often as that takes."""
        while self._process is not None:
            code = await self._process.wait()
            if self._stopping:
                return
            log.warning("the auth service ended", code=code, restart_in_seconds=RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self.start()
            except (ConfigError, OSError) as error:
                log.error("the auth service did not start again", error=str(error))
            else:
                log.warning("the auth service is back", pid=self.pid)

    async def stop(self) -> None:
        """End it, frozen or not, within a bound."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        for number in (signal.SIGCONT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            await _killed(process)

    def _last_words(self) -> str:
        lines = self._log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


async def _killed(process: asyncio.subprocess.Process) -> None:
    """One that the kernel does not let go of is left to it."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_SECONDS)


def up(
    host: Annotated[str, typer.Option(help="Address of the page and of /ws.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of the page and of /ws; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    auth_port: Annotated[int, typer.Option(help="Port of the auth service.", min=1, max=65535)] = 8001,
    agent: Annotated[
        str | None, typer.Option(help="Who answers: warden, pydantic-ai, http, or module:name of an agent of yours.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model as pydantic-ai names it, e.g. openai:gpt-5; alone it is agent enough.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; default: ./doorward.toml if it is there.")] = None,
) -> None:
    """Start everything: auth service, door, chat and page.

    It prints a sign-in link, and the two commands that freeze and thaw the auth service. Freeze it, open new tabs, and watch: each
    one gets in, or is told why, before its deadline. Thaw it, and within five seconds all is as before. The ops page shows each
    decision as it is made, and breaks the auth service in nineteen more ways.

    The chat is answered by the warden, which knows this door and has no model. With a key of a provider in the environment, or with
    an agent of your own in agent.py:

        OPENAI_API_KEY=... doorward up --model openai:gpt-5
        doorward up --agent agent:agent

    What it makes is kept in `.doorward`; delete that folder to start afresh. Ctrl-C ends it.
    """
    issuer = f"http://127.0.0.1:{auth_port}"
    secret = secrets.token_urlsafe(32)
    auth = {"url": issuer, "issuer": issuer, "service_secret": secret, "typ": "at+jwt", "revocations": "on"}
    settings = Settings.load(
        config,
        environment=Environment.DEVELOPMENT,
        auth=auth,
        serve={"host": host, "port": port},
        chat=_chosen(agent, model),
    )
    if problem := problem_of(settings.chat):
        raise ConfigError(problem)
    with _log_in(settings.data_dir) as stream:
        writer = configure(level=settings.log_level, style="json", stream=stream)
        process = AuthProcess(settings, secret, issuer, settings.data_dir / "authd.log")

        async def main() -> int:
            return await _up(settings, process, auth_port)

        with traces(settings):
            sys.exit(run_process(main, last=writer.aclose))


def _chosen(agent: str | None, model: str | None) -> dict[str, str]:
    """What the command line says about the agent; nothing, and the settings hold."""
    if model is not None and agent is None:
        agent = "pydantic-ai"
    return {name: value for name, value in {"agent": agent, "agent_model": model}.items() if value is not None}


async def _up(settings: Settings, process: AuthProcess, auth_port: int) -> int:
    """The fault proxy holds the auth service's known port; the service itself is behind it."""
    console = Console()
    if settings.serve.port == auth_port:
        raise ConfigError(
            f"port {auth_port} is that of the page and of the auth service; choose another with --auth-port"
        )
    bind(settings.serve.host, settings.serve.port, "serve").close()
    bind("127.0.0.1", auth_port, "authd", option="--auth-port").close()
    proxy = FaultProxy("127.0.0.1", 0, port=auth_port)
    process.on_ready = proxy.lead_to
    panel = FaultPanel(proxy, token=secrets.token_urlsafe(24), clock=SystemClock())
    try:
        with console.status("Starting the auth service …"):
            await process.start()
            await proxy.start()
            admin = await ensure_user(settings, ADMIN, permissions=("admin", "chat"), generate_password=True)
            codes = [await issue_one_time_code(settings, ADMIN) for _ in range(2)]
        watching = asyncio.create_task(process.watch())
        product = assemble(settings, register=True, fault_hint=lambda: f"kill -STOP {process.pid}", panel=panel)

        def back(port: int) -> None:
            proxy.lead_to(port)
            console.print("\nThe auth service ended, and is back as another process.")
            _commands(console, process)

        process.on_ready = back
        with contextlib.ExitStack() as while_it_runs:

            def ready(host: str, port: int) -> None:
                while_it_runs.enter_context(_told(settings, host, port))
                _welcome(console, settings, process, admin, _Links(host, port, codes, panel.token))

            while_it_runs.callback(watching.cancel)
            return await run(product, settings, ready=ready)
    finally:
        await process.stop()
        await proxy.aclose()


class _Links:
    """The addresses that are printed. Each secret is in the fragment, which a browser sends to nobody."""

    def __init__(self, host: str, port: int, codes: list[str], change_token: str) -> None:
        shown_host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared with, not bound to
        self.page = f"http://{shown_host}:{port}"
        self.sign_in, self.terminal = (f"{self.page}/#signin={code}" for code in codes)
        self.ops = f"{self.page}/ops#change={change_token}"


def _welcome(console: Console, settings: Settings, process: AuthProcess, admin: MadeUser, links: _Links) -> None:
    print_line = partial(console.print, soft_wrap=True, highlight=False)  # never cropped: links and commands are copied
    print_line("\n[bold green]Doorward is up.[/]\n")
    print_line(f"[bold]Open[/]       [link={links.sign_in}]{links.sign_in}[/]")
    print_line("           signs you in once as an admin")
    print_line(f"[bold]Or here[/]    {_program()} chat '{links.terminal}'")
    print_line("           the same chat in a terminal; good once too")
    if admin.password is not None:
        print_line(f"[bold]Or with[/]    {ADMIN}  {escape(admin.password)}   (shown this once)")
    _commands(console, process)
    print_line(f"[bold]Watch[/]      [link={links.ops}]{links.ops}[/]")
    print_line("           each decision as it is made, and nineteen more ways to break the auth service")
    print_line(f"[bold]Agent[/]      {escape(in_words(settings.chat))}")
    print_line(f"[bold]Diagnose[/]   {_program()} doctor --config {settings.data_dir / DOCTOR_FILE}")
    print_line(f"[bold]Metrics[/]    {links.page}/metrics")
    print_line(f"[bold]Decisions[/]  tail -f {settings.data_dir}/doorward.log")
    print_line("[bold]End[/]        Ctrl-C\n")


def _commands(console: Console, process: AuthProcess) -> None:
    for line in (
        f"\n[bold]Freeze[/]     kill -STOP {process.pid}   the auth service stops answering; open new tabs",
        f"[bold]Thaw[/]       kill -CONT {process.pid}   within five seconds all is normal\n",
    ):
        console.print(line, soft_wrap=True, highlight=False)


def _program() -> str:
    """How to call this program: by its plain name, where that leads here and not to another installation."""
    called = Path(sys.argv[0])
    own = called if called.name == "doorward" else Path(sys.executable).with_name("doorward")
    found = shutil.which("doorward")
    if found is not None and own.exists() and own.samefile(found):
        return "doorward"
    return escape(str(called) if called == own else f"{sys.executable} -m doorward")


def _log_in(folder: Path) -> IO[str]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(folder / "doorward.log", "a", encoding="utf-8", opener=_private)
    except OSError as error:
        raise ConfigError(f"data_dir: {folder} cannot be used: {error.strerror}") from error


@contextlib.contextmanager
def _told(settings: Settings, host: str, port: int) -> Iterator[None]:
    """While inside, a file says how the auth service is asked: its secret is made anew at each start, and `doctor` needs it too."""
    file = settings.data_dir / DOCTOR_FILE
    asked = settings.auth.model_dump(
        include={"url", "issuer", "service_id", "audience", "typ", "revocations"}, mode="json"
    )
    if settings.auth.service_secret is not None:
        asked["service_secret"] = settings.auth.service_secret.get_secret_value()
    lines = [f"environment = {json.dumps(settings.environment.value)}"]
    for table, fields in (("auth", asked), ("serve", {"host": host, "port": port})):
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]
    with open(file, "w", encoding="utf-8", opener=_private) as stream:
        stream.write("\n".join(lines) + "\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    """Logs say who was here: for the owner's eyes only."""
    return os.open(path, flags, 0o600)


def _die_with_parent() -> None:
    """Linux: the kernel kills the child when the parent dies, frozen or not."""
    with contextlib.suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
