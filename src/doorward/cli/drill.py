"""`doorward drill`: break the auth service in every way there is, and judge what the door makes of it."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from doorward.cli.drill_options import refuse_contradictions
from doorward.cli.drill_tables import print_comparison, print_list, tell
from doorward.cli.evidence import check_writable, keep
from doorward.drill.beside import as_scenarios, split
from doorward.drill.catalogue import chosen, every_scenario
from doorward.drill.compare import compared, in_common
from doorward.drill.door_process import COMMAND
from doorward.drill.outside import Target, judged
from doorward.drill.outside_trial import Door
from doorward.drill.peers import OURS_TOO, RIVALS
from doorward.drill.report import page
from doorward.drill.results import Column, DrillResult, ScenarioResult
from doorward.drill.runner import Plan, now, run, summed_up
from doorward.drill.seen import counted, in_trouble, longest, waited
from doorward.drill.targets import Targets
from doorward.drill.versus import measure_all
from doorward.errors import UsageError

MAX_FILE_BYTES = 256 << 20


def drill(
    context: typer.Context,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Just this scenario, family or pattern ('silence*'); may be repeated. See --list."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The few that stand for the rest; under a minute.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Print the scenarios and stop.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the order of crowds and what the proxies draw.")] = 1,
    jobs: Annotated[int, typer.Option(help="Scenarios at once; 0: three a processor.", min=0, max=64)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement to this file.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write the report to this file: one page.")] = None,
    baseline: Annotated[
        bool,
        typer.Option("--baseline", help="Play the faults against the old way, nginx and Envoy too: some minutes more."),
    ] = False,
    prometheus_targets: Annotated[
        Path | None,
        typer.Option(help="Keep the addresses of the doors in this file, for Prometheus' file_sd_configs."),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two JSON files instead of playing anything.")
    ] = None,
    max_ratio: Annotated[
        float, typer.Option(help="With --compare: the second may be this many times slower.", min=1.0)
    ] = 2.0,
    target: Annotated[
        str | None, typer.Option(help="Judge the door at this ws:// or wss:// URL, whoever wrote it; see above.")
    ] = None,
    auth_upstream: Annotated[
        str | None, typer.Option(help="With --target: the auth service that its door asks, http(s)://HOST:PORT.")
    ] = None,
    listen_port: Annotated[
        int, typer.Option(help="With --target: the port of the fault proxy.", min=0, max=65535)
    ] = 8901,
    token_file: Annotated[
        Path | None, typer.Option(help="With --target: good tokens, one a line, best one for each handshake.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="With --target: seconds in which it promises an answer.")] = 2.0,
    door_command: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Break the auth service in every way there is, and judge what the door makes of it.

    Starts a door, a stand-in for the auth service and fault proxies between them, opens real WebSockets, and holds every answer
    against the rules: in time, the right word, nobody in without proof, well again within 5 s of the repair, nothing leaked.
    The exit status is 0 only if all of it holds.

        doorward drill --quick
        doorward drill --html drill.html --json drill.json
        doorward drill --only silence --only reconnect-storm

    With --target it judges a door that it did not start, by what clients see. Point that door's auth service at the fault proxy
    (http://127.0.0.1:8901 unless --listen-port says otherwise); the proxy passes everything on to --auth-upstream. Faults,
    clients at fault and crowds are played one after the other.

        doorward drill --target ws://127.0.0.1:8000/ws --auth-upstream http://127.0.0.1:9000 --token-file tokens --quick
    """
    if listing:
        print_list(every_scenario())
        return
    refuse_contradictions(_given(context), only or [])
    if compare is not None:
        _compare(compare, max_ratio)
        return
    check_writable(json_file, html_file)
    began, begun = now()
    targets = None if prometheus_targets is None else Targets(prometheus_targets)
    if target is not None:
        there = _target(target, auth_upstream, listen_port, token_file, deadline, only or [], seed, quick=quick)
        results = _play_target(there)
    else:
        own, faults = split(only or []) if baseline else (only or [], ())
        if baseline and not faults:
            raise UsageError(f"no fault that other doors are measured in is called {', '.join(only or [])}; see --list")
        scenarios = chosen(own, quick=quick) if own or not only else ()
        results = _play(Plan(scenarios, seed, jobs, _command(door_command), targets))
        results += _play_others(faults, seed, targets) if faults else []
    outcome = summed_up(
        results,
        command=shlex.join(["doorward", *sys.argv[1:]]),
        began=began,
        seconds=now()[1] - begun,
        seed=seed,
        target=target or "doorward serve",
    )
    try:
        _keep(outcome, json_file, html_file)
    finally:
        tell(outcome)
    raise typer.Exit(0 if outcome.held else 1)


def _given(context: typer.Context) -> Collection[str]:
    """The options that stand on the command line, whatever their values."""
    sources = {
        parameter.opts[0]: context.get_parameter_source(parameter.name or "") for parameter in context.command.params
    }
    return {option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _keep(outcome: DrillResult, json_file: Path | None, html_file: Path | None) -> None:
    contents: dict[Path, Callable[[], bytes]] = {}
    if json_file is not None:
        contents[json_file] = lambda: msgspec.json.format(msgspec.json.encode(outcome), indent=1)
    if html_file is not None:
        contents[html_file] = lambda: page(outcome).encode()
    keep(contents)


def _command(given: str | None) -> Sequence[str]:
    return shlex.split(given) if given else COMMAND


def _compare(files: tuple[Path, Path], max_ratio: float) -> None:
    before, after = (_read(file) for file in files)
    if not in_common(before, after):
        raise UsageError(
            f"{files[0]} and {files[1]} have no scenario in common, so there is nothing to compare: "
            "make both with the same --only, --quick, --baseline and --target"
        )
    rows = compared(before, after, max_ratio=max_ratio)
    print_comparison(rows, (files[0].name, files[1].name), max_ratio)
    raise typer.Exit(0 if all(row.held for row in rows) else 1)


def _read(file: Path) -> DrillResult:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(f"{file} is larger than a drill can be")
        return msgspec.json.decode(file.read_bytes(), type=DrillResult)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{file} is no result of a drill: {error}") from error


def _target(
    url: str,
    upstream: str | None,
    port: int,
    token_file: Path | None,
    deadline: float,
    only: Sequence[str],
    seed: int,
    *,
    quick: bool,
) -> Target:
    if upstream is None or token_file is None:
        raise UsageError("--target needs --auth-upstream (the auth service) and --token-file (good tokens, one a line)")
    try:
        tokens = [line.strip() for line in token_file.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{token_file} cannot be read: {error}") from error
    return Target(Door(url, tokens, deadline), upstream, port, only, seed, quick)


def _play_target(target: Target) -> list[ScenarioResult]:
    view = _View(len(target.scripts))
    with view.live:
        return _played(judged(target, view.progress))


def _play(plan: Plan) -> list[ScenarioResult]:
    view = _View(len(plan.scenarios))
    with view.live:
        return _played(run(plan, view.progress))


def _play_others(faults: Sequence[str], seed: int, targets: Targets | None) -> list[ScenarioResult]:
    rivals = (OURS_TOO, *RIVALS)
    view = _View(len(rivals) * len(faults), "doors")

    def progress(fault: str, column: Column) -> None:
        view.tell("seen  ", f"{fault}: {column.name}", _in_short(column))

    async def measure() -> list[ScenarioResult]:
        measured = await measure_all(faults=faults, rivals=rivals, seed=seed, progress=progress, targets=targets)
        return as_scenarios(measured)

    with view.live:
        return _played(measure())


def _played(playing: Coroutine[Any, Any, list[ScenarioResult]]) -> list[ScenarioResult]:
    """SIGTERM ends it as Ctrl-C does: what it started is ended first. A shell's background job hears nothing of Ctrl-C."""

    async def until_told_to_end() -> list[ScenarioResult]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is one
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await playing

    try:
        return asyncio.run(until_told_to_end())
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


def _in_short(column: Column) -> str:
    samples = in_trouble(column.samples)
    if not samples:
        return f"not tried: {column.why_not}"
    return f"{', '.join(counted(samples))}, the longest wait {waited(longest(samples))}"


class _View:
    """What goes on now, on the terminal; on anything else a line for each result."""

    def __init__(self, number: int, what: str = "scenarios") -> None:
        self._out = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._what = what
        self._number = number
        self._done = self._failed = 0
        self._doing: dict[str, str] = {}
        self.live = Live(console=self._out, refresh_per_second=8, transient=True, get_renderable=self._shown)

    def progress(self, name: str, news: str | ScenarioResult) -> None:
        if isinstance(news, str):
            self._doing[name] = news
            return
        self._doing.pop(name, None)
        self._done += 1
        self._failed += not news.held
        mark = Text("held  ", "green") if news.held else Text("FAILED", "bold red")
        self._out.print(mark, name, f"{news.seconds:.1f} s", soft_wrap=True)

    def tell(self, mark: str, name: str, news: str) -> None:
        """One more of what is only looked at."""
        self._done += 1
        self._out.print(mark, name, news, soft_wrap=True)

    def _shown(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        total = f" of {self._number}" if self._number else ""
        table.add_row(Text(f"{self._done}{total} {self._what} done, {self._failed} failed", "bold"), "")
        for name, step in self._doing.items():
            table.add_row(name, Text(step, "dim"))
        return table
