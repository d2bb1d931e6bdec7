"""Where a play takes place: a door, an auth service, and what breaks the way between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from doorward.drill.door_process import DoorProcess
from doorward.drill.faults import TROUBLES, Trouble
from doorward.drill.purse import Purse
from doorward.drill.scenarios import Scenario
from doorward.testing import (
    DnsFault,
    Endpoint,
    FakeAuthService,
    Fault,
    FaultDns,
    FaultKind,
    FaultProxy,
    eventually,
    throwaway_tls,
)

NAME = "auth.drill.test"
SETTLE_SECONDS = 10.0
IDLE_SECONDS = 0.4
"""So often idle connections are cut while a name is lost. The door looks for a name again after a second at the earliest."""


class Stage:
    """All that a scenario needs, from `set` to its end. The door is made there, and started by the player.

    Args:
        folder: an empty one, for the door's data and log.
        seed: decides what the proxy draws.
        command: how the door is started.
        warm: where that is done faster; see `DoorProcess`.
    """

    auth: FakeAuthService
    proxy: FaultProxy
    dns: FaultDns
    purse: Purse
    door: DoorProcess

    def __init__(
        self, scenario: Scenario, folder: Path, *, seed: int, command: Sequence[str], warm: Path | None = None
    ) -> None:
        self._scenario = scenario
        self._folder = folder
        self._seed = seed
        self._command = command
        self._warm = warm
        self._trouble = TROUBLES[scenario.trouble] if scenario.trouble is not None else None
        self._waves: asyncio.Task[None] | None = None
        self._met_before = 0

    @asynccontextmanager
    async def set(self) -> AsyncIterator[None]:
        """Start all but the door.

        Cancellation: everything is stopped; the door is the player's.
        """
        secure = self._trouble is not None and self._trouble.tls
        async with AsyncExitStack() as stack:
            tls = await asyncio.to_thread(throwaway_tls) if secure else None
            self.auth = await stack.enter_async_context(FakeAuthService(ssl_context=tls.server if tls else None))
            self.proxy = await stack.enter_async_context(FaultProxy(self.auth.host, self.auth.port, seed=self._seed))
            self.dns = await stack.enter_async_context(FaultDns({NAME: ["127.0.0.1"]}, ttl_seconds=1))
            self.purse = Purse(self.auth)
            settings = self._settings(secure=secure)
            if tls is not None:
                ca_file = self._folder / "ca.pem"
                await asyncio.to_thread(ca_file.write_bytes, tls.ca_pem)
                settings["auth.ca_file"] = ca_file
            if not self._scenario.keyset:
                self.auth.answer_with(503, endpoint=Endpoint.JWKS)
            self.door = DoorProcess(self._folder, settings, command=self._command, warm=self._warm)
            if not self._scenario.starts_well and self._trouble is not None:
                self.strike(self._trouble)
            stack.callback(self._calm)
            yield

    def _settings(self, *, secure: bool) -> dict[str, Any]:
        auth = self.auth
        named = self._trouble is not None and self._trouble.dns is not None
        settings: dict[str, Any] = {
            "auth.url": f"{'https' if secure else 'http'}://{NAME if named else '127.0.0.1'}:{self.proxy.port}",
            "auth.issuer": auth.issuer,
            "auth.audience": auth.audience,
            "auth.service_id": auth.service_id,
            "auth.service_secret": auth.service_secret,
            "degrade.mode": "local_jwt",
            "deadline_seconds": self._scenario.rules.deadline_seconds,
        }
        if named:
            settings |= {"auth.dns_servers": self.dns.address, "environment": "staging"}
        return settings | dict(self._scenario.settings)

    async def settle(self) -> None:
        """Wait until everything that runs in the background of the door has been heard from once.

        Raises:
            AssertionError: it was not, for `SETTLE_SECONDS`.
        """
        calls = self.auth.calls
        await eventually(
            lambda: calls[Endpoint.VALIDATE] >= 1 and calls[Endpoint.JWKS] >= 1 and calls[Endpoint.REVOCATIONS] >= 2,
            within_seconds=SETTLE_SECONDS,
            what="the door has heard from the auth service",
        )

    def strike(self, trouble: Trouble) -> None:
        """The fault begins."""
        self._met_before = self._met(trouble)
        if trouble.cut_first:
            self.proxy.fault = Fault.RESET
        if trouble.dns is not None:
            self.dns.fault = trouble.dns
            self._waves = asyncio.create_task(self._cut_idle())
        if trouble.waves:
            self._waves = asyncio.create_task(self._wave(trouble))
        self.proxy.fault = trouble.fault

    def mend(self) -> int:
        """The fault ends. How often was it met?"""
        self._calm()
        met = self._met(self._trouble) - self._met_before if self._trouble is not None else 0
        self.dns.fault = DnsFault.NONE
        self.proxy.fault = Fault.NONE
        return met

    def _met(self, trouble: Trouble) -> int:
        """How often something came by where this fault is."""
        counts = self.proxy.counts
        if trouble.dns is not None:
            return self.dns.total
        if (
            trouble.fault.kind is FaultKind.STALE_KEEP_ALIVE
        ):  # it strikes a further request on a connection, not the first
            return counts.requests - counts.connections
        return (
            counts.requests + counts.connections if trouble.waves else counts.requests
        )  # a reset comes before any request

    async def _wave(self, trouble: Trouble) -> None:
        while True:
            for fault, seconds in trouble.waves:
                self.proxy.fault = fault
                await asyncio.sleep(seconds)

    async def _cut_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            self.proxy.cut_idle()

    def _calm(self) -> None:
        if self._waves is not None:
            self._waves.cancel()
            self._waves = None
