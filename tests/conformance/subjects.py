"""The servers under test, as processes: with the door and without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from tests.conformance.cases import MAX_MESSAGE_BYTES, Case
from tests.conformance.play import Site, Verdict, verdict
from tests.servers import listening, settings_for

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService

SUBJECTS: Final[Mapping[str, str]] = {
    "`doorward serve`": "serve",
    "uvicorn, with the door": "guarded",
    "uvicorn alone": "bare",
}
ALONE: Final = "uvicorn alone"
AT_ONCE: Final = 4
TURNS: Final = 3
HERE: Final = Path(__file__).parent

Verdicts = dict[str, dict[str, Verdict]]
"""By subject, by case."""


@asynccontextmanager
async def sites(folder: Path) -> AsyncIterator[dict[str, Site]]:
    """All subjects, and the auth service that the doors ask."""
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(FakeAuthService())
        headers = f"Authorization: Bearer {auth.issue('tester')}\r\n"
        starting = {}
        for subject, how in SUBJECTS.items():
            port = str(free_port())
            command = (sys.executable, str(HERE / "echo_app.py"), port, how, str(MAX_MESSAGE_BYTES))
            server = listening(command, port, folder, settings_for(auth, folder / how), folder / f"{how}.log")
            starting[subject] = asyncio.ensure_future(stack.enter_async_context(server))
        yield {subject: Site((await each).port, headers) for subject, each in starting.items()}


async def verdicts(cases: tuple[Case, ...], running: Mapping[str, Site]) -> Verdicts:
    """Every case on every subject, side by side."""
    seen: Verdicts = {subject: {} for subject in running}
    left = iter(cases)

    async def work() -> None:
        for case in left:
            for subject, site in running.items():
                seen[subject][case.name] = await _best(case, site)

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(work())
    return seen


async def _best(case: Case, site: Site) -> Verdict:
    """What the server can do: where it closes while the client still sends, a reset takes the close frame away now and then."""
    best = Verdict.HANG
    for _ in range(TURNS):
        best = min(best, await verdict(case, site))
        if best is Verdict.OK:
            break
    return best


def worse(seen: Verdicts) -> list[str]:
    """The cases in which a server with the door did worse than the one without."""
    alone = seen[ALONE]
    return [
        f"{case} on {subject}: {mine.name}, alone {alone[case].name}"
        for subject, of_subject in seen.items()
        for case, mine in of_subject.items()
        if mine > alone[case]
    ]
