"""`doorward serve`: the chat backend on `/ws`, behind the door."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.adapters.logs import LogWriter, configure
from doorward.asgi.door import Door
from doorward.asgi.middleware import Doorward
from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.chat.app import create_app
from doorward.chat.database import FILE_NAME
from doorward.cli.process import run_process
from doorward.cli.server import DrainHooks, DrainPolicy, run_server
from doorward.cli.tracing import traces
from doorward.config import Environment, Settings
from doorward.ops.metrics import metrics_route
from doorward.ops.opening import OpeningCollector
from doorward.ops.page import ops_routes
from doorward.ops.process import ProcessCollector
from doorward.ops.token import prepare_key
from doorward.web.pages import web_routes

if TYPE_CHECKING:
    from doorward.chat.agents.tools import Drill
    from doorward.ops.faults import FaultPanel

GUARDED_HTTP = ("/api/*", "!/api/config", "!/api/openapi.json")
"""The chat's own requests. What must be known before anybody signs in is in `/api/config`; the interface is no secret."""


@dataclass(frozen=True, slots=True)
class Product:
    """Everything that one process serves."""

    app: Doorward
    door: Door
    hooks: DrainHooks
    opening: OpeningPolicy
    counters: OpeningCounters


def assemble(
    settings: Settings,
    *,
    register: bool | None = None,
    fault_hint: Callable[[], str] | None = None,
    panel: FaultPanel | None = None,
) -> Product:
    """Put the door before the chat, with the pages and `/metrics` beside it.

    Args:
        panel: breaks the way to the auth service; only in `doorward up`.

    Raises:
        ConfigError: the settings cannot work.
    """
    door = Door(settings)
    counters = OpeningCounters()
    door.metrics.registry.register(OpeningCollector(counters))
    door.metrics.registry.register(ProcessCollector())
    metrics = metrics_route(door.metrics.registry, token=settings.serve.metrics_token)
    ops = ops_routes(door, key=prepare_key(settings.data_dir), panel=panel)
    chat = create_app(
        settings,
        insight=door.insight,
        ready=lambda: door.ready,
        web_routes=(metrics, *ops, *web_routes()),
        registry=door.metrics.registry,
        drill=_drill(settings),
        register=register,
        fault_hint=fault_hint,
        data_file=settings.chat.file or settings.data_dir / FILE_NAME,
    )
    hooks = DrainHooks(unready=door.turn_away, drain=door.drain, finish=chat.state.chat.drain)
    guarded = settings.model_copy(update={"protect_http": (*settings.protect_http, *GUARDED_HTTP)})
    return Product(Doorward(chat, guarded, door=door), door, hooks, OpeningPolicy.of(settings), counters)


def _drill(settings: Settings) -> Drill | None:
    """Where real users are, nobody plays with the machine from the chat."""
    if settings.environment is Environment.PRODUCTION:
        return None
    from doorward.cli.drill_process import DrillProcess

    return DrillProcess()


async def run(product: Product, settings: Settings, *, ready: Callable[[str, int], None] | None = None) -> int:
    return await run_server(
        product.app,
        name="serve",
        host=settings.serve.host,
        port=settings.serve.port,
        opening=product.opening,
        counters=product.counters,
        drain=DrainPolicy.of(settings.serve),
        hooks=product.hooks,
        ready=ready,
    )


def logging_of(settings: Settings) -> LogWriter:
    return configure(level=settings.log_level, style=settings.log_format)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; default: ./doorward.toml if it is there.")] = None,
) -> None:
    """Serve the chat backend on /ws, behind the door.

    It needs an auth service: DOORWARD_AUTH__URL and DOORWARD_AUTH__SERVICE_SECRET, or the same in doorward.toml. `doorward authd`
    is one; `doorward up` starts both. Who answers in the chat is said by DOORWARD_CHAT__AGENT. Prints one line when it is ready:

        doorward serve ready http://127.0.0.1:8000 pid=4242

    SIGTERM drains: /readyz says no, sockets are closed with 1012 and advice on when to come back, runs get to their end, exit
    within 30 seconds. A second signal exits at once.
    """
    given = {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
    settings = Settings.load(config, **({"serve": given} if given else {}))
    writer = logging_of(settings)

    async def main() -> int:
        return await run(assemble(settings), settings)

    with traces(settings):
        sys.exit(run_process(main, last=writer.aclose))
