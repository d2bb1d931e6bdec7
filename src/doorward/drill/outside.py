"""Judges a door that we did not write, by what its clients see. The fault proxy stands before its auth service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from doorward.drill.clients import Dialer
from doorward.drill.outside_plays import scripts
from doorward.drill.outside_trial import Door, Script, Trial
from doorward.drill.relay import plain_address
from doorward.drill.results import Kind, Outcome, Phase, ScenarioResult
from doorward.drill.worker import null_server
from doorward.errors import UsageError
from doorward.testing import FaultProxy

LOOK_SECONDS = 0.5

Progress = Callable[[str, str | ScenarioResult], None]


@dataclass(frozen=True, slots=True)
class Target:
    """A running door and the auth service that it asks, through our proxy on `port`."""

    door: Door
    upstream: str
    port: int
    only: Sequence[str] = ()
    seed: int = 0
    quick: bool = False
    """Only the few scenarios that stand for the rest."""
    comes_round_seconds: float = 40.0
    """Until then it lets people in again: the proxy is there only since the drill began."""

    def check(self) -> None:
        """
        Raises:
            UsageError: it cannot be judged like this.
        """
        if urlsplit(self.door.url).scheme not in {"ws", "wss"}:
            raise UsageError("--target is a ws:// or wss:// URL")
        parts = urlsplit(self.upstream)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError("--auth-upstream is an http:// or https:// URL")
        if parts.path.strip("/") or parts.query:
            raise UsageError(
                "--auth-upstream is a scheme, a host and a port: paths come from the door, so put yours into its settings"
            )
        if not self.door.tokens:
            raise UsageError("--token-file is empty")

    @property
    def scripts(self) -> Sequence[Script]:
        """Those that can be played on it, and were asked for.

        Raises:
            UsageError: a pattern matches none of them.
        """
        able = [script for script in scripts(self.door.url) if script.quick or not self.quick]
        names = ", ".join(script.name for script in able)
        for pattern in self.only:
            if not any(_meant(script, pattern) for script in able):
                raise UsageError(f"nothing that can be played on a target is called {pattern!r}; there are {names}")
        return [script for script in able if not self.only or any(_meant(script, one) for one in self.only)]


def _meant(script: Script, pattern: str) -> bool:
    return fnmatchcase(script.name, pattern) or script.family == pattern


async def judged(target: Target, progress: Progress) -> list[ScenarioResult]:
    """Play one scenario after the other.

    Raises:
        UsageError: the target cannot be judged, or does not let a good token in while all is well.

    Cancellation: the proxy is closed; the target is left as it is.
    """
    target.check()
    results = []
    async with _proxy(target) as proxy, null_server() as null_url:
        await _until_it_lets_in(target, proxy)
        for script in target.scripts:
            progress(script.name, "playing")
            trial = Trial(target.door, script, proxy, null_url=null_url, seed=target.seed)
            results.append(await trial.run())
            progress(script.name, results[-1])
    return results


@asynccontextmanager
async def _proxy(target: Target) -> AsyncIterator[FaultProxy]:
    async with plain_address(target.upstream) as (host, port):
        proxy = FaultProxy(host, port, seed=target.seed, port=target.port)
        try:
            await proxy.start()
        except OSError as error:
            raise UsageError(
                f"the fault proxy cannot listen on port {target.port}: {error.strerror}; choose another with --listen-port, "
                "and point the door's auth service at it"
            ) from error
        try:
            yield proxy
        finally:
            await proxy.aclose()


async def _until_it_lets_in(target: Target, proxy: FaultProxy) -> None:
    loop = asyncio.get_running_loop()
    door = target.door
    dialer = Dialer(door.url, began=loop.time(), give_up_seconds=door.deadline_seconds * 2)
    ends_at = loop.time() + target.comes_round_seconds
    number = 0
    while True:
        sample = await dialer.ask(Phase.HEALTHY, Kind.JWT, door.tokens[number % len(door.tokens)])
        if sample.outcome is Outcome.ALLOW and not sample.degraded and proxy.counts.connections:
            return
        if loop.time() >= ends_at:
            break
        number += 1
        await asyncio.sleep(LOOK_SECONDS)
    if sample.outcome is Outcome.ALLOW and not proxy.counts.connections:
        raise UsageError(f"{door.url} lets people in and asks nobody at {proxy.url}: set its auth service to that")
    raise UsageError(
        f"{door.url} lets none of the tokens in while all is well; is its auth service set to {proxy.url}, and are the tokens good?"
    )
